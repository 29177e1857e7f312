package tokens

import (
	"bytes"

	"dragnet/dossier"
)

// Contains reports whether c occurs in data.
func Contains(data []byte, c dossier.Content) bool { return NewFinder(c).In(data) }

// Finder looks for a content in many sequences.
type Finder struct {
	pieces []piece
	anchor []byte // the longest run of fixed bytes before the first joint
	offset int    // where it is in the content
}

// piece is what lies between joints; up to most bytes may lie before it.
type piece struct {
	bytes []byte
	fixed []bool
	most  int
}

// NewFinder prepares c, which is valid.
func NewFinder(c dossier.Content) *Finder {
	f := &Finder{}
	from, most := 0, 0
	for _, j := range c.Joints {
		f.pieces = append(f.pieces, piece{c.Bytes[from:j.At], c.Fixed[from:j.At], most})
		from, most = j.At, j.Most
	}
	f.pieces = append(f.pieces, piece{c.Bytes[from:], c.Fixed[from:], most})
	first := f.pieces[0]
	for at := 0; at < len(first.fixed); {
		end := at
		for end < len(first.fixed) && first.fixed[end] {
			end++
		}
		if end-at > len(f.anchor) {
			f.anchor, f.offset = first.bytes[at:end], at
		}
		at = end + 1
	}
	return f
}

// In reports whether the content occurs in data.
func (f *Finder) In(data []byte) bool {
	for from := f.offset; from < len(data); {
		i := bytes.Index(data[from:], f.anchor)
		if i < 0 {
			return false
		}
		if start := from + i - f.offset; f.matches(data, start, 0) {
			return true
		}
		from += i + 1
	}
	return false
}

// matches reports whether piece k, and those after it, lie at one of the places that
// the bytes before at allow.
func (f *Finder) matches(data []byte, at, k int) bool {
	if k == len(f.pieces) {
		return true
	}
	p := &f.pieces[k]
next:
	for start := at; start <= at+p.most && start+len(p.bytes) <= len(data); start++ {
		for i, x := range p.bytes {
			if p.fixed[i] && data[start+i] != x {
				continue next
			}
		}
		if f.matches(data, start+len(p.bytes), k+1) {
			return true
		}
	}
	return false
}
