package policy

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
)

// Asked is what one question may open, in a form in which it can be kept and
// compared with that of another.
type Asked struct {
	// Same is equal for questions of one shape: the same clues, joined in the same
	// way, whose keys agree in the first KeyPrefix bits.
	Same [sha256.Size]byte
	// Bits is the size of the keys.
	Bits uint8
	// Keys are those of all clues, in the order that Same was computed in.
	Keys []byte
}

// Within reports whether the answer to a opens nothing beyond that to b: their
// shape is the same, and each key of a lies in one of b. The windows are the
// caller's to compare. What a key hides cannot be compared; of the tuples that
// share a key, an answer opens one for each key asked.
func (a Asked) Within(b Asked) bool {
	if a.Same != b.Same || a.Bits < b.Bits || len(a.Keys) != len(b.Keys) {
		return false
	}
	mask := uint64(1)<<b.Bits - 1
	for at := 0; at < len(a.Keys); at += 8 {
		if binary.BigEndian.Uint64(a.Keys[at:])&mask != binary.BigEndian.Uint64(b.Keys[at:])&mask {
			return false
		}
	}
	return true
}

// DescribeAsked describes what a question asks, independent of the asker: its
// clues with masks, salts, states and keys, and how they are joined, in any
// order. Mode, reply key and blinding are left out.
func (r *Rules) DescribeAsked(q *dossier.Question) Asked {
	clues := make([]canonicalClue, len(q.Clues))
	for i := range q.Clues {
		clues[i] = canonicalOf(&q.Clues[i], min(r.KeyPrefix, int(q.Hash.Bits)), i)
	}
	slices.SortFunc(clues, func(a, b canonicalClue) int {
		if c := bytes.Compare(a.form, b.form); c != 0 {
			return c
		}
		return slices.Compare(a.keys, b.keys)
	})
	place := make([]int, len(clues))
	h := sha256.New()
	out := Asked{Bits: q.Hash.Bits}
	for i, c := range clues {
		place[c.index] = i
		writePart(h, c.form)
		for _, k := range c.keys {
			out.Keys = binary.BigEndian.AppendUint64(out.Keys, k)
		}
	}
	branches := make([][]byte, len(q.Branches))
	for i, b := range q.Branches {
		branches[i] = encodeNode(nil, b, place)
	}
	slices.SortFunc(branches, bytes.Compare)
	for _, b := range branches {
		writePart(h, b)
	}
	out.Same = [sha256.Size]byte(h.Sum(nil))
	return out
}

// writePart writes a part so that no two lists of parts are written alike.
func writePart(h interface{ Write([]byte) (int, error) }, part []byte) {
	binary.Write(h, binary.BigEndian, uint32(len(part))) // a hash takes everything
	h.Write(part)
}

type canonicalClue struct {
	form  []byte   // all but the bits of keys beyond the prefix
	keys  []uint64 // in the order of their first bits
	index int
}

func canonicalOf(c *dossier.AskedClue, prefix, index int) canonicalClue {
	out := canonicalClue{index: index}
	code := c.Mask.Code()
	out.form = append([]byte{byte(c.End), byte(c.State), byte(c.State >> 8), byte(len(c.Bounds))}, code[:]...)
	for _, v := range c.Bounds {
		out.form = append(out.form, byte(v.Measure), byte(v.Least), byte(v.Most))
	}
	out.form = append(out.form, c.Salt[:]...)
	for _, k := range c.Keys {
		out.keys = append(out.keys, uint64(k.K))
	}
	// Keys nest from their low bits up: with those reversed in weight, the
	// order of short keys is that of the long ones they were cut from.
	slices.SortFunc(out.keys, compareLowBits)
	for _, k := range out.keys {
		out.form = binary.BigEndian.AppendUint64(out.form, k&(1<<prefix-1))
	}
	return out
}

func compareLowBits(a, b uint64) int {
	for bit := range 64 {
		if x, y := a>>bit&1, b>>bit&1; x != y {
			return int(x) - int(y)
		}
	}
	return 0
}

// encodeNode writes a branch with its clues numbered by place. Both sides of And
// are in one order.
func encodeNode(dst []byte, n *pattern.Node, place []int) []byte {
	if n.Op == pattern.Leaf {
		return binary.BigEndian.AppendUint32(append(dst, byte(n.Op)), uint32(place[n.Clue]))
	}
	switch n.Op {
	case pattern.Not:
		return encodeNode(append(dst, byte(n.Op)), n.Left, place)
	case pattern.AtLeast:
		var places []int
		for _, clue := range n.Left.Leaves() {
			places = append(places, place[clue])
		}
		slices.Sort(places)
		dst = binary.BigEndian.AppendUint32(append(dst, byte(n.Op)), uint32(n.Count))
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(places)))
		for _, p := range places {
			dst = binary.BigEndian.AppendUint32(dst, uint32(p))
		}
		return dst
	}
	left, right := encodeNode(nil, n.Left, place), encodeNode(nil, n.Right, place)
	if n.Op == pattern.And && bytes.Compare(left, right) > 0 {
		left, right = right, left
	}
	dst = binary.BigEndian.AppendUint64(append(dst, byte(n.Op)), uint64(n.Within))
	return append(append(dst, left...), right...)
}
