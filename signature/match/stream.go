package match

import "slices"

// Stream matches one sequence that arrives in chunks. The verdict does not
// depend on how it is cut. Memory is bounded by the widest signature and the
// largest chunk.
type Stream struct {
	m *Matcher
	// buf holds the newest bytes; base is where it starts in the sequence.
	buf  []byte
	base int64
	// next is the first anchor position not yet searched, per part, and
	// seen how far exact strings were looked for; both in the sequence.
	states []setState
	ready  int64 // first window not yet given to the prefilter
}

type setState struct {
	parts    []PartScore
	next     []int64
	exact    bool
	features []float64 // running sums
	windows  []int64   // first window not yet summed, per feature
}

// step is how many bytes are collected before they are searched.
const step = 32 << 10

// NewStream starts a sequence.
func (m *Matcher) NewStream() *Stream {
	s := &Stream{m: m, states: make([]setState, len(m.sets))}
	for i := range s.states {
		st, set := &s.states[i], &m.sets[i]
		st.parts = make([]PartScore, len(set.parts))
		st.next = make([]int64, len(set.parts))
		if set.family != nil {
			st.features = make([]float64, len(set.family.scans))
			st.windows = make([]int64, len(set.family.scans))
		}
	}
	return s
}

// Write takes the next bytes of the sequence. It never fails.
func (s *Stream) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		take := min(len(p), step)
		s.buf = append(s.buf, p[:take]...)
		p = p[take:]
		if len(s.buf) >= 2*s.m.keep+step {
			s.searchParts(false)
			s.dropBytes()
		}
	}
	return n, nil
}

// Lost reports that n bytes of the sequence are missing here: no window may
// span the gap, and positions include it.
func (s *Stream) Lost(n int64) {
	s.searchParts(true)
	s.base += int64(len(s.buf)) + n
	s.buf = s.buf[:0]
	s.ready = s.base
	for i := range s.states {
		for j := range s.states[i].next {
			s.states[i].next[j] = s.base
		}
		for j := range s.states[i].windows {
			s.states[i].windows[j] = s.base
		}
	}
}

// Verdict returns the verdict of every signature on what has arrived so far, but
// for windows that may still grow. It does not end the sequence.
func (s *Stream) Verdict() []Result {
	s.searchParts(false)
	s.dropBytes()
	out := make([]Result, len(s.states))
	for i := range out {
		out[i] = s.m.sets[i].makeVerdict(&s.states[i])
		out[i].Parts = slices.Clone(out[i].Parts)
	}
	return out
}

// Held is how many bytes of the sequence are kept.
func (s *Stream) Held() int { return cap(s.buf) }

// Close ends the sequence and returns the verdict of every signature.
func (s *Stream) Close() []Result {
	s.searchParts(true)
	out := make([]Result, len(s.states))
	for i := range out {
		out[i] = s.m.sets[i].makeVerdict(&s.states[i])
	}
	return out
}

// searchParts searches all anchors whose whole reach has arrived; at the end,
// all.
func (s *Stream) searchParts(last bool) {
	if s.m.prefilter != nil && len(s.buf) >= gram {
		s.m.prefilter.searchWindows(s, last)
	}
	for i := range s.states {
		st, set := &s.states[i], &s.m.sets[i]
		for j, p := range set.parts {
			if !s.m.prefilter.coversPart(i, j) {
				s.searchPart(&st.parts[j], &st.next[j], p, last)
			}
		}
		if !st.exact {
			st.exact = containsExact(s.buf, set.signature.Exact)
		}
		if set.family != nil {
			s.sumFeatures(st, set.family, last)
		}
	}
}

func (s *Stream) searchPart(best *PartScore, next *int64, p *part, last bool) {
	from := int(*next - s.base)
	to := len(s.buf) - p.after // last anchor with all its reach
	if last {
		to = len(s.buf)
	}
	if to < from {
		return
	}
	limit := p.limit
	if best.Reached {
		limit = best.units + 1
	}
	if at, score := p.searchPart(s.buf, from, to, limit); at >= 0 {
		*best = PartScore{Reached: true, At: s.base + int64(at), units: score}
	}
	*next = s.base + int64(to) + 1
}

func (s *Stream) sumFeatures(st *setState, f *family, last bool) {
	for j, scan := range f.scans {
		from := int(st.windows[j] - s.base)
		if from > len(s.buf) {
			continue
		}
		scan.Scan(s.buf[from:], func(_ int, units int32) int32 {
			st.features[j] += featureTerm(units, f.prior[j])
			return scan.limit
		})
		if n := len(s.buf) - scan.table.Width() + 1; n > from {
			st.windows[j] = s.base + int64(n)
		}
	}
}

// dropBytes drops the bytes that no part needs any more.
func (s *Stream) dropBytes() {
	if drop := len(s.buf) - s.m.keep; drop > 0 {
		s.buf = append(s.buf[:0], s.buf[drop:]...)
		s.base += int64(drop)
	}
}
