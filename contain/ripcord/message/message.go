// Package message encodes the messages between Ripcord's gateway and the
// victims who pull it, as PROTOCOL.md defines them, and the proof that a sender
// receives what is sent to an address.
package message

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"dragnet/contain/ripcord/tables"
)

// Version of the protocol.
const Version = 2

// Kind of a message.
type Kind uint8

// The kinds, in the order they are exchanged.
const (
	Ask       Kind = 1 + iota // to the gateway: what to end
	Challenge                 // to each address to be proven
	Pull                      // to the gateway: the proofs
	Answer                    // to the sender of the Pull
)

// Status of an Answer.
type Status uint8

// The answers.
const (
	Done      Status = iota
	Inactive         // the host has not sent there recently
	Unproven         // a nonce is wrong or too old
	Observing        // the gateway only observes
	Busy             // no room for more
)

var statusNames = [...]string{
	"done", "the host has not sent there recently", "a nonce is wrong or too old",
	"the gateway only observes", "the gateway has no room for more",
}

// String says what a Status means.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Proofs is how many addresses of a prefix are challenged, if it has that many;
// all of them must be proven.
const Proofs = 16

const (
	headSize  = 44
	proofSize = 32
	// ChallengeSize is that of a Challenge. An Ask is padded to the size of
	// what the gateway sends in return, so that it cannot be used to amplify
	// traffic.
	ChallengeSize = headSize + proofSize
)

// Proof is a nonce and the address it was sent to.
type Proof struct {
	Address netip.Addr
	Nonce   [16]byte
}

// Message is one message.
type Message struct {
	Kind   Kind
	Status Status
	// ID is chosen by the sender of the Ask and returned.
	ID [8]byte
	// Proto, HPort and PPort are the host's conversation, 0 for any; Peer is
	// the side that wants it to end.
	Proto        uint8
	HPort, PPort uint16
	Peer         netip.Prefix
	// Seconds is for how long.
	Seconds uint32
	Proofs  []Proof
}

// Needed is how many proofs a prefix needs.
func Needed(p netip.Prefix) int {
	return min(Proofs, 1<<min(4, p.Addr().BitLen()-p.Bits()))
}

// Allowed reports whether a conversation with a prefix of this length can be
// ended: 8 to 32 of IPv4, 128 and every fourth from 8 to 64 of IPv6.
func Allowed(p netip.Prefix) bool {
	if p.Addr().Is4() || p.IsSingleIP() {
		return p.Bits() >= 8
	}
	return p.Bits() >= 8 && p.Bits() <= 64 && p.Bits()%4 == 0
}

// Principals is the conversation the message is about, as the packet path names
// it.
func (l *Message) Principals() tables.Principals {
	bits := l.Peer.Bits()
	if l.Peer.Addr().Is4() {
		bits += 96
	}
	return tables.Principals{Peer: tables.Prefix(l.Peer.Addr(), uint32(bits)), HPort: l.HPort, PPort: l.PPort, Proto: l.Proto}
}

// Append appends the encoded message to b.
func (l *Message) Append(b []byte) []byte {
	start := len(b)
	b = append(b, tables.Magic...)
	b = append(b, Version, uint8(l.Kind), uint8(l.Status), uint8(len(l.Proofs)))
	b = append(b, l.ID[:]...)
	family := uint8(6)
	if l.Peer.Addr().Is4() {
		family = 4
	}
	b = append(b, l.Proto, uint8(l.Peer.Bits()), family, 0)
	b = binary.BigEndian.AppendUint16(b, l.HPort)
	b = binary.BigEndian.AppendUint16(b, l.PPort)
	b = binary.BigEndian.AppendUint32(b, l.Seconds)
	address := l.Peer.Addr().As16()
	b = append(b, address[:]...)
	for _, p := range l.Proofs {
		address := p.Address.As16()
		b = append(append(b, address[:]...), p.Nonce[:]...)
	}
	if l.Kind == Ask {
		for len(b)-start < Needed(l.Peer)*ChallengeSize {
			b = append(b, 0)
		}
	}
	return b
}

var errMessage = errors.New("not a message of the Ripcord protocol")

// Parse decodes a message; the error is one of few, whatever the octets.
func Parse(b []byte) (*Message, error) {
	if len(b) < headSize || string(b[:4]) != tables.Magic {
		return nil, errMessage
	}
	if b[4] != Version {
		return nil, fmt.Errorf("message of version %d, want %d", b[4], Version)
	}
	l := &Message{Kind: Kind(b[5]), Status: Status(b[6]), ID: [8]byte(b[8:]), Proto: b[16],
		HPort: binary.BigEndian.Uint16(b[20:]), PPort: binary.BigEndian.Uint16(b[22:]), Seconds: binary.BigEndian.Uint32(b[24:])}
	address := netip.AddrFrom16([16]byte(b[28:]))
	if b[18] == 4 {
		if !address.Is4In6() {
			return nil, errMessage
		}
		address = address.Unmap()
	} else if b[18] != 6 || address.Is4In6() {
		return nil, errMessage
	}
	prefix, err := address.Prefix(int(b[17]))
	if err != nil || prefix.Addr() != address || !Allowed(prefix) {
		return nil, errMessage
	}
	l.Peer = prefix
	if l.Kind < Ask || l.Kind > Answer || l.Proto == 0 && (l.HPort != 0 || l.PPort != 0) {
		return nil, errMessage
	}
	n := int(b[7])
	if n > Proofs || l.Kind != Ask && len(b) != headSize+n*proofSize || l.Kind == Ask && (n != 0 || len(b) < Needed(prefix)*ChallengeSize) {
		return nil, errMessage
	}
	for i := range n {
		p := b[headSize+i*proofSize:]
		l.Proofs = append(l.Proofs, Proof{netip.AddrFrom16([16]byte(p)).Unmap(), [16]byte(p[16:])})
	}
	return l, nil
}
