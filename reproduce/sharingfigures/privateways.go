package sharingfigures

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/seal"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/reproduce/sharingfigures/streamsearch"
)

// runLoose is the product's own exchange.
func (t *trial) runLoose(ctx context.Context) (measurement, error) {
	began := time.Now()
	text := fmt.Sprintf("out dst=%s proto=%d dport=%d", t.asked.Addr, t.asked.Proto, t.asked.DPort)
	p, err := pattern.Parse(text, pattern.FromDisk)
	if err != nil {
		return measurement{}, err
	}
	q, err := detective.New(detective.Configuration{
		Mode: dossier.OPRF, Hash: t.hash, Style: detective.SelfDescribing, Window: flow.AllTime, Epoch: "trial", Quorum: 1,
	}, p)
	if err != nil {
		return measurement{}, err
	}
	o := measurement{
		name: "loose matching (this program)", rows: len(t.log), prepare: time.Since(began), question: len(q.Question()),
		witness: "mask, and a key that many tuples share", detective: "the hosts that match; how many tuples collide",
	}
	w, err := witness.New(witness.DefaultConfiguration(), "w", t.log, nil)
	if err != nil {
		return measurement{}, err
	}
	began = time.Now()
	sealed, _, err := w.Answer(ctx, q.Question())
	if err != nil {
		return measurement{}, err
	}
	o.perRows, o.once, o.answer = t.hashed, max(0, time.Since(began)-t.hashed), len(sealed)
	if _, err := q.OpenTestimony(ctx, "w", sealed); err != nil {
		return measurement{}, err
	}
	for _, h := range q.Result().Hosts {
		o.found += int(h.Flows)
	}
	return o, t.checkFound(o, t.flows)
}

// tagBytes is the size of a tuple's tag in the intersections: false matches
// are as likely as guessing 128 bits.
const tagBytes = 16

func makeTag(secret []byte) (out [tagBytes]byte) {
	sum := sha256.Sum256(secret)
	copy(out[:], sum[:])
	return out
}

// intersectSets is private set intersection by OPRF (RFC 9497): the witness returns
// the function's value at the blinded tuple, and tags of all tuples offered.
func (t *trial) intersectSets(offered func() []key.Tuple) (o measurement, err error) {
	began := time.Now()
	blinded, err := seal.Blind(t.asked)
	if err != nil {
		return o, err
	}
	o.prepare, o.question = time.Since(began), len(blinded.Element)
	k, err := seal.NewWitnessKey()
	if err != nil {
		return o, err
	}
	began = time.Now()
	evaluated, err := k.Evaluate(blinded.Element)
	if err != nil {
		return o, err
	}
	var tags [][tagBytes]byte
	for _, tuple := range offered() {
		secret, err := k.Secret(tuple)
		if err != nil {
			return o, err
		}
		tags = append(tags, makeTag(secret))
	}
	o.perRows, o.answer = time.Since(began), len(evaluated)+tagBytes*len(tags)
	secret, err := blinded.Secret(evaluated)
	if err != nil {
		return o, err
	}
	mine := makeTag(secret)
	for _, theirs := range tags {
		if theirs == mine {
			o.found++
		}
	}
	return o, nil
}

// intersectBucket offers only the tuples whose key was asked for.
func (t *trial) intersectBucket(context.Context) (measurement, error) {
	want := t.keyer.Tuple(t.asked)
	o, err := t.intersectSets(func() []key.Tuple {
		seen := map[key.Tuple]bool{}
		var in []key.Tuple
		for i := range t.log {
			if k, ok := t.keyer.Flow(&t.log[i]); !ok || k != want {
				continue
			}
			if tuple, _ := t.mask.Tuple(&t.log[i], key.Out); !seen[tuple] {
				seen[tuple] = true
				in = append(in, tuple)
			}
		}
		return in
	})
	o.name, o.rows, o.question = "exact intersection inside the key's bucket", len(t.log), o.question+8
	o.witness, o.detective = "mask, and a key that many tuples share", "whether the tuple was seen; how many collide"
	o.perRows, o.once = t.hashed, max(0, o.perRows-t.hashed)
	if err == nil {
		err = t.checkFound(o, 1)
	}
	return o, err
}

