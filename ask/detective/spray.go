package detective

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"sort"

	"dragnet/dossier"
)

// Bounds of what an honest witness returns: sprayFactor times what was to be
// expected, and sprayRest on top of that for small logs.
const (
	sprayFactor = 3
	sprayRest   = 64
	// mostTuples is how many different tuples of one mask the log of any witness is
	// taken to hold, whatever it claims.
	mostTuples = 1e8
	// growth is by how much a witness may claim more flows than it ever did.
	growth = 10
	// enoughPeers is how many other witnesses of a like size it takes to judge one by
	// them, and alike how much smaller than its claim they may be.
	enoughPeers = 2
	alike       = 4
)

// Earlier is what a witness said in earlier inquiries.
type Earlier struct {
	// Inquiries that it answered, and the most flows that it claimed in one.
	Inquiries int
	Flows     uint64
}

// enoughInquiries is how many earlier answers it takes to hold a witness to them.
const enoughInquiries = 3

// Sprays reports whether a witness returned far more answers than an honest one
// would. A witness that has not seen the traffic, and wants one of its answers to open,
// must answer under every tuple that fits the keys. Its claim of flows is not trusted
// alone: it counts up to mostTuples, up to growth times what it claimed before,
// and if enough others of its size or larger answered, it may not exceed the most
// that one of those returned. So it is final only once all have answered.
func (q *Inquiry) Sprays(h *TestimonySummary) bool { return q.sprays(h, q.rankPeers()) }

func (q *Inquiry) sprays(h *TestimonySummary, others *ranking) bool {
	flows := min(float64(h.Flows), mostTuples)
	if e := q.sources[h.Name].Earlier; e.Inquiries >= enoughInquiries {
		flows = min(flows, growth*float64(e.Flows))
	}
	limit := sprayFactor * q.expectedAnswers(flows)
	if most, peers := others.answersOfPeers(q.classOf(h.Name), min(float64(h.Flows), mostTuples)/alike); peers >= enoughPeers {
		limit = min(limit, sprayFactor*most)
	}
	return float64(h.Answers) > limit+q.askedAnswers()+sprayRest
}

// ranking is the verified witnesses that answered, those that claim most flows first.
type ranking struct {
	flows []float64
	upTo  []topAnswers   // of the witnesses up to each
	first map[string]int // where the first witness of a class is
}

// topAnswers is the most answers that a class's witness returned, and the most of
// another class's.
type topAnswers struct {
	class         string
	most, another float64
	classes       int
}

// rankPeers ranks the witnesses of the inquiry once; all of them are judged by it.
func (q *Inquiry) rankPeers() *ranking {
	r := &ranking{first: map[string]int{}}
	var ranked []*TestimonySummary
	for i := range q.witnesses {
		if w := &q.witnesses[i]; q.sources[w.Name].Verified && w.Refused == "" {
			ranked = append(ranked, w)
		}
	}
	slices.SortFunc(ranked, func(a, b *TestimonySummary) int { return cmp.Compare(b.Flows, a.Flows) })
	var top topAnswers
	for i, w := range ranked {
		class, answers := q.classOf(w.Name), float64(w.Answers)
		if _, known := r.first[class]; !known {
			r.first[class] = i
			top.classes++
		}
		switch {
		case class == top.class:
			top.most = max(top.most, answers)
		case answers > top.most:
			top.class, top.most, top.another = class, answers, top.most
		default:
			top.another = max(top.another, answers)
		}
		r.flows, r.upTo = append(r.flows, float64(w.Flows)), append(r.upTo, top)
	}
	return r
}

// answersOfPeers is the most that a witness of another class with at least that
// number of flows returned, and how many such classes there are.
func (r *ranking) answersOfPeers(class string, least float64) (most float64, classes int) {
	n := sort.Search(len(r.flows), func(i int) bool { return r.flows[i] < least })
	if n == 0 {
		return 0, 0
	}
	top := r.upTo[n-1]
	most, classes = top.most, top.classes
	if top.class == class {
		most = top.another
	}
	if at, known := r.first[class]; known && at < n {
		classes--
	}
	return most, classes
}

// expectedAnswers is how many tuples have one of the keys asked by chance, if each of
// the flows is of another tuple.
func (q *Inquiry) expectedAnswers(flows float64) (expected float64) {
	for _, kind := range q.kinds {
		// A join gives no more than its rarest clue; each flow falls into one
		// of the keys asked with their share of all keys.
		least := flows
		for _, i := range slices.Concat(kind.leaves, kind.negated) {
			least = min(least, q.expectedValues(flows, i))
		}
		if kind.count > 0 {
			// One busy host may have all values, and each choice of them is an answer. A
			// liar gains little: it would have to guess that many values at once.
			if len(kind.leaves) == 0 {
				least = 1
			}
			least = min(least*chooseFloat(q.expectedValues(flows, kind.of...), kind.count), dossier.MaxAnswers)
		}
		expected += least
	}
	return expected
}

// askedAnswers is how many answers there are if all that was asked about was seen,
// which peers need not have.
func (q *Inquiry) askedAnswers() (asked float64) {
	for _, kind := range q.kinds {
		if kind.count > 0 {
			asked += float64(q.combinations(&kind))
			continue
		}
		least := math.Inf(1)
		for _, i := range slices.Concat(kind.leaves, kind.negated) {
			least = min(least, float64(len(q.clues[i].tuples)))
		}
		asked += least
	}
	return asked
}

// expectedValues is how many of the flows fall into one of the keys of some clues.
func (q *Inquiry) expectedValues(flows float64, clues ...int) float64 {
	keys := 0
	for _, i := range clues {
		keys += len(q.clues[i].tuples)
	}
	return flows * min(1, float64(keys)/countKeys(&q.config))
}

// chooseFloat is how many ways there are to choose k of n, at least 1.
func chooseFloat(n float64, k int) float64 {
	ways := 1.0
	for i := range k {
		ways *= max(1, n-float64(i)) / float64(i+1)
	}
	return max(1, ways)
}

// countKeys is how many values a key may have.
func countKeys(c *Configuration) float64 {
	if c.Hash.Bits == 0 {
		return 1 // a product's keys are not evenly spread: expect anything
	}
	return float64(uint64(1) << c.Hash.Bits)
}

// markSprays notes which witnesses sprayed, as far as can be told by now.
func (q *Inquiry) markSprays() {
	others := q.rankPeers()
	q.sprayed = map[string]bool{}
	for i := range q.witnesses {
		w := &q.witnesses[i]
		if w.Sprays = q.sprays(w, others); w.Sprays {
			q.sprayed[w.Name] = true
		}
	}
}

// believable returns what witnesses that did not spray, as last marked, said of a
// host, with its matches settled.
func (q *Inquiry) believable(s *suspect) *suspect {
	out := &suspect{said: s.said}
	if len(q.sprayed) > 0 {
		out.said = maps.Clone(s.said)
		maps.DeleteFunc(out.said, func(k statement, _ dossier.StatedClue) bool { return q.sprayed[k.witness] })
	}
	for _, m := range s.matches {
		if !q.sprayed[m.witness] {
			out.matches = append(out.matches, m)
		}
	}
	out.matches = settle(out.matches)
	return out
}
