package sharingfigures

import (
	"context"
	"fmt"
	"math"
	"runtime"
	"sync"

	"golang.org/x/sync/errgroup"

	"dragnet/internal/plot"
	"dragnet/reproduce/report"
	"dragnet/simulate/sharing"
)

// liarsSize is how much is simulated; tests simulate less.
type liarsSize struct {
	seeds         int
	shares        []float64
	organisations int
}

func fullLiars() liarsSize {
	s := liarsSize{seeds: 20, organisations: 40}
	for i := range 11 {
		s.shares = append(s.shares, float64(i)*0.05)
	}
	return s
}

// The quorums and floors compared, and the share of those asked that must agree
// in addition.
var (
	quorums = []int{1, 2, 3, 5, 8}
	floors  = []int{1, 2, 3, 5}
)

const (
	fraction   = 0.2
	byLieShare = 0.3
)

func liarsEntry() report.Reproduction {
	r := report.Reproduction{
		Name: "sharing-liars", Title: "What is believed in a community in which some lie",
		Source: "Allman et al. 2006, section 3.4 (an argument in words; the paper measures nothing here)",
	}
	r.Run = func(ctx context.Context, env report.Environment) (*report.Report, error) {
		return runLiars(ctx, env, report.New(r), fullLiars())
	}
	return r
}

// estimate is a mean over seeds with its 95 % interval; n counts the seeds in
// which it was defined.
type estimate struct {
	mean, half float64
	n          int
}

func estimateOf(values []float64) estimate {
	e := estimate{n: len(values)}
	if e.n == 0 {
		return estimate{mean: math.NaN()}
	}
	for _, v := range values {
		e.mean += v / float64(e.n)
	}
	sum := 0.0
	for _, v := range values {
		sum += (v - e.mean) * (v - e.mean)
	}
	if e.n > 1 {
		e.half = 1.96 * math.Sqrt(sum/float64(e.n-1)/float64(e.n))
	}
	return e
}

func (e estimate) String() string {
	if e.n == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ±%.2f", e.mean, e.half)
}

// scores are the results of one setting over all seeds.
type scores []*sharing.Belief

func (s scores) scoreAt(k int) (precision, recall estimate) {
	var ps, rs []float64
	for _, o := range s {
		p, r, ok := o.Score(k)
		if ok {
			ps = append(ps, p)
		}
		rs = append(rs, r)
	}
	return estimateOf(ps), estimateOf(rs)
}

func (s scores) formatCell(k int) string {
	p, r := s.scoreAt(k)
	return p.String() + " / " + r.String()
}

// liarsRun simulates communities on all processors.
type liarsRun struct {
	ctx  context.Context
	env  report.Environment
	size liarsSize
	mu   sync.Mutex
}

