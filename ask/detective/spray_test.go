package detective

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// TestRankingIsEachWitnessAgainstAllOthers compares the ranking with a loop over all
// witnesses.
func TestRankingIsEachWitnessAgainstAllOthers(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		q := &Inquiry{sources: map[string]KnownWitness{}}
		for i := range rapid.IntRange(0, 12).Draw(r, "witnesses") {
			name := fmt.Sprint(i)
			w := TestimonySummary{Name: name, Flows: uint64(rapid.IntRange(0, 5).Draw(r, "flows")), Answers: rapid.IntRange(0, 5).Draw(r, "answers")}
			if rapid.IntRange(0, 4).Draw(r, "refused") == 0 {
				w.Refused = "no"
			}
			q.witnesses = append(q.witnesses, w)
			q.sources[name] = KnownWitness{Class: fmt.Sprint("c", rapid.IntRange(0, 3).Draw(r, "class")), Verified: rapid.IntRange(0, 4).Draw(r, "verified") > 0}
		}
		least := float64(rapid.IntRange(0, 6).Draw(r, "least")) / 2
		ranking := q.rankPeers()
		for i := range q.witnesses {
			class := q.classOf(q.witnesses[i].Name)
			most, classes := 0.0, map[string]bool{}
			for j := range q.witnesses {
				w := &q.witnesses[j]
				if s := q.sources[w.Name]; s.class() != class && s.Verified && w.Refused == "" && float64(w.Flows) >= least {
					classes[s.class()] = true
					most = max(most, float64(w.Answers))
				}
			}
			if got, n := ranking.answersOfPeers(class, least); got != most || n != len(classes) {
				r.Fatalf("class %s, at least %v flows: %v of %d classes, want %v of %d", class, least, got, n, most, len(classes))
			}
		}
	})
}
