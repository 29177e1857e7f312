package match

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"unsafe"
)

// prefilter finds the windows of many selective parts in one pass. A window
// that reaches its limit is at most budget units below its top score. Split its
// positions into m groups of 3 and go round them in a circle: from at least one
// of them on, the first j groups together are never more than j*budget/m below,
// for every j (the cycle lemma). So the window has, at that group, three bytes
// at most budget/m below: one of a few strings if the limit is high. Only where
// one occurs are the other groups checked, and only if they pass is the window
// judged. No window that reaches the limit is missed.
type prefilter struct {
	covered map[[2]int]bool
	parts   []coveredPart
	width   int // the widest covered part
	// bits has a bit per three-byte string. The r-th string suggests
	// cands[runs[r]:runs[r+1]]; rank counts the strings before each word.
	bits   *[grams / 64]uint64
	rank   *[grams / 64]uint32
	runs   []uint32
	cands  []candidate
	kernel Kernel
	lanes  [64]byte
}

// coveredPart is a part prepared for that check: deficits are in units of unit,
// rounded down to a byte so that more of them stay in the cache.
type coveredPart struct {
	*part
	set, index   int
	deficits     [][256]uint8
	unit, budget int64
	groups       int
}

func newCovered(p *part, set, index int) coveredPart {
	t := p.tables[0]
	c := coveredPart{part: p, set: set, index: index, budget: int64(t.top - p.limit), groups: p.width / gram}
	c.unit = 1 + c.budget/255 // a deficit saturated at 255 exceeds the budget
	for p := range t.deficits {
		var row [256]uint8
		for x, d := range t.deficits[p] {
			row[x] = uint8(min(int64(d)/c.unit, 255))
		}
		c.deficits = append(c.deficits, row)
	}
	return c
}

// candidate is a part that a three-byte string suggests, the group of the
// part's positions where the string would be, and how far the string is below
// the top there.
type candidate struct{ part, group, lack uint16 }

const (
	gram  = 3
	grams = 1 << (8 * gram)
	// fewest is the number of parts from which a prefilter is cheaper than
	// scanning each.
	fewest = 16
	// mostStrings and mostRate bound one part's strings to store, and the share
	// of ordinary bytes at which it is suggested.
	mostStrings = 30000
	mostRate    = 0.004
)

func newPrefilter(m *Matcher, k Kernel) *prefilter {
	f := &prefilter{covered: map[[2]int]bool{}, kernel: k, lanes: laneIndex(k)}
	var all []suggestion
	for i := range m.sets {
		for j, p := range m.sets[i].parts {
			strings, ok := p.selectStrings()
			if !ok || len(f.parts) == math.MaxUint16 {
				continue
			}
			for k := range strings {
				strings[k].part = uint16(len(f.parts))
			}
			all = append(all, strings...)
			f.parts = append(f.parts, newCovered(p, i, j))
			f.covered[[2]int{i, j}] = true
			f.width = max(f.width, p.width)
		}
	}
	if len(f.covered) < fewest {
		return nil
	}
	slices.SortStableFunc(all, func(a, b suggestion) int { return cmp.Compare(a.gram, b.gram) })
	f.bits, f.rank = new([grams / 64]uint64), new([grams / 64]uint32)
	for i, e := range all {
		if i == 0 || e.gram != all[i-1].gram {
			f.bits[e.gram/64] |= 1 << (e.gram % 64)
			f.runs = append(f.runs, uint32(i))
		}
		f.cands = append(f.cands, e.candidate)
	}
	f.runs = append(f.runs, uint32(len(all)))
	n := uint32(0)
	for w, b := range f.bits {
		f.rank[w] = n
		n += uint32(bits.OnesCount64(b))
	}
	m.keep = max(m.keep, 2*f.width)
	return f
}

// coversPart reports whether part j of set i is left to the prefilter.
func (f *prefilter) coversPart(i, j int) bool { return f != nil && f.covered[[2]int{i, j}] }

type suggestion struct {
	gram uint32
	candidate
}

// selectStrings lists the three-byte strings of p's groups within their share
// of the budget, unless they are too many to be selective.
func (c *part) selectStrings() ([]suggestion, bool) {
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
	traffic := blendTraffic(&t.bg)
	rate := 0.0
	var out []suggestion
	for g := range groups {
		var by [gram][]int // byte values of each position, the best first
		for i := range by {
			by[i] = orderBytes(&t.deficits[g*gram+i])
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
					out = append(out, suggestion{uint32(x)<<16 | uint32(y)<<8 | uint32(z), candidate{group: uint16(g), lack: uint16(min(d[0][x]+d[1][y]+d[2][z], math.MaxUint16))}})
					if len(out) > mostStrings || rate > mostRate {
						return nil, false
					}
				}
			}
		}
	}
	return out, true
}

func orderBytes(deficits *[256]int32) []int {
	by := make([]int, 256)
	for x := range by {
		by[x] = x
	}
	slices.SortStableFunc(by, func(a, b int) int { return cmp.Compare(deficits[a], deficits[b]) })
	return by
}

