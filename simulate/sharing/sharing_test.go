package sharing

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func run(t *testing.T, change func(*Configuration)) *Belief {
	t.Helper()
	c := DefaultConfiguration()
	c.Organisations, c.Seen = 12, 0.5
	change(&c)
	o, err := Run(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestOutcome compares what the real exchange gives with who saw what, counted
// by hand.
func TestOutcome(t *testing.T) {
	for _, lie := range append(Lies(), Mixed) {
		for _, colluding := range []bool{false, true} {
			c := DefaultConfiguration()
			c.Organisations, c.Liars, c.Lie, c.Colluding, c.Seed = 10, 0.4, lie, colluding, 7
			voices := map[string]map[string]bool{}
			for _, p := range c.drawPlayers(rand.New(rand.NewPCG(c.Seed, 0))) {
				voice := p.source.Class
				if !p.source.Verified {
					voice = "all strangers"
				}
				for _, f := range p.log {
					if voices[f.Orig.String()] == nil {
						voices[f.Orig.String()] = map[string]bool{}
					}
					voices[f.Orig.String()][voice] = true
				}
			}
			var want []int
			for _, v := range voices {
				want = append(want, len(v))
			}
			o, err := Run(t.Context(), c)
			if err != nil {
				t.Fatal(err)
			}
			got := slices.Concat(o.Guilty, o.Innocent)
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, colluding %v: %s", lie, colluding, diff)
			}
		}
	}
}

// TestLies: what each lie can do, and what it cannot.
func TestLies(t *testing.T) {
	precision := func(o *Belief, k int) float64 { p, _, _ := o.Score(k); return p }
	recall := func(o *Belief, k int) float64 { _, r, _ := o.Score(k); return r }
	honest := run(t, func(*Configuration) {})
	if precision(honest, 1) != 1 || recall(honest, 1) != 1 {
		t.Errorf("without liars: %+v", honest)
	}
	withhold := run(t, func(c *Configuration) { c.Liars, c.Lie = 0.5, Withhold })
	if precision(withhold, 1) != 1 || recall(withhold, 3) >= recall(honest, 3) {
		t.Errorf("withholding lists no host and hides some: %+v", withhold)
	}
	one := run(t, func(c *Configuration) { c.Liars, c.Lie = 0.08, Spray })
	if precision(one, 1) >= 0.5 || precision(one, 2) != 1 {
		t.Errorf("one sprayer: precision %g, and with k=2 %g", precision(one, 1), precision(one, 2))
	}
	sybils := run(t, func(c *Configuration) { c.Liars, c.Lie, c.Colluding, c.Names = 0.3, Sybil, true, 20 })
	if precision(sybils, 1) == 1 || precision(sybils, 2) != 1 {
		t.Errorf("80 names that no member vouches for: precision %g, and with k=2 %g", precision(sybils, 1), precision(sybils, 2))
	}
	colluders := run(t, func(c *Configuration) { c.Liars, c.Lie, c.Colluding = 0.34, Frame, true })
	if precision(colluders, 4) == 1 || precision(colluders, 5) != 1 {
		t.Errorf("four colluders list whom they like up to k=4: %g, %g", precision(colluders, 4), precision(colluders, 5))
	}
	fraction := run(t, func(c *Configuration) { c.Liars, c.Lie, c.Colluding, c.Fraction = 0.34, Frame, true, 0.4 })
	if precision(fraction, 1) != 1 {
		t.Errorf("a share of those asked: %+v", fraction)
	}
}

func TestReporters(t *testing.T) {
	c := DefaultReporters()
	c.Liars = 0.2
	for _, colluding := range []bool{false, true} {
		c.Colluding = colluding
		o, err := c.Publish()
		if err != nil {
			t.Fatal(err)
		}
		one, _, _ := o.Score(1)
		five, recall, _ := o.Score(5)
		if one == 1 || five != 1 || recall < 0.9 {
			t.Errorf("colluding %v: precision %g with floor 1, %g with 5, recall %g", colluding, one, five, recall)
		}
		if four, _, _ := o.Score(4); colluding == (four == 1) {
			t.Errorf("colluding %v: precision %g with floor 4", colluding, four)
		}
	}
}

func TestSeedDecides(t *testing.T) {
	liars := func(c *Configuration) { c.Liars = 0.3 }
	a, b := run(t, liars), run(t, liars)
	other := run(t, func(c *Configuration) { liars(c); c.Seed = 2 })
	for _, o := range []*Belief{a, b, other} {
		slices.Sort(o.Guilty)
		slices.Sort(o.Innocent)
	}
	if !cmp.Equal(a, b) || cmp.Equal(a, other) {
		t.Errorf("%+v, %+v, %+v", a, b, other)
	}
}

// TestFishing: no organisation learns a private fact alone once two must ask the same;
// as many colluders as must ask learn all.
func TestFishing(t *testing.T) {
	for _, test := range []struct {
		share       float64
		colluding   bool
		independent int
		told        float64
	}{{0.2, false, 1, 1}, {0.2, false, 2, 0}, {0.2, true, 4, 1}, {0.2, true, 5, 0}, {0, true, 1, 0}} {
		f := DefaultFishing()
		f.Fishers, f.Colluding, f.Independent = test.share, test.colluding, test.independent
		got, err := f.Run()
		if err != nil {
			t.Fatal(err)
		}
		if got.Learned != test.told {
			t.Errorf("%+v: told %g", test, got.Learned)
		}
		if (test.independent == 1) != (got.Served == 1) {
			t.Errorf("%+v: %g of the incidents served", test, got.Served)
		}
	}
}
