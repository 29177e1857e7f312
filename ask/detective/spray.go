package detective

import (
	"maps"
	"math"

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
// would: one that has not seen the traffic and wants to be opened all the same must
// answer under every tuple that fits the keys. Its own claim of flows is not believed
// by itself: it counts up to mostTuples, up to growth times what it claimed before,
// and if enough others of its size or larger answered, it may not exceed the most
// that one of those returned. So it is final only once all have answered.
func (q *Inquiry) Sprays(h *TestimonySummary) bool {
	flows := min(float64(h.Flows), mostTuples)
	if e := q.sources[h.Name].Earlier; e.Inquiries >= enoughInquiries {
		flows = min(flows, growth*float64(e.Flows))
	}
	limit := sprayFactor * q.expectedAnswers(flows)
	if most, peers := q.answersOfPeers(h); peers >= enoughPeers {
		limit = min(limit, sprayFactor*most)
	}
	return float64(h.Answers) > limit+q.askedAnswers()+sprayRest
}

// answersOfPeers is the most that another organisation's verified witness of a like
// size returned, and how many of them there are, one for each class.
func (q *Inquiry) answersOfPeers(h *TestimonySummary) (most float64, peers int) {
	classes := map[string]bool{}
	for i := range q.witnesses {
		other := &q.witnesses[i]
		s := q.sources[other.Name]
		if s.class() == q.classOf(h.Name) || !s.Verified || other.Refused != "" || float64(other.Flows) < min(float64(h.Flows), mostTuples)/alike {
			continue
		}
		classes[s.class()] = true
		most = max(most, float64(other.Answers))
	}
	return most, len(classes)
}

// expectedAnswers is how many tuples have one of the keys asked by chance, if each of
// the flows is of another tuple.
func (q *Inquiry) expectedAnswers(flows float64) (expected float64) {
	for _, clues := range q.askedClues() {
		// A join gives no more than its rarest clue; each flow falls into one
		// of the keys asked with their share of all keys.
		least := flows
		for _, i := range clues {
			share := float64(len(q.clues[i].tuples)) / countKeys(&q.config)
			least = min(least, flows*min(1, share))
		}
		expected += least
	}
	return expected
}

// askedAnswers is how many answers there are if all that was asked about was seen,
// which peers need not have.
func (q *Inquiry) askedAnswers() (asked float64) {
	for _, clues := range q.askedClues() {
		least := math.Inf(1)
		for _, i := range clues {
			least = min(least, float64(len(q.clues[i].tuples)))
		}
		asked += least
	}
	return asked
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
	for i := range q.witnesses {
		q.witnesses[i].Sprays = q.Sprays(&q.witnesses[i])
	}
}

// believable is what was said of a host by witnesses that did not spray.
func (q *Inquiry) believable(s *suspect) *suspect {
	sprays := map[string]bool{}
	for i := range q.witnesses {
		if q.witnesses[i].Sprays {
			sprays[q.witnesses[i].Name] = true
		}
	}
	if len(sprays) == 0 {
		return s
	}
	out := &suspect{said: maps.Clone(s.said)}
	maps.DeleteFunc(out.said, func(k statement, _ dossier.StatedClue) bool { return sprays[k.witness] })
	for _, m := range s.matches {
		if !sprays[m.witness] {
			out.matches = append(out.matches, m)
		}
	}
	return out
}
