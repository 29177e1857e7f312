package record

import (
	"fmt"
	"strings"
)

// Grade says what a walk saw at its end.
type Grade string

// The grades. Only OriginSeen says where a chain begins.
const (
	// OriginSeen: somebody sits at a console of this host.
	OriginSeen Grade = "origin seen"
	// InboundSeen: there are inbound connections, and the hosts at their other
	// ends are the next to ask.
	InboundSeen Grade = "inbound connection seen"
	// CarrierSeen: there are connections opened here through which it may have
	// come, and the hosts at their other ends are asked.
	CarrierSeen Grade = "connection seen that may have carried it"
	// Cut: neither was found. Where the data came from is not known.
	Cut Grade = "cut"
)

// End is where the walk on one host ended, and what it could not see.
type End struct {
	Grade Grade `json:"grade"`
	// Origin names the console and the process at it.
	Origin string   `json:"origin,omitempty"`
	Unseen []Unseen `json:"unseen,omitempty"`
	// More counts entries beyond MaxUnseen.
	More int `json:"more,omitempty"`
}

// MaxUnseen bounds the entries of an End.
const MaxUnseen = 64

// Obstacle is a kind of thing through which a walk does not see.
type Obstacle string

// The obstacles. Those up to Denied may hide a connection although others were
// found.
const (
	Bound       Obstacle = "bound"              // more was found than is looked at
	NoHolder    Obstacle = "no holder"          // the kernel lists a socket that no process is seen to hold
	OtherSpace  Obstacle = "other namespace"    // it could not be looked into
	Denied      Obstacle = "no permission"      // the daemon may not look
	HubMet      Obstacle = "hub"                // a socket to which every process is connected
	OutboundOne Obstacle = "outbound"           // a connection opened here may carry data back
	Memory      Obstacle = "shared memory"      // several processes may write it
	OpenFile    Obstacle = "file"               // others may write what is read from it
	Datagram    Obstacle = "datagrams"          // a socket whose other ends are not known
	Terminal    Obstacle = "pseudo-terminal"    // its other end is held by no process of the walk
	LoginGone   Obstacle = "login is over"      // what is left of a login whose connection is closed
	Nothing     Obstacle = "nothing found"      // no console, login or inbound connection
	HostSilent  Obstacle = "host"               // a host of the chain that proves nothing
	NotRedeemed Obstacle = "token not redeemed" // its administrator was not asked yet
)

// Unseen is one obstacle a walk met.
type Unseen struct {
	What Obstacle `json:"what"`
	// PID is the process that holds it; 0 for none.
	PID    int32  `json:"pid,omitempty"`
	Detail string `json:"detail,omitempty"`
}

// String is one line.
func (u Unseen) String() string {
	var b strings.Builder
	b.WriteString(string(u.What))
	if u.Detail != "" {
		b.WriteString(": " + u.Detail)
	}
	if u.PID != 0 {
		fmt.Fprintf(&b, " (process %d)", u.PID)
	}
	return b.String()
}

// HidesInbound reports whether an obstacle may hide connections where others
// were found.
func (u Unseen) HidesInbound() bool {
	switch u.What {
	case Bound, NoHolder, OtherSpace, Denied:
		return true
	}
	return false
}

// Add notes an obstacle once.
func (e *End) Add(u Unseen) {
	for _, have := range e.Unseen {
		if have == u {
			return
		}
	}
	if len(e.Unseen) >= MaxUnseen {
		e.More++
		return
	}
	e.Unseen = append(e.Unseen, u)
}
