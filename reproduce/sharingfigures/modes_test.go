package sharingfigures

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"strings"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/reproduce/report"
)

// TestModes runs every mode at a small size: each checks that it found what it was
// asked for, and the attacks that they hold the true address.
func TestModes(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	size := modesSize{trial: trialSize{rows: 4000, evaluated: 20, dictionary: 4, filtered: 20, keyBits: 512}, questions: 2, bits: []int{12, 20}, elements: 100}
	r, err := runModes(context.Background(), report.Environment{Progress: func(string, int) {}}, report.New(sharingModes()), size)
	if err != nil {
		t.Fatal(err)
	}
	rows := r.Tables[0].Rows
	if len(rows) != 2*(2+2+1)+4+2 || len(r.Plots) != 1 {
		t.Fatalf("%d rows and %d plots", len(rows), len(r.Plots))
	}
	for _, row := range rows {
		if len(row) != len(r.Tables[0].Header) {
			t.Errorf("row %q has %d cells, want %d", row[0], len(row), len(r.Tables[0].Header))
		}
		if paper := strings.HasSuffix(row[0], ", paper"); paper != strings.HasSuffix(row[10], "of processor time") {
			t.Errorf("%s: cracking %q", row[0], row[10])
		}
	}
}

// TestThresholdAgainstPlainIntersection: over random sets, each party learns exactly
// which of its elements enough parties have.
func TestThresholdAgainstPlainIntersection(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		parties, threshold := 2+random.IntN(4), 2
		if parties > 2 {
			threshold += random.IntN(2)
		}
		g := newThresholdGroup(threshold, 40)
		var sets [][][]byte
		having := map[string]int{}
		var shares []share
		for p := range parties {
			var set [][]byte
			for _, i := range random.Perm(80)[:40] {
				e := binary.BigEndian.AppendUint32(nil, uint32(i))
				set = append(set, e)
				having[string(e)]++
			}
			s, fits := g.share(uint64(p+1), set, 40)
			if !fits {
				t.Fatal("a bin overflows")
			}
			sets, shares = append(sets, set), append(shares, s)
		}
		for p, places := range g.matches(shares) {
			found := map[string]bool{}
			for at := range places {
				if i := shares[p].own[at[0]][at[1]]; i >= 0 {
					found[string(sets[p][i])] = true
				} else {
					t.Error("a random value matches")
				}
			}
			for _, e := range sets[p] {
				if found[string(e)] != (having[string(e)] >= threshold) {
					t.Errorf("%d parties have it, threshold %d: found %v", having[string(e)], threshold, found[string(e)])
				}
			}
		}
	}
}
