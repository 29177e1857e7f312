// Package gaps finds what is missing in the sequence numbers of exporters.
package gaps

// Sequence follows the numbers of one exporter's datagrams. Most exporters give the
// number of the first item of a datagram; some, such as Open vSwitch, that of
// the last. So both readings are kept, and that with less loss is believed.
type Sequence struct {
	started bool
	next    uint32 // if the number is that of the first item
	last    uint32 // the number given last
	missing [2]int64
	// Restarts counts jumps that cannot be loss.
	Restarts uint64
}

// believable bounds the step that is taken for loss or for datagrams out of
// order; a larger one is a restart, or an exporter that counts otherwise.
const believable = 1 << 20

// Follow notes a datagram with number n that carries count items.
func (s *Sequence) Follow(n, count uint32) {
	if s.started {
		first, last := int32(n-s.next), int32(n-s.last-count)
		if out(first) && out(last) {
			s.Restarts++
		} else {
			// A datagram that comes late fills the hole it had left.
			if !out(first) {
				s.missing[0] += int64(first)
			}
			if !out(last) {
				s.missing[1] += int64(last)
			}
		}
	}
	s.started, s.next, s.last = true, n+count, n
}

func out(step int32) bool { return step > believable || step < -believable }

// Break begins again with the next datagram, where it is not known what came before
// it. What is missing so far is kept.
func (s *Sequence) Break() { s.started = false }

// Lost is how many items are missing.
func (s *Sequence) Lost() uint64 { return uint64(max(0, min(s.missing[0], s.missing[1]))) }

// SavedSequence is what a restart keeps of a Sequence.
type SavedSequence struct {
	Started  bool     `json:"started"`
	Next     uint32   `json:"next"`
	Last     uint32   `json:"last"`
	Missing  [2]int64 `json:"missing"`
	Restarts uint64   `json:"restarts,omitempty"`
}

// State is that so far.
func (s *Sequence) State() *SavedSequence {
	return &SavedSequence{s.started, s.next, s.last, s.missing, s.Restarts}
}

// Resume goes on from a State, so that what was sent meanwhile counts as missing.
func (s *Sequence) Resume(from *SavedSequence) {
	if from != nil {
		*s = Sequence{started: from.Started, next: from.Next, last: from.Last, missing: from.Missing, Restarts: from.Restarts}
	}
}
