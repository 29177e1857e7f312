package sharingfigures

import (
	"context"
	"fmt"
	"math"
	"syscall"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/seal"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/plot"
	"dragnet/lab/attackers"
	"dragnet/reproduce/report"
)

// modesSize is the amount of work of sharing-modes.
type modesSize struct {
	trial     trialSize
	questions int // asked in each mode
	bits      []int
	elements  int // of each party of the threshold intersections
}

func fullModes() modesSize {
	s := modesSize{trial: trialSize{rows: 200_000, evaluated: 3000, dictionary: 64, filtered: 400, keyBits: 2048}, questions: 5, elements: 2000}
	for b := 8; b <= 32; b++ {
		s.bits = append(s.bits, b)
	}
	return s
}

func sharingModes() report.Reproduction {
	r := report.Reproduction{
		Name: "sharing-modes", Title: "What each way of asking costs, and what each party and an attacker learn",
		Source: "Allman et al. 2006, sections 3.1 to 3.3; Dessani 2024 (Sicherheit) for asking nobody",
	}
	r.Run = func(ctx context.Context, env report.Environment) (*report.Report, error) {
		return runModes(ctx, env, report.New(r), fullModes())
	}
	return r
}

// modes is the log, and the tuples that every mode is asked about.
type modes struct {
	*trial
	env   report.Environment
	size  modesSize
	asked []key.Tuple
	flows map[key.Tuple]int
	guess time.Duration // of one Argon2id
	// left caches what attack found: it is the same in both modes.
	left map[attacked][2]float64
}

type attacked struct {
	hash  key.Hash
	tuple key.Tuple
}

// kdfMemory is that of the paper mode, in KiB.
const kdfMemory = 64

func newModes(ctx context.Context, env report.Environment, size modesSize) (*modes, error) {
	t, err := newTrial(ctx, size.trial)
	if err != nil {
		return nil, err
	}
	m := &modes{trial: t, env: env, size: size, flows: map[key.Tuple]int{}, left: map[attacked][2]float64{}}
	for i := range t.log {
		tuple, _ := t.mask.Tuple(&t.log[i], key.Out)
		m.flows[tuple]++
	}
	for _, tuple := range t.tuples {
		if n := m.flows[tuple]; n >= 3 && n <= 6 && len(m.asked) < size.questions {
			m.asked = append(m.asked, tuple)
		}
	}
	began := cpuTime()
	const guesses = 200
	for i := range guesses {
		if _, err := seal.PaperSecret(t.tuples[i%len(t.tuples)], dossier.QuestionID{}, "w", kdfMemory); err != nil {
			return nil, err
		}
	}
	m.guess = (cpuTime() - began) / guesses
	return m, nil
}

// cpuTime is what this process has used; asker and witness work one after the other.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// sample is one question in one mode.
type sample struct {
	question, answer int
	asker, witness   time.Duration // of processor time
	latency          time.Duration // of both, on this machine without a network
	reader           float64       // addresses left to a reader who knows the service
	own              float64       // of the witness's own tuples, how many may be meant
	beyond           float64       // what the detective gets that it did not ask for
	repeated         float64       // addresses left if asked twice under other salts
}

// mode is one row of the table.
type mode struct {
	name    string
	samples []sample
	// In words: what beyond counts, and the price of opening an answer not ours.
	beyond, crack string
}

func runModes(ctx context.Context, env report.Environment, r *report.Report, size modesSize) (*report.Report, error) {
	m, err := newModes(ctx, env, size)
	if err != nil {
		return nil, err
	}
	var all []mode
	for _, h := range m.hashes() {
		for _, paper := range []bool{false, true} {
			env.Progress("mode", 1)
			row, err := m.askLoosely(ctx, h, paper)
			if err != nil {
				return nil, err
			}
			all = append(all, row)
		}
	}
	loose := len(all)
	others, err := m.askOtherwise(ctx)
	if err != nil {
		return nil, err
	}
	all = append(all, others...)
	r.Tables = append(r.Tables, m.table(all))
	r.Plots = append(r.Plots, m.plot(all[:loose]))
	m.comment(r, all)
	return r, nil
}

