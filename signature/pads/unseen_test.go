package pads_test

import (
	"math"
	"slices"
	"testing"

	"dragnet/dossier"
	"dragnet/signature/match"
	"dragnet/signature/pads"
)

// TestUnseenScoresAreOfTheOthers compares with a block that was counted without the
// sample, as the matcher scores it; and a dropped sample leaves no count.
func TestUnseenScoresAreOfTheOthers(t *testing.T) {
	bg, _ := clean()
	samples := recipe().MakeAll(template(t, "cedar"), 3, 0, 12)
	a, err := pads.Learn(t.Context(), samples, bg, pads.Options{Width: 24, Seed: 1, Restarts: 2})
	if err != nil {
		t.Fatal(err)
	}
	scores, starts := a.UnseenScores(samples, bg)
	for i, s := range samples {
		block := dossier.Block{Pseudo: a.Block.Pseudo, Columns: make([]dossier.Column, 24)}
		for p := range block.Columns {
			block.Columns[p] = dossier.Column{}
			for k, start := range a.Starts {
				if k != i && start != pads.Absent {
					block.Columns[p][samples[k][start+p]]++
				}
			}
		}
		table := match.NewTable(&block, bg)
		at, units := match.NewScanner(table, math.MinInt32/2, match.Portable).Best(s)
		if want := table.Omega(units); math.Abs(scores[i]-want) > 1.0/64 || at != starts[i] && math.Abs(table.Omega(table.Score(s[starts[i]:]))-want) > 1.0/64 {
			t.Errorf("sample %d scores %v at %d, want %v at %d", i, scores[i], starts[i], want, at)
		}
	}
	own := slices.IndexFunc(a.Starts, func(s int) bool { return s != pads.Absent })
	present := a.Present
	a.Drop(samples, func(i int) bool { return i == own })
	sum := 0.0
	for _, n := range a.Block.Columns[0] {
		sum += n
	}
	if a.Present != present-1 || a.Starts[own] != pads.Absent || sum != float64(a.Present) {
		t.Errorf("%d samples, %v counts of %d before", a.Present, sum, present)
	}
}
