// Package rehearsal says what DAW's limits would have done to recorded connections:
// who would have been held back, and which connections that would have succeeded
// they would have lost. It is how a provider judges the limits from flow logs
// before any router drops a packet.
//
// It is pure, and plays connections in the order of their times through a
// daw.Edge. A flow log gives one reply a connection and no sequence numbers, so
// forged replies and retransmissions are not seen; a refusal or an answer is taken
// to come at once.
package rehearsal

import (
	"cmp"
	"net/netip"
	"slices"

	"dragnet/daw"
	"dragnet/flow"
)

// Result is how a connection ended.
type Result uint8

// The results.
const (
	Answered Result = iota // by SYN-ACK
	Refused                // by RST, or an ICMP error
	Silent
)

// Attempt is a connection that somebody tried to open.
type Attempt struct {
	At               flow.Time
	Src, Dst         netip.Addr
	SrcPort, DstPort uint16
	Result           Result
}

// Source is what became of one source's connections.
type Source struct {
	Addr netip.Addr `json:"addr"`
	// Attempts to protected ports, and how many of them were not answered.
	Attempts int `json:"attempts"`
	Failed   int `json:"failed"`
	// Held is when a limit first dropped a connection, Limit which one.
	Held  flow.Time `json:"held"`
	Limit string    `json:"limit"`
	// Dropped connections, and how many of them were answered in fact: what the
	// source would have lost.
	Dropped int `json:"dropped"`
	Lost    int `json:"lost"`
	// Blocked is when it would have been proposed for a block, 0 if never.
	Blocked flow.Time `json:"blocked,omitzero"`
}

// Report is the result of a rehearsal.
type Report struct {
	// First and Last are the times of the first and last attempt.
	First, Last flow.Time
	// Attempts of Hosts sources were within the scope.
	Attempts, Hosts int
	// Held are the sources that a limit would have held back, those that would
	// have lost the most first.
	Held []Source
}

// Run plays attempts, which it sorts, through an edge.
func Run(p daw.Parameters, s daw.Scope, all []Attempt) (Report, error) {
	slices.SortStableFunc(all, func(a, b Attempt) int { return cmp.Compare(a.At, b.At) })
	r := Report{}
	if len(all) == 0 {
		return r, nil
	}
	r.First, r.Last = all[0].At, all[len(all)-1].At
	e, err := daw.New(p, s, r.First)
	if err != nil {
		return r, err
	}
	sources := map[netip.Addr]*Source{}
	nextDay := r.First
	for i := range all {
		if a := &all[i]; a.At >= nextDay {
			nextDay = a.At + hour
			for _, blocked := range e.Persistent(a.At) {
				if s := sources[blocked.Addr]; s != nil && s.Blocked == 0 {
					s.Blocked = a.At
				}
			}
		}
		play(e, &all[i], uint32(i), sources)
	}
	for _, s := range sources {
		r.Attempts += s.Attempts
		if s.Dropped > 0 {
			r.Held = append(r.Held, *s)
		}
	}
	r.Hosts = len(sources)
	slices.SortFunc(r.Held, func(a, b Source) int {
		return cmp.Or(cmp.Compare(b.Lost, a.Lost), cmp.Compare(b.Dropped, a.Dropped), a.Addr.Compare(b.Addr))
	})
	return r, nil
}

// hour is how often sources at their limit for days are looked for.
const hour = flow.Time(3600 * 1e9)

// play lets an edge judge one attempt, and reports the result to it.
func play(e *daw.Edge, a *Attempt, number uint32, sources map[netip.Addr]*Source) {
	c := daw.Conn{Src: a.Src, Dst: a.Dst, SrcPort: a.SrcPort, DstPort: a.DstPort, Seq: number}
	v := e.Request(a.At, &c)
	if v == daw.Unwatched {
		return
	}
	s := sources[a.Src]
	if s == nil {
		s = &Source{Addr: a.Src}
		sources[a.Src] = s
	}
	s.Attempts++
	if a.Result != Answered {
		s.Failed++
	}
	if !v.Passes() {
		if s.Dropped++; s.Dropped == 1 {
			s.Held, s.Limit = a.At, v.String()
		}
		if a.Result == Answered {
			s.Lost++
		}
		return
	}
	switch a.Result {
	case Answered:
		e.Success(a.At, &c)
	case Refused:
		e.Failure(a.At, daw.Reset, &c)
	}
}
