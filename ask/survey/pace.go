package survey

import (
	"time"

	"dragnet/flow"
	"dragnet/flow/key"
)

// keepForPace copies the first flows read, without the parts that are valid
// only as long as their batch.
func (s *surveyor) keepForPace(batch []flow.Flow) {
	for i := range batch[:min(len(batch), paceFlows-len(s.pace))] {
		f := batch[i]
		f.History = ""
		s.pace = append(s.pace, f)
	}
}

// measurePace times one keyer on flows of the log: milliseconds per million, the
// best of several rounds, since others may use the machine.
func (s *surveyor) measurePace(keyer *key.Keyer) float64 {
	const rounds = 20
	var best time.Duration
	var sum key.K
	for round := range rounds {
		start := time.Now()
		for i := range s.pace {
			k, _ := keyer.Flow(&s.pace[i])
			sum += k
		}
		if took := time.Since(start); round == 0 || took < best {
			best = took
		}
	}
	paceSink(sum)
	return best.Seconds() * 1e3 * 1e6 / float64(len(s.pace))
}

// paceSink keeps the compiler from dropping the work that is timed.
//
//go:noinline
func paceSink(key.K) {}
