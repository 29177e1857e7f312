package zeek

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"

	"dragnet/flow"
)

// tsv splits lines under one header into the wanted columns.
type tsv struct {
	head *header
	want []place
	// starts holds, during one line, where each value begins, up to the one
	// after the last wanted column.
	starts []uint32
}

// place is the position of a wanted column in a line.
type place struct {
	col   column
	index int
}

// useHeader makes t ready for lines under h.
func (t *tsv) useHeader(h *header, cols flow.Columns) {
	t.head, t.want = h, t.want[:0]
	last := 0
	for c, want := range wantedColumns(cols) {
		if want && h.at[c] >= 0 {
			t.want = append(t.want, place{column(c), h.at[c]})
			last = max(last, h.at[c])
		}
	}
	t.starts = slices.Grow(t.starts[:0], last+2)[:last+2]
	t.starts[0] = 0
}

// splitLine points r at the wanted values of line.
func (t *tsv) splitLine(line []byte, r *row) fault {
	n := findSeparators(line, t.head.separator, t.starts[1:])
	if n == len(t.starts)-1 {
		n += bytes.Count(line[t.starts[n]:], []byte{t.head.separator})
	} else {
		t.starts[n+1] = uint32(len(line)) + 1
	}
	if n != t.head.columns-1 {
		return fault{why: wrongCount, a: n + 1, b: t.head.columns}
	}
	r.line = line
	for _, p := range t.want {
		s := span{t.starts[p.index], t.starts[p.index+1]}
		if equalsString(line[s.from:s.past-1], t.head.unset) {
			s = span{}
		}
		r.at[p.col] = s
	}
	// Of the wanted columns, only history can hold an empty text.
	if h := &r.at[colHistory]; h.past != 0 && equalsString(line[h.from:h.past-1], t.head.empty) {
		h.past = h.from + 1
	}
	return fault{}
}

// equalsString compares as == does, but most values differ in their first byte.
func equalsString(v []byte, s string) bool {
	return len(v) == len(s) && (len(v) == 0 || v[0] == s[0] && string(v) == s)
}

// findSeparators writes the positions after each sep in line into at, until at
// is full, and returns how many it wrote.
//
// It compares eight bytes at a time: in x, a byte is zero where line holds sep,
// and the sum below leaves the top bit of exactly those bytes clear.
func findSeparators(line []byte, sep byte, at []uint32) int {
	const low7, top = 0x7f7f7f7f7f7f7f7f, 0x8080808080808080
	pattern := uint64(sep) * 0x0101010101010101
	n, i := 0, 0
	for ; i+8 <= len(line); i += 8 {
		x := binary.LittleEndian.Uint64(line[i:]) ^ pattern
		for found := ^((x&low7 + low7) | x) & top; found != 0; found &= found - 1 {
			if n == len(at) {
				return n
			}
			at[n] = uint32(i+bits.TrailingZeros64(found)/8) + 1
			n++
		}
	}
	for ; i < len(line) && n < len(at); i++ {
		if line[i] == sep {
			at[n] = uint32(i) + 1
			n++
		}
	}
	return n
}