func (m *modes) hashes() (out []key.Hash) {
	for _, kind := range []string{"linear", "product-mod"} {
		for _, b := range m.size.bits {
			h, err := key.ParseHash(kind, b)
			if err == nil { // linear keys have at most 31 bits
				out = append(out, h)
			}
		}
	}
	return append(out, key.Hash{Kind: key.Product})
}

// askLoosely is the product's own exchange, in one of its two modes.
func (m *modes) askLoosely(ctx context.Context, h key.Hash, paper bool) (mode, error) {
	out := mode{name: nameOf(h) + ", OPRF", beyond: "sealed answers", crack: "not at leisure: an evaluation opens its own question only"}
	c := detective.Configuration{Mode: dossier.OPRF, Hash: h, Style: detective.SelfDescribing, Window: flow.AllTime, Epoch: "2026-11-22", Quorum: 1}
	if paper {
		c.Mode, c.KDFMemory = dossier.Paper, kdfMemory
		out.name = nameOf(h) + ", paper"
	}
	var guesses float64
	for _, tuple := range m.asked {
		s, err := m.askOnce(ctx, c, tuple)
		if err != nil {
			return out, fmt.Errorf("%s: %w", out.name, err)
		}
		out.samples = append(out.samples, s)
		guesses += s.reader * float64(len(attackers.CommonServices())) / float64(len(m.asked))
	}
	if paper {
		out.crack = formatRough(guesses*m.guess.Seconds()) + " of processor time"
	}
	return out, nil
}

func nameOf(h key.Hash) string {
	switch h.Kind {
	case key.Linear:
		return fmt.Sprintf("linear, %d bits", h.Bits)
	case key.ProductMod:
		return fmt.Sprintf("product-mod, %.0f bits", math.Ceil(math.Log2(float64(h.Modulus))))
	}
	return "product"
}

func (m *modes) askOnce(ctx context.Context, c detective.Configuration, tuple key.Tuple) (s sample, err error) {
	p, err := pattern.Parse(fmt.Sprintf("out dst=%s proto=%d dport=%d", tuple.Addr, tuple.Proto, tuple.DPort), pattern.NoFiles)
	if err != nil {
		return s, err
	}
	wall, began := time.Now(), cpuTime()
	q, err := detective.New(c, p)
	if err != nil {
		return s, err
	}
	s.asker = cpuTime() - began
	w, err := witness.New(witness.DefaultConfiguration(), "w", m.log, nil)
	if err != nil {
		return s, err
	}
	began = cpuTime()
	sealed, _, err := w.Answer(ctx, q.Question())
	if err != nil {
		return s, err
	}
	s.witness = cpuTime() - began
	began = cpuTime()
	heard, err := q.OpenTestimony(ctx, "w", sealed)
	if err != nil {
		return s, err
	}
	s.asker += cpuTime() - began
	s.latency = time.Since(wall)
	found := 0
	for _, h := range q.Result().Hosts {
		found += int(h.Flows)
	}
	if found != m.flows[tuple] {
		return s, fmt.Errorf("found %d of %d connections", found, m.flows[tuple])
	}
	s.question, s.answer = len(q.Question()), len(sealed)
	s.own, s.beyond = float64(heard.Answers), float64(heard.Collisions)
	s.reader, s.repeated, err = m.attack(c, p, q, tuple)
	return s, err
}

// attack is what is left to a reader who knows the service: of one question, and of two
// under the salts of two days.
func (m *modes) attack(c detective.Configuration, p *pattern.Pattern, q *detective.Inquiry, tuple key.Tuple) (once, twice float64, err error) {
	if c.Hash.Kind != key.Linear {
		n := q.Meter()[0].KnowingService // there are no salts: nothing changes
		return n, n, nil
	}
	if left, done := m.left[attacked{c.Hash, tuple}]; done {
		return left[0], left[1], nil
	}
	r := attackers.Reading{Known: []key.Tuple{tuple, tuple}}
	a := tuple.Addr.As4()
	truth := uint32(a[0])<<24 | uint32(a[1])<<16 | uint32(a[2])<<8 | uint32(a[3])
	c.Epoch = "2026-11-23"
	again, err := detective.New(c, p)
	if err != nil {
		return 0, 0, err
	}
	var first, second dossier.Question
	if err := first.UnmarshalBinary(q.Question()); err != nil {
		return 0, 0, err
	}
	if err := second.UnmarshalBinary(again.Question()); err != nil {
		return 0, 0, err
	}
	first.Clues, first.Branches = append(first.Clues, second.Clues...), append(first.Branches, &pattern.Node{Op: pattern.Leaf, Clue: 1})
	both, err := first.MarshalBinary()
	if err != nil {
		return 0, 0, err
	}
	for _, one := range []struct {
		question []byte
		left     *float64
	}{{q.Question(), &once}, {both, &twice}} {
		n, found, err := r.Addresses(one.question, truth)
		if err != nil {
			return 0, 0, err
		}
		if !found {
			return 0, 0, fmt.Errorf("the attack lost the address that was asked about")
		}
		*one.left = float64(n)
	}
	m.left[attacked{c.Hash, tuple}] = [2]float64{once, twice}
	return once, twice, nil
}

