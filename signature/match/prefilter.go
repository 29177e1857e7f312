package match

import (
	"cmp"
	"slices"
)

// prefilter finds the windows of many selective parts in one pass. A window
// that reaches its limit lacks at most budget units of its top. Split its
// positions into m groups of 3: not all groups can lack more than budget/m
// each, so one of them holds three bytes that lack no more. The three-byte
// strings that lack so little are few where the limit is high; only where one
// occurs is the window judged. Nothing that reaches the limit is missed.
type prefilter struct {
	covered map[[2]int]bool
	width   int // the widest covered part
	// few has a bit per hash and stays in a near cache; bits has a bit per
	// three-byte string; keys, runs and cands hold what a string suggests.
	few   *[fewBits / 64]uint64
	bits  []uint64
	keys  []uint32 // string + 1; 0 is empty
	runs  []span
	cands []candidate
}

type span struct{ from, to uint32 }

// candidate is a part that a three-byte string suggests: the window starts
// offset bytes before the string.
type candidate struct{ set, part, offset uint16 }

const (
	gram    = 3
	fewBits = 1 << 21
	// fewest is how many parts make a prefilter cheaper than scanning each.
	fewest = 16
	// mostStrings and mostRate bound what one part may add: the strings to
	// store, and the share of ordinary bytes at which it is suggested.
	mostStrings = 30000
	mostRate    = 0.002
)

func newPrefilter(m *Matcher) *prefilter {
	f := &prefilter{covered: map[[2]int]bool{}}
	type entry struct {
		gram uint32
		candidate
	}
	var all []entry
	for i := range m.sets {
		for j, p := range m.sets[i].parts {
			strings, ok := p.strings()
			if !ok {
				continue
			}
			f.covered[[2]int{i, j}] = true
			f.width = max(f.width, p.width)
			for _, s := range strings {
				all = append(all, entry{s.gram, candidate{uint16(i), uint16(j), s.offset}})
			}
		}
	}
	if len(f.covered) < fewest || len(m.sets) > 1<<16-1 {
		return nil
	}
	slices.SortStableFunc(all, func(a, b entry) int { return cmp.Compare(a.gram, b.gram) })
	size := 1024
	for size < 2*len(all) {
		size *= 2
	}
	f.few = new([fewBits / 64]uint64)
	f.bits, f.keys, f.runs = make([]uint64, 1<<24/64), make([]uint32, size), make([]span, size)
	for from := 0; from < len(all); {
		to := from
		for ; to < len(all) && all[to].gram == all[from].gram; to++ {
			f.cands = append(f.cands, all[to].candidate)
		}
		g := all[from].gram
		f.bits[g/64] |= 1 << (g % 64)
		f.few[few(g)/64] |= 1 << (few(g) % 64)
		at := slot(g, size)
		for f.keys[at] != 0 {
			at = (at + 1) & (size - 1)
		}
		f.keys[at], f.runs[at] = g+1, span{uint32(from), uint32(to)}
		from = to
	}
	m.keep = max(m.keep, 2*f.width)
	return f
}

// few hashes a string to 21 bits.
func few(g uint32) uint32 { return g * 2654435761 >> 11 }

func slot(g uint32, size int) int { return int(g*2654435761>>7) & (size - 1) }

// covers reports whether part j of set i is left to the prefilter.
func (f *prefilter) covers(i, j int) bool { return f != nil && f.covered[[2]int{i, j}] }

type suggestion struct {
	gram   uint32
	offset uint16
}

// strings lists the three-byte strings of p's groups that lack no more than
// their share of the budget, unless they are too many to be selective.
func (c *part) strings() ([]suggestion, bool) {
	groups := c.width / gram
	if len(c.tables) > 1 || groups == 0 || c.width > 1<<12 {
		return nil, false
	}
	t := c.tables[0]
	budget := t.top - c.limit
	if budget < 0 {
		return nil, false
	}
	share := budget / int32(groups)
	traffic := blend(&t.bg)
	rate := 0.0
	var out []suggestion
	for g := range groups {
		var by [gram][]int // byte values of each position, the best first
		for i := range by {
			by[i] = ordered(&t.deficits[g*gram+i])
		}
		d := t.deficits[g*gram:]
		for _, x := range by[0] {
			left := share - d[0][x]
			if left < 0 {
				break
			}
			for _, y := range by[1] {
				if d[1][y] > left {
					break
				}
				for _, z := range by[2] {
					if d[1][y]+d[2][z] > left {
						break
					}
					rate += traffic[x] * traffic[y] * traffic[z]
					out = append(out, suggestion{uint32(x)<<16 | uint32(y)<<8 | uint32(z), uint16(g * gram)})
					if len(out) > mostStrings || rate > mostRate {
						return nil, false
					}
				}
			}
		}
	}
	return out, true
}

func ordered(deficits *[256]int32) []int {
	by := make([]int, 256)
	for x := range by {
		by[x] = x
	}
	slices.SortStableFunc(by, func(a, b int) int { return cmp.Compare(deficits[a], deficits[b]) })
	return by
}

// search judges the windows suggested by strings that begin where all windows
// they suggest have arrived.
func (f *prefilter) search(s *Stream, last bool) {
	from, to := int(s.ready-s.base), len(s.buf)-f.width
	if last {
		to = len(s.buf) - gram
	}
	if from > to {
		return
	}
	buf := s.buf[:to+gram]
	g := uint32(buf[from])<<8 | uint32(buf[from+1])
	nearest := f.few
	for i, b := range buf[from+2:] {
		g = (g<<8 | uint32(b)) & (1<<24 - 1)
		if h := few(g); nearest[h/64]>>(h%64)&1 == 1 && f.bits[g/64]>>(g%64)&1 == 1 {
			f.judge(s, from+i, g)
		}
	}
	s.ready = s.base + int64(to) + 1
}

func (f *prefilter) judge(s *Stream, at int, g uint32) {
	i := slot(g, len(f.keys))
	for f.keys[i] != g+1 {
		i = (i + 1) & (len(f.keys) - 1)
	}
	for _, c := range f.cands[f.runs[i].from:f.runs[i].to] {
		p := s.m.sets[c.set].parts[c.part]
		start := at - int(c.offset)
		if start < 0 || start+p.width > len(s.buf) {
			continue
		}
		best := &s.states[c.set].parts[c.part]
		limit := p.limit
		if best.Reached {
			limit = best.units // an equal score counts where it comes earlier
		}
		units, ok := p.scan.exact(s.buf[start:], p.scan.table.top-limit)
		if pos := s.base + int64(start); ok && (!best.Reached || units > best.units || pos < best.At) {
			*best = PartScore{Reached: true, At: pos, units: units}
		}
	}
}