// intersectWhole offers every tuple of the log. Only some are evaluated,
// including the one asked about; time and bytes are per tuple, so the row is
// scaled to all.
func (t *trial) intersectWhole(context.Context) (measurement, error) {
	offered := []key.Tuple{t.asked}
	for _, tuple := range t.tuples {
		if len(offered) >= t.size.evaluated {
			break
		}
		if tuple != t.asked {
			offered = append(offered, tuple)
		}
	}
	o, err := t.intersectSets(func() []key.Tuple { return offered })
	if err != nil {
		return o, err
	}
	n := len(offered)
	o.perRows = time.Duration(float64(o.perRows) * float64(len(t.tuples)) / float64(n))
	o.name, o.rows = "exact intersection with the whole log", len(t.log)
	o.answer += tagBytes * (len(t.tuples) - n)
	o.witness, o.detective = "mask", "whether the tuple was seen; how many tuples the log has"
	return o, t.checkFound(o, 1)
}

// searchPrivately is private stream searching over a small dictionary of keys.
func (t *trial) searchPrivately(ctx context.Context) (measurement, error) {
	entry := func(tuple key.Tuple) int { return int(uint64(t.keyer.Tuple(tuple)) % uint64(t.size.dictionary)) }
	began := time.Now()
	s, err := streamsearch.NewSearcher(t.size.keyBits, t.size.dictionary, entry(t.asked))
	if err != nil {
		return measurement{}, err
	}
	o := measurement{
		name: fmt.Sprintf("private stream search (Paillier, %d entries)", t.size.dictionary), prepare: time.Since(began),
		witness: "mask", detective: "all records of one entry; nothing of others", question: s.Query.Bytes(),
	}
	sample := t.sampleAround(t.size.filtered)
	// With 24 slots a match, each of three copies is alone with probability
	// 7/8.
	answer := s.Query.NewAnswer(24*(t.flows+len(sample)/t.size.dictionary+4), 1)
	began = time.Now()
	for i := range sample {
		if err := ctx.Err(); err != nil {
			return o, err
		}
		tuple, _ := t.mask.Tuple(&sample[i], key.Out)
		answer.Filter(&s.Query, streamsearch.Record{Entry: entry(tuple), Payload: t.makePayload(&sample[i], tuple)})
	}
	o.perRows, o.rows, o.answer = time.Since(began), len(sample), answer.Bytes()
	fingerprint := t.makePayload(&sample[0], t.asked)
	for _, p := range s.Open(answer) {
		if [4]byte(p[8:]) == [4]byte(fingerprint[8:]) {
			o.found++
		}
	}
	return o, t.checkFound(o, t.flows)
}

// sampleAround is every flow of the tuple asked about among n flows.
func (t *trial) sampleAround(n int) rowLog {
	var out, other rowLog
	for i := range t.log {
		if tuple, _ := t.mask.Tuple(&t.log[i], key.Out); tuple == t.asked {
			out = append(out, t.log[i])
		} else if len(other) < n-t.flows {
			other = append(other, t.log[i])
		}
	}
	return append(out, other...)
}

// makePayload is X, the time in steps of 100 µs modulo five days, and a fingerprint
// of the tuple, by which the asker distinguishes its records from others of the same entry.
func (t *trial) makePayload(f *flow.Flow, tuple key.Tuple) (p [12]byte) {
	x := f.Orig.As4()
	copy(p[:], x[:])
	binary.BigEndian.PutUint32(p[4:], uint32(int64(f.Start)/int64(100*time.Microsecond)))
	b, _ := tuple.AppendBinary(nil) // cannot fail
	sum := sha256.Sum256(b)
	copy(p[8:], sum[:4])
	return p
}

// checkFound makes sure that each method gives the right answer before its time
// is compared.
func (t *trial) checkFound(o measurement, want int) error {
	if o.found != want {
		return fmt.Errorf("%s found %d of %d", o.name, o.found, want)
	}
	return nil
}
