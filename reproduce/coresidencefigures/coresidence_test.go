package coresidencefigures

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/reproduce/report"
)

// TestRocAgainstPairs compares the area with the share of pairs in the right
// order.
func TestRocAgainstPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 50 {
		var s scores
		for range 2 + rng.IntN(40) {
			s.add(true, float64(rng.IntN(8)))
			s.add(false, float64(rng.IntN(6)))
		}
		want := 0.0
		for _, a := range s.attack {
			for _, n := range s.normal {
				switch {
				case a > n:
					want++
				case a == n:
					want += 0.5
				}
			}
		}
		want /= float64(len(s.attack) * len(s.normal))
		c := rocOf(s)
		if math.Abs(c.area()-want) > 1e-12 {
			t.Fatalf("area %v, want %v", c.area(), want)
		}
		best, n := 0.0, float64(len(s.attack)+len(s.normal))
		for threshold := range 9 {
			right := 0.0
			for _, v := range s.attack {
				if v >= float64(threshold) {
					right++
				}
			}
			for _, v := range s.normal {
				if v < float64(threshold) {
					right++
				}
			}
			best = max(best, right/n)
		}
		if _, high := c.accuracy(1, len(s.attack), len(s.normal)); math.Abs(high-best) > 1e-12 {
			t.Fatalf("best accuracy %v, want %v", high, best)
		}
	}
}

func TestEveryReproductionRuns(t *testing.T) {
	testkit.Long(t)
	for _, r := range All() {
		if r.Name == "coresidence-evasions" {
			r.Run = func(ctx context.Context, env report.Environment) (*report.Report, error) {
				return evadeInRuns(ctx, env, 1) // all take minutes
			}
		}
		got, err := r.Run(context.Background(), report.Environment{Progress: func(string, int) {}})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Tables) == 0 || len(got.Text) == 0 {
			t.Errorf("%s is empty", r.Name)
		}
		for _, table := range got.Tables {
			for _, row := range table.Rows {
				if len(row) != len(table.Header) || row[2] == "" {
					t.Errorf("%s: %v", table.Title, row)
				}
			}
		}
		if _, err := got.WritePlots(t.TempDir()); err != nil {
			t.Error(err)
		}
	}
}