// mean is a mean with half of its 95 % interval.
func (m mode) mean(of func(*sample) float64) (mean, half float64) {
	n := float64(len(m.samples))
	for i := range m.samples {
		mean += of(&m.samples[i]) / n
	}
	for i := range m.samples {
		half += (of(&m.samples[i]) - mean) * (of(&m.samples[i]) - mean) / max(1, n-1)
	}
	return mean, 1.96 * math.Sqrt(half/n)
}

func (m *modes) table(all []mode) report.Table {
	t := report.Table{
		Title: fmt.Sprintf("%d questions about single services, %d tuples in %d rows; mean and half of its 95 %% interval", len(m.asked), len(m.tuples), len(m.log)),
		Header: []string{
			"mode", "question, bytes", "answer, bytes", "asker, ms of CPU", "witness, ms of CPU", "latency, ms", "reader: addresses left", "witness: own tuples left",
			"detective: beyond matches", "of two days' salts: addresses left", "cracking one answer that is not ours",
		},
	}
	for _, row := range all {
		cells := []string{row.name}
		for _, of := range []func(*sample) float64{
			func(s *sample) float64 { return float64(s.question) }, func(s *sample) float64 { return float64(s.answer) },
			func(s *sample) float64 { return s.asker.Seconds() * 1e3 }, func(s *sample) float64 { return s.witness.Seconds() * 1e3 },
			func(s *sample) float64 { return s.latency.Seconds() * 1e3 }, func(s *sample) float64 { return s.reader },
			func(s *sample) float64 { return s.own }, func(s *sample) float64 { return s.beyond }, func(s *sample) float64 { return s.repeated },
		} {
			cells = append(cells, formatMean(row.mean(of)))
		}
		cells[8] += " " + row.beyond
		t.Rows = append(t.Rows, append(cells, row.crack))
	}
	return t
}

func formatMean(mean, half float64) string {
	switch {
	case math.IsInf(mean, 1):
		return "all"
	case mean >= 1e6:
		return fmt.Sprintf("%.2g", mean)
	case half < 0.05 && mean == math.Round(mean):
		return fmt.Sprintf("%.0f", mean)
	}
	return fmt.Sprintf("%.1f ± %.1f", mean, half)
}

// plot draws, over the size of keys, what is left to guess for a reader and a witness.
func (m *modes) plot(loose []mode) report.Plot {
	c := plot.Chart{Title: "Linear keys: what is left to guess", X: plot.Axis{Label: "bits of the key"}, Y: plot.Axis{Label: "log2 of addresses or tuples left"}}
	series := []plot.Series{{Name: "a reader who saw nothing"}, {Name: "a reader of two days' salts"}, {Name: "the witness, among its tuples"}}
	at := 0
	for _, h := range m.hashes() {
		row := loose[at]
		at += 2
		if h.Kind != key.Linear {
			break
		}
		for i, of := range []func(*sample) float64{
			func(s *sample) float64 { return math.Log2(s.reader) }, func(s *sample) float64 { return math.Log2(s.repeated) }, func(s *sample) float64 { return math.Log2(s.own) },
		} {
			mean, half := row.mean(of)
			addPoint(&series[i], float64(h.Bits), estimate{mean: mean, half: half})
		}
	}
	c.Series = series
	return report.Plot{Name: "sharing-modes", Title: c.Title, Columns: 1, Drawings: []plot.Drawing{c}}
}
