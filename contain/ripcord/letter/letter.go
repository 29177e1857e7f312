// Package letter is what Ripcord's gateway and those who pull it write to each
// other, octet by octet as PROTOCOL.md says, and the proof that somebody
// receives what is sent to an address.
package letter

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"dragnet/contain/ripcord/state"
)

// Version of the protocol.
const Version = 1

// Kind of a letter.
type Kind uint8

// The kinds, in the order they are exchanged.
const (
	Ask       Kind = 1 + iota // to the gateway: what shall end
	Challenge                 // to each address that must prove itself
	Pull                      // to the gateway: the proofs
	Answer                    // to whoever pulled
)

// Status of an Answer.
type Status uint8

// The answers.
const (
	Done      Status = iota
	Inactive         // the host has not sent there lately
	Unproven         // a nonce is wrong or too old
	Observing        // the gateway ends nothing
	Busy             // no room for more
)

var statusNames = [...]string{
	"done", "the host has not sent there lately", "a nonce is wrong or too old",
	"the gateway only observes", "the gateway has no room for more",
}

// String says what a Status means.
func (s Status) String() string {
	if int(s) < len(statusNames) {
		return statusNames[s]
	}
	return fmt.Sprintf("status %d", uint8(s))
}

// Proofs is how many addresses of a prefix are challenged, if it has as many;
// all of them must prove themselves.
const Proofs = 8

const (
	headSize  = 44
	proofSize = 32
	// ChallengeSize is that of a Challenge. An Ask is padded to as much as it
	// makes the gateway send, so that it cannot be used to multiply traffic.
	ChallengeSize = headSize + proofSize
)

// Proof is a nonce and the address it was sent to.
type Proof struct {
	Address netip.Addr
	Nonce   [16]byte
}

// Letter is one message.
type Letter struct {
	Kind   Kind
	Status Status
	// ID is chosen by whoever asks and comes back.
	ID [8]byte
	// Proto, HPort and PPort are the host's conversation, 0 for any; Peer is
	// who wants no more of it.
	Proto        uint8
	HPort, PPort uint16
	Peer         netip.Prefix
	// Seconds is for how long.
	Seconds uint32
	Proofs  []Proof
}

// Needed is how many proofs a prefix takes.
func Needed(p netip.Prefix) int {
	return min(Proofs, 1<<min(3, p.Addr().BitLen()-p.Bits()))
}

// Principals is what the letter is about, as the packet path names it.
func (l *Letter) Principals() state.Principals {
	bits := l.Peer.Bits()
	if l.Peer.Addr().Is4() {
		bits += 96
	}
	return state.Principals{Peer: state.Prefix(l.Peer.Addr(), uint32(bits)), HPort: l.HPort, PPort: l.PPort, Proto: l.Proto}
}

// Append writes the letter.
func (l *Letter) Append(b []byte) []byte {
	start := len(b)
	b = append(b, state.Magic...)
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

var errLetter = errors.New("not a letter of the ripcord protocol")

// Parse reads a letter; the error is one of few, whatever the octets.
func Parse(b []byte) (*Letter, error) {
	if len(b) < headSize || string(b[:4]) != state.Magic {
		return nil, errLetter
	}
	if b[4] != Version {
		return nil, fmt.Errorf("letter of version %d, this is %d", b[4], Version)
	}
	l := &Letter{Kind: Kind(b[5]), Status: Status(b[6]), ID: [8]byte(b[8:]), Proto: b[16],
		HPort: binary.BigEndian.Uint16(b[20:]), PPort: binary.BigEndian.Uint16(b[22:]), Seconds: binary.BigEndian.Uint32(b[24:])}
	address := netip.AddrFrom16([16]byte(b[28:]))
	if b[18] == 4 {
		if !address.Is4In6() {
			return nil, errLetter
		}
		address = address.Unmap()
	} else if b[18] != 6 || address.Is4In6() {
		return nil, errLetter
	}
	prefix, err := address.Prefix(int(b[17]))
	if err != nil || prefix.Addr() != address || prefix.Bits() < 8 {
		return nil, errLetter
	}
	l.Peer = prefix
	if l.Kind < Ask || l.Kind > Answer || l.Proto == 0 && (l.HPort != 0 || l.PPort != 0) {
		return nil, errLetter
	}
	n := int(b[7])
	if n > Proofs || l.Kind != Ask && len(b) != headSize+n*proofSize || l.Kind == Ask && (n != 0 || len(b) < Needed(prefix)*ChallengeSize) {
		return nil, errLetter
	}
	for i := range n {
		p := b[headSize+i*proofSize:]
		l.Proofs = append(l.Proofs, Proof{netip.AddrFrom16([16]byte(p)).Unmap(), [16]byte(p[16:])})
	}
	return l, nil
}
