package sharingfigures

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/reproduce/report"
)

// unicast is how many addresses a reader holds possible who learns nothing.
const unicast = 224 << 24

// askOtherwise asks the same tuples in other ways.
func (m *modes) askOtherwise(ctx context.Context) (all []mode, err error) {
	for _, way := range []struct {
		name, beyond, crack string
		most                int
		ask                 func(context.Context, key.Tuple) (sample, error)
	}{
		{
			fmt.Sprintf("exact intersection in a bucket of linear, %d bits", m.hash.Bits), "tags, and no hosts", "not at leisure: each guess needs the witness",
			m.size.questions, m.askBucket,
		},
		{"exact intersection with the whole log", "tags, and no hosts", "not at leisure: each guess needs the witness", 2, m.askWhole},
		{fmt.Sprintf("private stream search, %d entries", m.size.trial.dictionary), "records of the same entry", "no answer is sent that is not asked for", 2, m.askStream},
		{fmt.Sprintf("k-anonymous prefix of SHA-256, %d bits", m.hash.Bits), "tuples with hosts in clear", "nothing to crack: all are in clear", m.size.questions, m.askPrefix},
	} {
		m.env.Progress("mode", 1)
		row := mode{name: way.name, beyond: way.beyond, crack: way.crack}
		for _, tuple := range m.asked[:min(way.most, len(m.asked))] {
			m.trial.asked, m.trial.flows = tuple, m.flows[tuple]
			s, err := way.ask(ctx, tuple)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
			row.samples = append(row.samples, s)
		}
		all = append(all, row)
	}
	for _, threshold := range []int{2, 3} {
		m.env.Progress("mode", 1)
		row := mode{
			name:   fmt.Sprintf("intersection of 4 parties over a threshold of %d, %d elements each; nobody asks", threshold, m.size.elements),
			beyond: "elements shared by enough parties, asked for or not", crack: "an aggregator with any one party: one HMAC a guess",
		}
		for range 2 {
			s, err := m.intersectParties(threshold)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", row.name, err)
			}
			row.samples = append(row.samples, s)
		}
		all = append(all, row)
	}
	return all, nil
}

// measure runs a way of the older comparison and measures the processor time of both.
func (m *modes) measure(run func() (measurement, error)) (s sample, err error) {
	wall, began := time.Now(), cpuTime()
	o, err := run()
	if err != nil {
		return s, err
	}
	s.latency, s.question, s.answer, s.asker = time.Since(wall), o.question, o.answer, o.prepare
	s.witness = max(0, cpuTime()-began-o.prepare)
	return s, nil
}

func (m *modes) askBucket(ctx context.Context, tuple key.Tuple) (s sample, err error) {
	if s, err = m.measure(func() (measurement, error) { return m.intersectBucket(ctx) }); err != nil {
		return s, err
	}
	want := m.keyer.Tuple(tuple)
	for _, other := range m.tuples {
		if m.keyer.Tuple(other) == want {
			s.own++
		}
	}
	s.beyond = s.own - 1
	p, err := pattern.Parse(fmt.Sprintf("out dst=%s proto=%d dport=%d", tuple.Addr, tuple.Proto, tuple.DPort), pattern.NoFiles)
	if err != nil {
		return s, err
	}
	c := detective.Configuration{Mode: dossier.OPRF, Hash: m.hash, Style: detective.SelfDescribing, Window: flow.AllTime, Epoch: "2026-11-22", Quorum: 1}
	q, err := detective.New(c, p)
	if err != nil {
		return s, err
	}
	s.reader, s.repeated, err = m.attack(c, p, q, tuple)
	return s, err
}

// askWhole evaluates some of the tuples; bytes and time are scaled to all.
func (m *modes) askWhole(ctx context.Context, _ key.Tuple) (s sample, err error) {
	var o measurement
	s, err = m.measure(func() (measurement, error) { o, err = m.intersectWhole(ctx); return o, err })
	s.witness, s.latency = o.perRows, o.prepare+o.perRows
	s.reader, s.repeated, s.own, s.beyond = unicast, unicast, float64(len(m.tuples)), float64(len(m.tuples)-1)
	return s, err
}

// askStream filters some of the rows; time is scaled to all.
func (m *modes) askStream(ctx context.Context, tuple key.Tuple) (s sample, err error) {
	var o measurement
	s, err = m.measure(func() (measurement, error) { o, err = m.searchPrivately(ctx); return o, err })
	if err != nil {
		return s, err
	}
	s.witness = time.Duration(float64(o.perRows) * float64(len(m.log)) / float64(o.rows))
	s.latency = o.prepare + s.witness
	entry := func(t key.Tuple) uint64 { return uint64(m.keyer.Tuple(t)) % uint64(m.size.trial.dictionary) }
	for _, f := range m.sampleAround(m.size.trial.filtered) {
		if t, _ := m.mask.Tuple(&f, key.Out); t != tuple && entry(t) == entry(tuple) {
			s.beyond++
		}
	}
	s.reader, s.repeated, s.own = unicast, unicast, float64(len(m.tuples))
	return s, nil
}

