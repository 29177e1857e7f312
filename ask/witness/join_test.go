package witness

import (
	"context"
	"encoding/binary"
	"net/netip"
	"testing"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// TestNegatedValuesAreCharged: what a witness files for each value of a negated clue is
// part of the work of a question. Hosts times values have no other bound.
func TestNegatedValuesAreCharged(t *testing.T) {
	const hosts, values = 100, 100
	seen, denied := askedClue{found: map[hit][]dossier.FlowEvent{}}, askedClue{found: map[hit][]dossier.FlowEvent{}}
	one := []dossier.FlowEvent{{Time: flow.Time(1)}}
	for h := range hosts {
		x := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(h))))
		seen.found[hit{key.Tuple{DPort: 1}, x}] = one
		for v := range values {
			denied.found[hit{key.Tuple{Mask: key.Mask{DPort: true}, DPort: uint16(v)}, x}] = one
		}
	}
	leaf, not := &pattern.Node{Op: pattern.Leaf}, &pattern.Node{Op: pattern.Not, Left: &pattern.Node{Op: pattern.Leaf, Clue: 1}}
	g := &gatherer{
		q:     &dossier.Question{Branches: []*pattern.Node{{Op: pattern.And, Left: leaf, Right: not}}},
		clues: []askedClue{seen, denied},
	}
	for _, c := range []struct {
		work int
		want bool
	}{{hosts * values * 2 * perLeaf, false}, {hosts*values*2*perLeaf + hosts*(2*perLeaf+1), true}} {
		work := c.work
		j := newJoiner(g, 0, 1<<20, &work)
		if ok, err := j.joinBranches(context.Background()); ok != c.want || err != nil {
			t.Errorf("with work %d: joined %t, %v, want %t; %d left", c.work, ok, err, c.want, work)
		}
	}
}
