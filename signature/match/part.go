package match

import (
	"math"

	"dragnet/dossier"
)

// part is a compiled dossier.Part. Its anchor, the most informative block, is
// searched; the other blocks are then placed around each position where the
// part can still reach its limit.
type part struct {
	tables []*Table
	gaps   []dossier.Gap
	anchor int
	scan   *Scanner
	limit  int32 // of the whole part
	width  int
	others int32 // the highest score of all blocks but the anchor
	// before and after bound where the part can lie around the anchor's start.
	before, after int
}

// Anchor is the index of the block of p that is looked for first, the one with the highest
// best score; PartScore.At is where that starts.
func Anchor(p *dossier.Part, bg *dossier.Background) (anchor int) {
	top := int32(math.MinInt32)
	for i := range p.Blocks {
		if t := NewTable(&p.Blocks[i], bg); t.top > top {
			anchor, top = i, t.top
		}
	}
	return anchor
}

func newPart(p *dossier.Part, bg *dossier.Background, threshold float64, k Kernel) *part {
	c := &part{width: p.Width(), limit: limitAbove(threshold, p.Width())}
	for i := range p.Blocks {
		t := NewTable(&p.Blocks[i], bg)
		c.tables = append(c.tables, t)
		c.gaps = append(c.gaps, p.Blocks[i].Gap)
		if t.top > c.tables[c.anchor].top {
			c.anchor = i
		}
	}
	for i, t := range c.tables {
		if i != c.anchor {
			c.others += t.top
		}
		if i < c.anchor {
			c.before += t.Width() + c.gaps[i+1].Max
		} else {
			c.after += t.Width()
			if i > c.anchor {
				c.after += c.gaps[i].Max
			}
		}
	}
	c.scan = NewScanner(c.tables[c.anchor], c.limit-c.others, k)
	return c
}

// searchPart looks at anchors that start at from or later in data, no later than
// to, for a part that scores at least limit. It returns the first best.
func (c *part) searchPart(data []byte, from, to int, limit int32) (at int, score int32) {
	at, score = -1, math.MinInt32
	end := min(len(data), to+c.tables[c.anchor].Width())
	if end-from < c.tables[c.anchor].Width() {
		return at, score
	}
	c.scan.scanWith(c.scan.filterFor(), data[from:end], limit-c.others, func(i int, s int32) int32 {
		if len(c.tables) > 1 {
			var ok bool
			if s, ok = c.placeBlocks(data, from+i, s); !ok || s < limit {
				return limit - c.others
			}
		}
		at, score, limit = from+i, s, s+1
		return limit - c.others
	})
	return at, score
}

// placeBlocks adds the best placement of the other blocks to an anchor's score.
func (c *part) placeBlocks(data []byte, at int, score int32) (int32, bool) {
	// right[e] is the best sum of the blocks so far that ends at e.
	ends := map[int]int32{at + c.tables[c.anchor].Width(): 0}
	for i := c.anchor + 1; i < len(c.tables); i++ {
		next := map[int]int32{}
		for e, sum := range ends {
			for g := c.gaps[i].Min; g <= c.gaps[i].Max; g++ {
				if stop := e + g + c.tables[i].Width(); stop <= len(data) {
					keepBest(next, stop, sum+c.tables[i].Score(data[e+g:]))
				}
			}
		}
		ends = next
	}
	starts := map[int]int32{at: 0}
	for i := c.anchor - 1; i >= 0; i-- {
		next := map[int]int32{}
		for s, sum := range starts {
			for g := c.gaps[i+1].Min; g <= c.gaps[i+1].Max; g++ {
				if start := s - g - c.tables[i].Width(); start >= 0 {
					keepBest(next, start, sum+c.tables[i].Score(data[start:]))
				}
			}
		}
		starts = next
	}
	left, ok := bestOf(starts)
	right, ok2 := bestOf(ends)
	return score + left + right, ok && ok2
}

func keepBest(m map[int]int32, at int, v int32) {
	if old, ok := m[at]; !ok || v > old {
		m[at] = v
	}
}

func bestOf(m map[int]int32) (int32, bool) {
	top := int32(math.MinInt32)
	for _, v := range m {
		top = max(top, v)
	}
	return top, len(m) > 0
}
