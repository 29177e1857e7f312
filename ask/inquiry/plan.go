package inquiry

import (
	"cmp"
	"fmt"
	"math"
	"math/bits"
	"math/rand/v2"
	"net/netip"
	"slices"
)

// WitnessSelection says which witnesses to ask. Exactly one of its fields is set.
type WitnessSelection struct {
	// Names are witnesses of the book, by name or URL.
	Names []string
	// Near is the point of interest: all are asked, the nearest first.
	Near netip.Addr
	// Random is the size of a sample.
	Random int
	// All asks everybody, strangers of the relays included.
	All bool
}

// Strangers reports whether witnesses that are not in the book are asked.
func (w *WitnessSelection) Strangers() bool { return w.All || w.Random > 0 }

// Order lists whom to ask, in order. Strangers are those that the relays know;
// t may be nil.
func (b *Book) Order(w WitnessSelection, strangers []Contact, t *Table, random *rand.Rand) ([]Contact, error) {
	var out []Contact
	switch {
	case len(w.Names) > 0:
		for _, name := range w.Names {
			c, ok := b.Find(name)
			if at := slices.IndexFunc(strangers, func(s Contact) bool { return !s.Stranger && s.Name == name }); !ok && at >= 0 {
				c, ok = strangers[at], true
			}
			if !ok {
				return nil, fmt.Errorf("no witness %q in the book: its entry gives the key that it must hold", name)
			}
			if !slices.ContainsFunc(out, func(o Contact) bool { return o.Key == c.Key }) {
				out = append(out, c)
			}
		}
	case w.Near.IsValid():
		out = b.sortByDistance(w.Near, t)
	default:
		out = slices.Concat(b.Witnesses, strangers)
		random.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
		if w.Random > 0 {
			out = out[:min(w.Random, len(out))]
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no witness to ask: the book has none, and no relay knows one")
	}
	return out, nil
}

// sortByDistance orders the book by the links between the ASes, and within one
// distance by the leading bits that the point has in common with a network.
func (b *Book) sortByDistance(point netip.Addr, t *Table) []Contact {
	distance := map[uint32]int{}
	if t != nil {
		if as, ok := t.Origin(point); ok {
			distance = t.Distances(as)
		}
	}
	links := func(c *Contact) int {
		if d, ok := distance[c.AS]; ok && c.AS != 0 {
			return d
		}
		return math.MaxInt
	}
	out := slices.Clone(b.Witnesses)
	slices.SortStableFunc(out, func(x, y Contact) int {
		return cmp.Or(cmp.Compare(links(&x), links(&y)), cmp.Compare(commonBits(y.Networks, point), commonBits(x.Networks, point)))
	})
	return out
}

// commonBits is how many leading bits the point shares with the closest network;
// -1 if there is none of its family.
func commonBits(networks []netip.Prefix, point netip.Addr) int {
	best := -1
	for _, p := range networks {
		if p.Addr().Is4() != point.Is4() {
			continue
		}
		same, a, b := 0, p.Addr().AsSlice(), point.AsSlice()
		for i := range a {
			n := bits.LeadingZeros8(a[i] ^ b[i])
			if same += n; n < 8 {
				break
			}
		}
		best = max(best, min(same, p.Bits()))
	}
	return best
}

// Stages cuts a list into stages: the first of the given size, each further one
// twice as large as that before. A size of 0 makes one stage.
func Stages(contacts []Contact, first int) (out [][]Contact) {
	if first < 1 {
		first = len(contacts)
	}
	for len(contacts) > 0 {
		n := min(first, len(contacts))
		out = append(out, contacts[:n])
		contacts, first = contacts[n:], 2*first
	}
	return out
}