func (x *liarsRun) simulate(what string, one func(seed uint64) (*sharing.Belief, error)) (scores, error) {
	out := make(scores, x.size.seeds)
	g, ctx := errgroup.WithContext(x.ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i := range out {
		g.Go(func() (err error) {
			if err := ctx.Err(); err != nil {
				return err
			}
			out[i], err = one(uint64(i + 1))
			x.mu.Lock()
			defer x.mu.Unlock()
			x.env.Progress(what, 1)
			return err
		})
	}
	return out, g.Wait()
}

func (x *liarsRun) runWitnesses(share float64, lie sharing.Lie, colluding bool, fraction float64) (scores, error) {
	return x.simulate("asking communities", func(seed uint64) (*sharing.Belief, error) {
		c := sharing.DefaultConfiguration()
		c.Organisations, c.Liars, c.Lie, c.Colluding, c.Fraction, c.Seed = x.size.organisations, share, lie, colluding, fraction, seed
		return sharing.Run(x.ctx, c)
	})
}

func (x *liarsRun) runReporters(share float64, colluding bool) (scores, error) {
	return x.simulate("merging reports", func(seed uint64) (*sharing.Belief, error) {
		c := sharing.DefaultReporters()
		c.Liars, c.Colluding, c.Seed = share, colluding, seed
		return c.Publish()
	})
}

func runLiars(ctx context.Context, env report.Environment, r *report.Report, size liarsSize) (*report.Report, error) {
	x := &liarsRun{ctx: ctx, env: env, size: size}
	var asked, published []plot.Drawing
	for _, colluding := range []bool{false, true} {
		who := map[bool]string{false: "each on its own", true: "colluding"}[colluding]
		t, drawings, err := x.sweepShares("Detective, liars "+who, "k=%d", quorums, func(share float64) (scores, error) {
			return x.runWitnesses(share, sharing.Mixed, colluding, 0)
		})
		if err != nil {
			return nil, err
		}
		if err := x.addFraction(&t, colluding); err != nil {
			return nil, err
		}
		r.Tables, asked = append(r.Tables, t), append(asked, drawings...)
		t, drawings, err = x.sweepShares("Clearinghouse, lying detectives "+who, "floor=%d", floors, func(share float64) (scores, error) {
			return x.runReporters(share, colluding)
		})
		if err != nil {
			return nil, err
		}
		r.Tables, published = append(r.Tables, t), append(published, drawings...)
	}
	t, err := x.byLie()
	if err != nil {
		return nil, err
	}
	r.Tables = append(r.Tables, t)
	if t, err = x.fishingTable(); err != nil {
		return nil, err
	}
	r.Tables = append(r.Tables, t)
	r.Plots = []report.Plot{
		{Name: r.Name, Title: "What the detective believes", Columns: 2, Drawings: asked},
		{Name: r.Name + "-clearinghouse", Title: "What the clearinghouse publishes", Columns: 2, Drawings: published},
	}
	sayLiars(r, size)
	return r, nil
}

// sweepShares varies the share of liars: a table, and precision and recall drawn.
func (x *liarsRun) sweepShares(title, name string, ks []int, play func(share float64) (scores, error)) (report.Table, []plot.Drawing, error) {
	t := report.Table{Title: title + " (precision / recall)", Header: []string{"liars"}}
	precision := plot.Chart{Title: title, X: plot.Axis{Label: "share of liars"}, Y: plot.Axis{Label: "precision", Max: 1}}
	recall := precision
	recall.Y.Label = "recall"
	for _, k := range ks {
		t.Header = append(t.Header, fmt.Sprintf(name, k))
		precision.Series = append(precision.Series, plot.Series{Name: fmt.Sprintf(name, k)})
		recall.Series = append(recall.Series, plot.Series{Name: fmt.Sprintf(name, k)})
	}
	for _, share := range x.size.shares {
		s, err := play(share)
		if err != nil {
			return t, nil, err
		}
		row := []string{fmt.Sprintf("%.0f %%", 100*share)}
		for i, k := range ks {
			row = append(row, s.formatCell(k))
			p, r := s.scoreAt(k)
			addPoint(&precision.Series[i], share, p)
			addPoint(&recall.Series[i], share, r)
		}
		t.Rows = append(t.Rows, row)
	}
	return t, []plot.Drawing{precision, recall}, nil
}

func addPoint(s *plot.Series, x float64, e estimate) {
	s.X, s.Y = append(s.X, x), append(s.Y, e.mean)
	s.Low, s.High = append(s.Low, e.mean-e.half), append(s.High, e.mean+e.half)
}

// addFraction adds the column for k=2 with, in addition, a share of all
// independent witnesses asked that must agree.
func (x *liarsRun) addFraction(t *report.Table, colluding bool) error {
	t.Header = append(t.Header, fmt.Sprintf("k=2 and %.0f %% of those asked", 100*fraction))
	for i, share := range x.size.shares {
		s, err := x.runWitnesses(share, sharing.Mixed, colluding, fraction)
		if err != nil {
			return err
		}
		t.Rows[i] = append(t.Rows[i], s.formatCell(2))
	}
	return nil
}

func (x *liarsRun) byLie() (report.Table, error) {
	t := report.Table{Title: fmt.Sprintf("Detective, by what the liars do, %.0f %% of them (precision / recall)", 100*byLieShare), Header: []string{"lie", "liars"}}
	for _, k := range quorums {
		t.Header = append(t.Header, fmt.Sprintf("k=%d", k))
	}
	for _, lie := range sharing.Lies() {
		for _, colluding := range []bool{false, true} {
			s, err := x.runWitnesses(byLieShare, lie, colluding, 0)
			if err != nil {
				return t, err
			}
			row := []string{string(lie), map[bool]string{false: "each on its own", true: "colluding"}[colluding]}
			for _, k := range quorums {
				row = append(row, s.formatCell(k))
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t, nil
}

// independents are the numbers of organisations that must ask the same.
var independents = []int{1, 2, 3, 5}

// fishingTable shows what a witness's threshold withholds from detectives who
// ask for private facts, and from honest ones.
func (x *liarsRun) fishingTable() (report.Table, error) {
	t := report.Table{Title: "Detectives who fish: facts told to fishers on their own / colluding; honest incidents answered", Header: []string{"fishers"}}
	for _, m := range independents {
		t.Header = append(t.Header, fmt.Sprintf("independent=%d", m))
	}
	for _, share := range x.size.shares {
		row := []string{fmt.Sprintf("%.0f %%", 100*share)}
		for _, m := range independents {
			told := map[bool][]float64{}
			var served []float64
			for seed := range x.size.seeds {
				for _, colluding := range []bool{false, true} {
					f := sharing.DefaultFishing()
					f.Fishers, f.Colluding, f.Independent, f.Seed = share, colluding, m, uint64(seed+1)
					got, err := f.Run()
					if err != nil {
						return t, err
					}
					told[colluding] = append(told[colluding], got.Learned)
					if !colluding { // honest detectives ask the same either way
						served = append(served, got.Served)
					}
					x.env.Progress("fishing", 1)
				}
			}
			row = append(row, fmt.Sprintf("%s / %s; %s", estimateOf(told[false]), estimateOf(told[true]), estimateOf(served)))
		}
		t.Rows = append(t.Rows, row)
		if x.ctx.Err() != nil {
			return t, x.ctx.Err()
		}
	}
	return t, nil
}

func sayLiars(r *report.Report, size liarsSize) {
	c, d := sharing.DefaultConfiguration(), sharing.DefaultReporters()
	r.Say("%d organisations are witnesses; a group of %d attackers, each seen by an honest witness with probability %g. The stated share of organisations lies, each in a way drawn at random: withholding (names no host), framing (names %d of %d innocent hosts besides what it saw), spraying (names all of them), Sybil (frames under %d names that no member vouches for). Colluding liars frame the same hosts. Liars are assumed to know the pattern, which the question hides from them: without it an answer does not open.",
		size.organisations, c.Group, c.Seen, c.Framed, c.Innocent, c.Names)
	r.Say("What decides is the product's code: the sealed exchange, one voice for each verified organisation and one for all others together, k voices to believe a host. Precision: the part of what is believed that belongs to the group; recall: the part of the group that is believed. Mean and 95 %% interval of the mean over %d seeds (from 1); '-' where nothing is believed under any seed.", size.seeds)
	r.Say("Clearinghouse: %d detectives report what each found (half of the group each) under one pattern, liars add %d innocent hosts; a host is published once as many organisations as the floor reported it.", d.Detectives, d.Framed)
	r.Say("Non-colluding liars are outvoted as long as few innocents are named k times by chance; sprayers, who name everybody, work together without meaning to. Colluders list whom they like as soon as they are k, or the floor: no quorum below their number helps, and one above it costs recall. A share of those asked grows with the community, which colluders must then outgrow too. Not played: decoy questions and the record of honesty, which single out liars over many questions.")
	r.Say("Fishing: %d detectives, each honest one knowing each incident with probability %g; a witness answers a question once the stated number of organisations asked the same (its policy's code). A lone fisher learns nothing from two on, and colluders learn everything as soon as they are enough; the price is what only few honest detectives know.", sharing.DefaultFishing().Detectives, sharing.DefaultFishing().Knows)
}
