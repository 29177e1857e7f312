package detective

import (
	"maps"
	"math"
	"net/netip"

	"dragnet/flow"
)

// KnownWitness is a witness as the detective knows it.
type KnownWitness struct {
	// Name is what results call it.
	Name string
	// As is the name it testifies under, if that is another: over the network
	// the identifier of its key.
	As string
	// Class is the organisation or AS behind it; witnesses of one class count
	// once. Empty means Name.
	Class string
	// Verified says that Class and Networks come from a trusted party, not from
	// the witness. All unverified witnesses share one class, since anybody can
	// pretend to be many.
	Verified bool
	// Networks are its own.
	Networks []netip.Prefix
	// Earlier is what it said in earlier inquiries.
	Earlier Earlier
}

func (s *KnownWitness) testifiesAs() string {
	if s.As != "" {
		return s.As
	}
	return s.Name
}

// Unknown is the class of all witnesses whose organisation is not known. It
// cannot be the name of a witness, or of an organisation in a book.
const Unknown = "\x00unverified"

func (s *KnownWitness) class() string {
	switch {
	case !s.Verified:
		return Unknown
	case s.Class != "":
		return s.Class
	}
	return s.Name
}

// AddSource notes that a witness is asked: shares of "those asked" count it from
// then on, whether it answers or not.
func (q *Inquiry) AddSource(s KnownWitness) { q.sources[s.Name] = s }

func (q *Inquiry) classOf(witness string) string {
	s := q.sources[witness]
	return s.class()
}

// classesOf are those behind a set of witnesses.
func (q *Inquiry) classesOf(witnesses map[string]bool) map[string]bool {
	out := map[string]bool{}
	for w := range witnesses {
		out[q.classOf(w)] = true
	}
	return out
}

// neededClasses is the number of classes that must name a host.
func (q *Inquiry) neededClasses() int {
	if q.config.Fraction == 0 {
		return q.config.Quorum
	}
	asked := map[string]bool{}
	for _, s := range q.sources {
		asked[s.class()] = true
	}
	// A product such as 0.1 * 30 must not round up to 4.
	return max(q.config.Quorum, int(math.Ceil(q.config.Fraction*float64(len(asked))-1e-9)))
}

// isOwnStatement reports whether one of the witnesses may speak for the host alone.
func (q *Inquiry) isOwnStatement(host flow.Host, witnesses map[string]bool) bool {
	for w := range maps.Keys(witnesses) {
		if q.ownsHost(w, host) {
			return true
		}
	}
	return false
}

func (q *Inquiry) ownsHost(witness string, host flow.Host) bool {
	s := q.sources[witness]
	return q.config.OwnWord && s.Verified && (host.Scope == witness || flow.Within(s.Networks, host.Addr) && host.Scope == "")
}

// isOwnJoin is isOwnStatement for joins made here: the owner's own events must
// suffice.
func (q *Inquiry) isOwnJoin(host flow.Host, events map[int][]attested, witnesses map[string]bool) bool {
	for w := range maps.Keys(witnesses) {
		if !q.ownsHost(w, host) {
			continue
		}
		own := map[int][]attested{}
		for clue, all := range events {
			for _, e := range all {
				if e.witness == w {
					own[clue] = append(own[clue], e)
				}
			}
		}
		if q.survivesLiars(own, nil, 0) {
			return true
		}
	}
	return false
}

// Agreed is the largest number of classes that name one host: staged asking
// stops when it reaches the quorum.
func (q *Inquiry) Agreed() (most int) {
	q.markSprays()
	for _, s := range q.hosts {
		s = q.believable(s)
		names := map[string]bool{}
		for _, m := range s.matches {
			names[m.witness] = true
		}
		if q.config.JoinHere {
			_, names = q.joinEvents(q.poolStatements(s))
		}
		most = max(most, len(q.classesOf(names)))
	}
	return most
}
