package survey

import (
	"context"
	"fmt"
	"net/netip"

	"dragnet/ask/seal"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Bytes is the size of what a witness sends in answer to one question, sealed
// as it goes over the wire.
type Bytes struct {
	// Questions is how many were really answered; TooLarge how many more of
	// the sample were not, because their answers exceed the survey's bounds,
	// so that the true maximum is higher.
	Questions int `json:"questions"`
	TooLarge  int `json:"too_large"`
	Spread
}

// Bounds of the sample, per hash. An answer costs an OPRF evaluation of about
// 70 µs, a flow about 40 bytes of memory.
const (
	maxAnswers = 12_000
	maxFlows   = 150_000
)

// sealing is the sample of questions that will be answered.
type sealing struct {
	questions []question
	tooLarge  []int // by hash
	// events holds the flows of every tuple that some question touches.
	events map[packed][]event
}

// question asks about one tuple under one hash.
type question struct {
	hash   int
	asked  packed
	tuples []packed // all that share its key
}

// event is a flow of a tuple, with what testimony reveals of it.
type event struct {
	x     netip.Addr
	start flow.Time
	state flow.State
}

func newSealing(hashes int) *sealing {
	return &sealing{tooLarge: make([]int, hashes), events: map[packed][]event{}}
}

// chooseTuples notes which tuples would answer the sampled questions under a hash;
// all is in the order of the table.
func (s *surveyor) chooseTuples(hash int, keyer *key.Keyer, all []keyed) {
	type bucket struct {
		group
		tuples []packed
	}
	wanted := map[key.K]*bucket{}
	asked := s.asked[:min(s.Sealed, len(s.asked))]
	for i := range asked {
		wanted[keyer.Tuple(asked[i].tuple(s.Mask))] = &bucket{}
	}
	for i := range all {
		b := wanted[all[i].key]
		if b == nil {
			continue
		}
		b.flows += uint64(all[i].flows)
		if b.group.tuples++; b.group.tuples <= maxAnswers {
			b.tuples = append(b.tuples, s.tuples.at(i).packed)
		}
	}
	var total group
	for i := range asked {
		b := wanted[keyer.Tuple(asked[i].tuple(s.Mask))]
		if total.tuples+b.group.tuples > maxAnswers || total.flows+b.flows > maxFlows {
			s.sealing.tooLarge[hash]++
			continue
		}
		total.tuples += b.group.tuples
		total.flows += b.flows
		s.sealing.questions = append(s.sealing.questions, question{hash, asked[i], b.tuples})
		for _, t := range b.tuples {
			s.sealing.events[t] = nil
		}
	}
}

// measureBytes reads the log again for the flows of the chosen tuples, and has a
// witness that logged them answer each question.
func (s *surveyor) measureBytes(ctx context.Context, log flow.Log, rows []Row) error {
	if s.sealing == nil {
		return nil
	}
	if err := s.readEvents(ctx, log); err != nil {
		return err
	}
	sizes := make([][]float64, len(rows))
	for i := range s.sealing.questions {
		q := &s.sealing.questions[i]
		n, err := s.answerQuestion(ctx, q)
		if err != nil {
			return err
		}
		sizes[q.hash] = append(sizes[q.hash], float64(n))
		s.Progress("sealing", len(q.tuples))
	}
	for i := range rows {
		rows[i].Bytes = &Bytes{len(sizes[i]), s.sealing.tooLarge[i], spreadOf(sizes[i])}
	}
	return nil
}

func (s *surveyor) readEvents(ctx context.Context, log flow.Log) error {
	_, err := log.Scan(ctx, flow.AllTime, flow.Failures, func(batch []flow.Flow) error {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Progress("reading again", len(batch))
		for i := range batch {
			f := &batch[i]
			t, ok := s.Mask.Tuple(f, s.End)
			if !ok {
				continue
			}
			p := pack(t)
			if events, wanted := s.sealing.events[p]; wanted {
				s.sealing.events[p] = append(events, event{s.End.X(f), f.Start, f.State})
			}
		}
		return nil
	})
	return err
}

// answerQuestion returns the size of the testimony to q.
func (s *surveyor) answerQuestion(ctx context.Context, q *question) (int, error) {
	asked, err := s.encodeQuestion(q)
	if err != nil {
		return 0, err
	}
	w, err := witness.New(witness.DefaultConfiguration(), "survey", s.logOf(q), nil)
	if err != nil {
		return 0, err
	}
	sealed, _, err := w.Answer(ctx, asked)
	if err != nil {
		return 0, err
	}
	if got := w.Counts().Answers.Load(); got < uint64(len(q.tuples)) {
		return 0, fmt.Errorf("the log changed while it was read: a question that %d tuples fit had %d answers", len(q.tuples), got)
	}
	return len(sealed), nil
}

// encodeQuestion writes the question as a detective would.
func (s *surveyor) encodeQuestion(q *question) ([]byte, error) {
	h, t := s.hashes[q.hash], q.asked.tuple(s.Mask)
	salt := key.OneShotSalt(s.Mask, s.Epoch)
	keyer, err := key.NewKeyer(s.Mask, s.End, h, salt)
	if err != nil {
		return nil, err
	}
	reply, err := seal.NewReplyKey()
	if err != nil {
		return nil, err
	}
	blinded, err := seal.Blind(t)
	if err != nil {
		return nil, err
	}
	out := dossier.Question{
		Mode: dossier.OPRF, Hash: h, Epoch: s.Epoch, Window: flow.AllTime, Reply: reply.Public(),
		Clues: []dossier.AskedClue{{
			End: s.End, Mask: s.Mask, Salt: salt, Keys: []dossier.AskedKey{{K: keyer.Tuple(t), Blinded: blinded.Element}},
		}},
		Branches: []*pattern.Node{{Op: pattern.Leaf}},
	}
	return out.MarshalBinary()
}

// logOf holds the flows that fit q and no others: the rest would not be
// answered about.
func (s *surveyor) logOf(q *question) excerpt {
	var x excerpt
	for _, p := range q.tuples {
		t := p.tuple(s.Mask)
		for _, e := range s.sealing.events[p] {
			f := flow.Flow{Start: e.start, State: e.state, OrigPort: t.SPort, RespPort: t.DPort, Proto: t.Proto, Orig: e.x, Resp: t.Addr}
			if s.End == key.In {
				f.Orig, f.Resp = f.Resp, f.Orig
			}
			x = append(x, f)
		}
	}
	return x
}

// excerpt is a witness's log in memory.
type excerpt []flow.Flow

// Scan hands everything out at once.
func (x excerpt) Scan(_ context.Context, _ flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	cov.Saw(x)
	return cov, fn(x)
}
