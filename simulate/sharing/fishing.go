package sharing

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Fishing is a community of detectives some of whom ask a witness for private
// facts, disguised as patterns. The witness's policy judges every question;
// assumed is who asks what.
type Fishing struct {
	// Detectives are separate organisations, of which the share Fishers fishes.
	Detectives int
	Fishers    float64
	// Colluding fishers all ask for each fact, otherwise each asks for
	// different ones.
	Colluding bool
	// Incidents are what honest detectives ask about, each knowing each with
	// probability Knows; Facts are the targets of fishers.
	Incidents int
	Knows     float64
	Facts     int
	// Independent is a parameter of the policy: how many organisations must ask
	// the same.
	Independent int
	Seed        uint64
}

// DefaultFishing is a community of 20 detectives, three of whom know each
// incident on average.
func DefaultFishing() Fishing {
	return Fishing{Detectives: 20, Incidents: 20, Knows: 0.15, Facts: 20, Independent: 1, Seed: 1}
}

// FishingResult is how the policy served both.
type FishingResult struct {
	// Learned is the share of facts that fishers learned of.
	Learned float64
	// Served is the share of the incidents asked about that some honest
	// detective got an answer to.
	Served float64
}

// Run simulates one community: all ask, and ask again once the others have
// asked.
func (f Fishing) Run() (FishingResult, error) {
	rng := rand.New(rand.NewPCG(f.Seed, 2))
	rules := policy.Default()
	rules.Independent = f.Independent
	w := &questionHistory{rules: &rules, by: map[[sha256.Size]byte]map[int]bool{}}
	fishers := int(f.Fishers*float64(f.Detectives) + 0.5)
	incidents, facts := make([]subject, f.Incidents), make([]subject, f.Facts)
	for i := range incidents {
		s, err := w.newSubject(fmt.Sprintf("out dst=198.51.%d.7 dport=69 proto=udp", i))
		if err != nil {
			return FishingResult{}, err
		}
		for d := fishers; d < f.Detectives; d++ {
			if rng.Float64() < f.Knows {
				s.askers = append(s.askers, d)
			}
		}
		incidents[i] = s
	}
	for i := range facts {
		s, err := w.newSubject(fmt.Sprintf("out dst=203.0.%d.25 dport=443 proto=tcp", i))
		if err != nil {
			return FishingResult{}, err
		}
		for d := range fishers {
			if f.Colluding || i%fishers == d {
				s.askers = append(s.askers, d)
			}
		}
		facts[i] = s
	}
	for _, s := range append(append([]subject{}, incidents...), facts...) {
		w.recordQuestion(s)
	}
	return FishingResult{Learned: w.answeredShare(facts, f.Facts), Served: w.answeredShare(incidents, 0)}, nil
}

// subject is the target of a question, as a witness sees it.
type subject struct {
	question *dossier.Question
	askers   []int
}

// questionHistory is what a witness keeps of questions: who asked each.
type questionHistory struct {
	rules *policy.Rules
	by    map[[sha256.Size]byte]map[int]bool
}

// moment is the time of all questions.
var moment = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (w *questionHistory) newSubject(text string) (s subject, err error) {
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		return s, err
	}
	q, err := detective.New(detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 19}, Style: detective.Hybrid,
		Window: flow.AllTime, Epoch: moment.Format(time.DateOnly), Quorum: 1,
	}, p)
	if err != nil {
		return s, err
	}
	s.question = &dossier.Question{}
	return s, s.question.UnmarshalBinary(q.Question())
}

func (w *questionHistory) recordQuestion(s subject) {
	print := w.rules.DescribeAsked(s.question).Same
	if w.by[print] == nil {
		w.by[print] = map[int]bool{}
	}
	for _, d := range s.askers {
		w.by[print][d] = true
	}
}

// answeredShare is the share of subjects for which some asker is answered: of
// all if that is not zero, else of those asked about.
func (w *questionHistory) answeredShare(subjects []subject, all int) float64 {
	n, got := 0, 0
	for _, s := range subjects {
		if len(s.askers) == 0 {
			continue
		}
		n++
		a := policy.Asker{ID: fmt.Sprint(s.askers[0]), Class: fmt.Sprint("org", s.askers[0])}
		others := len(w.by[w.rules.DescribeAsked(s.question).Same]) - 1
		if w.rules.Judge(moment, a, s.question, policy.History{Others: others}).Refusal == dossier.Answered {
			got++
		}
	}
	if all != 0 {
		n = all
	}
	if n == 0 {
		return 0
	}
	return float64(got) / float64(n)
}