// searchWindows judges the windows suggested by strings, as far as the windows
// have arrived completely.
func (f *prefilter) searchWindows(s *Stream, last bool) {
	from, to := int(s.ready-s.base), len(s.buf)-f.width
	if last {
		to = len(s.buf) - gram
	}
	if from > to {
		return
	}
	var found [batch / 64]uint64
	var hits [batch]hit
	for ; from <= to; from += batch {
		n := min(batch, to+1-from)
		f.markOccurrences(s.buf[from:], n, &found)
		// Look-ups first, as many of them miss the cache at a time.
		for _, h := range hits[:f.findHits(s.buf[from:], n, &found, &hits)] {
			for _, c := range f.cands[f.runs[h.run]:f.runs[h.run+1]] {
				f.judgeWindow(s, from+int(h.at), c)
			}
		}
	}
	s.ready = s.base + int64(to) + 1
}

// batch is how many positions are looked up at a time.
const batch = 1 << 10

// hit is where a stored string occurs and which one it is.
type hit struct{ at, run uint32 }

// markOccurrences marks the positions among the first n of buf, which has n+2
// bytes or more, where a stored string starts. It does not branch on each:
// strings occur too often for the branch to be predicted.
func (f *prefilter) markOccurrences(buf []byte, n int, found *[batch / 64]uint64) {
	clear(found[:])
	done := 0
	switch f.kernel {
	case VBMI:
		done = min(n, max(len(buf)-16, 0)) &^ 63
		if done > 0 {
			stringsVBMI((*uint16)(unsafe.Pointer(found)), &buf[0], done/16, f.bits, &f.lanes)
		}
	case AVX2:
		done = min(n, max(len(buf)-16, 0)) &^ 63
		if done > 0 {
			stringsAVX2((*uint8)(unsafe.Pointer(found)), &buf[0], done/8, f.bits, (*[32]byte)(f.lanes[:32]))
		}
	}
	for ; done < n; done += 64 {
		found[done/64] = f.markWord(buf[done : min(done+64, n)+gram-1])
	}
}

// markWord is markOccurrences for up to 64 positions.
func (f *prefilter) markWord(buf []byte) (w uint64) {
	g := uint32(buf[0])<<8 | uint32(buf[1])
	for i, b := range buf[gram-1:] {
		g = (g<<8 | uint32(b)) & (grams - 1)
		w |= f.bits[g/64] >> (g % 64) & 1 << (i & 63)
	}
	return w
}

// findHits finds the strings that were marked.
func (f *prefilter) findHits(buf []byte, n int, found *[batch / 64]uint64, hits *[batch]hit) int {
	k := 0
	for w := range (n + 63) / 64 {
		for mask := found[w]; mask != 0; mask &= mask - 1 {
			at := uint32(w*64 + bits.TrailingZeros64(mask))
			b := buf[at:][:gram]
			g := uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2])
			hits[k] = hit{at, f.rank[g/64] + uint32(bits.OnesCount64(f.bits[g/64]&(1<<(g%64)-1)))}
			k++
		}
	}
	return k
}

// laneIndex spreads positions to lanes of four bytes, the last of which is one that
// is zero: those of 16 positions for VBMI, those of 4 in either half for AVX2.
func laneIndex(k Kernel) (index [64]byte) {
	for i := range index {
		lane, b := i/4, i%4
		switch {
		case k == AVX2 && b == gram:
			index[i] = 0x80
		case b == gram:
			index[i] = 63
		default:
			index[i] = byte(lane + gram - 1 - b)
		}
	}
	return index
}

// judgeWindow scores the window that has candidate c's string at s.buf[at:].
func (f *prefilter) judgeWindow(s *Stream, at int, c candidate) {
	p := &f.parts[c.part]
	start := at - int(c.group)*gram
	if start < 0 || start+p.width > len(s.buf) || !p.isPlausible(s.buf[start:start+p.width], c) {
		return
	}
	best := &s.states[p.set].parts[p.index]
	limit := p.limit
	if best.Reached {
		limit = best.units // an equal score wins if it comes earlier
	}
	units, ok := p.scan.exactScore(s.buf[start:], p.scan.table.top-limit)
	if pos := s.base + int64(start); ok && (!best.Reached || units > best.units || pos < best.At) {
		*best = PartScore{Reached: true, At: pos, units: units}
	}
}

// isPlausible checks the groups in a circle from the candidate's.
func (p *coveredPart) isPlausible(w []byte, c candidate) bool {
	lack, m, g := int64(c.lack), int64(p.groups), int(c.group)
	for j := int64(2); j <= m; j++ {
		if g++; g == p.groups {
			g = 0
		}
		d, x := p.deficits[g*gram:][:gram], w[g*gram:][:gram]
		lack += p.unit * (int64(d[0][x[0]]) + int64(d[1][x[1]]) + int64(d[2][x[2]]))
		if lack*m > j*p.budget {
			return false
		}
	}
	return true
}