// askPrefix sends the first bits of a public hash of the tuple, and is sent all tuples
// that begin alike, with their hosts, in clear: as passwords are looked up at Have I Been
// Pwned. What is left to a reader follows from the bits: there are no salts.
func (m *modes) askPrefix(_ context.Context, tuple key.Tuple) (s sample, err error) {
	prefix := func(t key.Tuple) (uint64, error) {
		b, err := t.AppendBinary(nil)
		sum := sha256.Sum256(b)
		return binary.BigEndian.Uint64(sum[:]) >> (64 - m.hash.Bits), err
	}
	wall, began := time.Now(), cpuTime()
	want, err := prefix(tuple)
	if err != nil {
		return s, err
	}
	s.asker, s.question = cpuTime()-began, (int(m.hash.Bits)+7)/8
	began = cpuTime()
	hosts := map[key.Tuple]map[[4]byte]bool{}
	for i := range m.log {
		t, ok := m.mask.Tuple(&m.log[i], key.Out)
		if !ok {
			continue
		}
		if got, err := prefix(t); err != nil || got != want {
			continue
		}
		if hosts[t] == nil {
			hosts[t] = map[[4]byte]bool{}
		}
		hosts[t][m.log[i].Orig.As4()] = true
	}
	s.witness, s.latency = cpuTime()-began, time.Since(wall)
	if len(hosts[tuple]) == 0 {
		return s, fmt.Errorf("the tuple asked about is not in the answer")
	}
	for t, some := range hosts {
		b, err := t.AppendBinary(nil)
		if err != nil {
			return s, err
		}
		s.answer += len(b) + 4*len(some)
	}
	s.own, s.beyond = float64(len(hosts)), float64(len(hosts)-1)
	s.reader = math.Round(unicast / math.Exp2(float64(m.hash.Bits)))
	s.repeated = s.reader
	return s, nil
}

// intersectParties deals the log's rows to four parties, each of which wants to know
// which of its responders others have too.
func (m *modes) intersectParties(threshold int) (s sample, err error) {
	const parties = 4
	sets, having := make([][][]byte, parties), map[string]int{}
	seen := make([]map[string]bool, parties)
	for i := range m.log {
		p, a := i%parties, m.log[i].Resp.AsSlice()
		if seen[p] == nil {
			seen[p] = map[string]bool{}
		}
		if !seen[p][string(a)] && len(sets[p]) < m.size.elements {
			seen[p][string(a)] = true
			sets[p] = append(sets[p], a)
			having[string(a)]++
		}
	}
	g := newThresholdGroup(threshold, m.size.elements)
	// All bins have one size, of which the chance of an overflow is small.
	average := float64(m.size.elements) / float64(g.bins)
	size := int(average + 6*math.Sqrt(average) + 4)
	wall, began := time.Now(), cpuTime()
	shares := make([]share, parties)
	for p := range sets {
		var fits bool
		if shares[p], fits = g.share(uint64(p+1), sets[p], size); !fits {
			return s, fmt.Errorf("a bin overflows")
		}
	}
	s.asker, s.answer = (cpuTime()-began)/parties, 8*g.bins*size
	began = cpuTime()
	matches := g.matches(shares)
	s.witness, s.latency = cpuTime()-began, time.Since(wall)
	for p := range sets {
		found := map[string]bool{}
		for at := range matches[p] {
			if i := shares[p].own[at[0]][at[1]]; i >= 0 {
				found[string(sets[p][i])] = true
			}
		}
		for _, e := range sets[p] {
			if found[string(e)] != (having[string(e)] >= threshold) {
				return s, fmt.Errorf("party %d: %v is held by %d of at least %d, found %v", p, e, having[string(e)], threshold, found[string(e)])
			}
		}
		s.beyond += float64(len(found)) / parties
	}
	s.reader, s.repeated, s.own = unicast, unicast, float64(m.size.elements)
	return s, nil
}

// comment says what follows from the table.
func (m *modes) comment(r *report.Report, all []mode) {
	r.Say(`"Reader" is the attack of lab/attackers on the question's bytes, by somebody who saw none of the traffic and knows the service; for product hashes the meter's count. "Witness" is how
many of its tuples have the key. Of two days' salts: what is left to who sees one value asked under two salts; questions keep the salts of the first time, so that a repeated question is the same
key and only tells that it is the same. Cracking: an answer under the key that is not ours, by anyone who has question and answer, over 120 common services and the addresses that a reader has left, at %s for a guess.`, formatRough(m.guess.Seconds()))
	r.Say(`Defaults that follow: linear keys, since their candidates do not depend on the tuple; 19 bits, which leave some 7,000 addresses to a reader, and about 19 false ones to a witness with 10^7 tuples (to one as small as this, none: it knows which was meant); OPRF, since
paper mode is cracked in the time above; salts kept; answers sealed, since k-anonymous prefixes hand over what was not asked. The exact intersections and the threshold give no hosts or ask nobody, and the stream search
costs the witness orders of magnitude more: none replaces the exchange.`)
	r.Say(`Left out: Dessani's own protocol, whose text we do not have; the threshold rows are Mahdavi et al. 2020 with a key that the parties share, against an aggregator that follows the protocol. Time of the intersection
with the whole log (%d of its tuples evaluated) and of the stream search (%d of its rows filtered) is scaled to the log. Latency is without a network: add one round trip; the exact intersections need a second one for the hosts.`,
		min(m.size.trial.evaluated, len(m.tuples)), m.size.trial.filtered)
}
