package zeek

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	"dragnet/flow"
)

// tsv splits lines under one header into the columns somebody wants.
type tsv struct {
	head *header
	want []place
	// ends holds, during one line, where each of its values ends.
	ends []uint32
}

// place is where a wanted column stands in a line.
type place struct {
	col   column
	index int
}

// under makes t ready for lines under h.
func (t *tsv) under(h *header, cols flow.Columns) {
	if t.head == h {
		return
	}
	t.head, t.want = h, t.want[:0]
	for c, want := range wanted(cols) {
		if want && h.at[c] >= 0 {
			t.want = append(t.want, place{column(c), h.at[c]})
		}
	}
	t.ends = slices.Grow(t.ends[:0], h.columns)[:h.columns]
}

// split points r at the wanted values of line.
func (t *tsv) split(line []byte, r *row) fault {
	if n := separators(line, t.head.separator, t.ends); n != len(t.ends)-1 {
		n = bytes.Count(line, []byte{t.head.separator})
		return fault{why: wrongCount, a: n + 1, b: t.head.columns}
	}
	t.ends[len(t.ends)-1] = uint32(len(line))
	for _, p := range t.want {
		start := uint32(0)
		if p.index > 0 {
			start = t.ends[p.index-1] + 1
		}
		v := line[start:t.ends[p.index]]
		if string(v) == t.head.unset {
			v = nil
		} else if string(v) == t.head.empty {
			v = v[:0]
		}
		r[p.col] = v
	}
	return fault{}
}

// separators writes the positions of sep in line into at, and returns how many
// there are; it stops at len(at), which is one more than a whole line has.
//
// It compares eight bytes at a time: in x, a byte is zero where line holds sep,
// and the sum below leaves the top bit of exactly those bytes clear.
func separators(line []byte, sep byte, at []uint32) int {
	const low7, top = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	pattern := uint64(sep) * 0x0101010101010101
	n, i := 0, 0
	for ; i+8 <= len(line); i += 8 {
		x := binary.LittleEndian.Uint64(line[i:]) ^ pattern
		found := ^((x&low7 + low7) | x) & top
		for ; found != 0; found &= found - 1 {
			if n == len(at) {
				return n
			}
			at[n] = uint32(i + bits.TrailingZeros64(found)/8)
			n++
		}
	}
	for ; i < len(line); i++ {
		if line[i] == sep {
			if n == len(at) {
				return n
			}
			at[n] = uint32(i)
			n++
		}
	}
	return n
}
