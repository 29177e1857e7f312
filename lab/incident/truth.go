package incident

import (
	"fmt"
	"net/netip"
	"time"
)

// The ports of the staged incident: the attacker contacts ContactPort (TCP, the
// SQL server port that the worm of January 2003 and many after it used) and an
// infected host fetches code from FetchPort (UDP, TFTP; RFC 1350).
const (
	ContactPort = 1433
	FetchPort   = 69
)

// Truth is the ground truth of the recording, written by the program that
// staged it. It is for checking results, never an input of a hunt.
type Truth struct {
	// Recorded is when the recording started.
	Recorded time.Time `json:"recorded"`
	// Attacker contacted hosts of every organisation, CodeServer gave the
	// infected ones their code. Both are outside all organisations.
	Attacker   netip.Addr `json:"attacker"`
	CodeServer netip.Addr `json:"code_server"`
	// OrdinaryClient uses the same service the attacker does, and
	// OrdinaryServer gives files by TFTP as the code server does; both are
	// honest.
	OrdinaryClient netip.Addr `json:"ordinary_client"`
	OrdinaryServer netip.Addr `json:"ordinary_server"`
	// Organisations are in order of name.
	Organisations []Organisation `json:"organisations"`
}

// Organisation is one witness: its networks and what happened in them.
type Organisation struct {
	Name string `json:"name"`
	// Networks are all its prefixes. A private one is also used by another
	// organisation for other hosts.
	Networks []netip.Prefix `json:"networks"`
	// Infected hosts were contacted and then fetched code, in order of address.
	Infected []netip.Addr `json:"infected"`
	// LookAlikes behaved similarly.
	LookAlikes []LookAlike `json:"look_alikes"`
}

// LookAlike is a host that must not be named, and what it did.
type LookAlike struct {
	Host netip.Addr `json:"host"`
	Part Part       `json:"part"`
	Why  string     `json:"why"`
}

// Part is what a host does in the staged incident.
type Part string

// The parts. Every host also takes part in the ordinary traffic.
const (
	Bystander     Part = "bystander"
	Infected      Part = "infected"
	ContactedOnly Part = "contacted-only"
	FetchedOnly   Part = "fetched-only"
	FetchedFirst  Part = "fetched-first"
	Refused       Part = "refused"
	OtherServer   Part = "other-server"
	OtherClient   Part = "other-client"
	OtherPort     Part = "other-port"
)

// Why describes in one sentence what a host of this part did, and so why it is
// in the group or not.
func (p Part) Why() string {
	switch p {
	case Infected:
		return "the attacker reached it on tcp/1433, and seconds later it fetched a file from the code server"
	case ContactedOnly:
		return "the attacker reached it on tcp/1433, and it fetched nothing"
	case FetchedOnly:
		return "it fetched a file from the code server, and the attacker never contacted it"
	case FetchedFirst:
		return "it fetched a file from the code server before the attacker reached it, not after"
	case Refused:
		return "it refused the attacker's connection and later fetched a file from the code server: only the state of the first clue distinguishes it from the infected"
	case OtherServer:
		return "the attacker reached it on tcp/1433, and it fetched a file from another server"
	case OtherClient:
		return "an honest client reached it on tcp/1433, and it fetched a file from the code server"
	case OtherPort:
		return "the attacker only read its web page, and it fetched a file from the code server"
	}
	return "it took part in ordinary traffic only"
}

// Pattern is the question that matches the infected hosts and no others, in the
// language of dossier/pattern. Without its state it also matches the hosts
// whose part is Refused.
func (t Truth) Pattern() string {
	return fmt.Sprintf("in src=%s proto=tcp dport=%d state=established then[1h] out dst=%s proto=udp dport=%d",
		t.Attacker, ContactPort, t.CodeServer, FetchPort)
}
