package message

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// slot is how long the nonce of a request stays the same; a nonce is valid
// until the end of the slot after its own.
const slot = 8 * time.Second

// Prover makes and checks nonces without remembering them.
type Prover struct{ key [32]byte }

// NewProver takes a secret key.
func NewProver(key [32]byte) *Prover { return &Prover{key} }

// computeMAC binds a nonce to what it is for: the host, the request, and the
// time.
func (p *Prover) computeMAC(label string, host netip.Addr, l *Message, at int64, n int, address netip.Addr) []byte {
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte(label))
	h, a := host.As16(), address.As16()
	m.Write(h[:])
	m.Write(a[:])
	about := Message{ID: l.ID, Proto: l.Proto, HPort: l.HPort, PPort: l.PPort, Peer: l.Peer, Seconds: l.Seconds}
	m.Write(about.Append(nil))
	var tail [16]byte
	binary.BigEndian.PutUint64(tail[:], uint64(at))
	binary.BigEndian.PutUint64(tail[8:], uint64(n))
	m.Write(tail[:])
	return m.Sum(nil)
}

// drawTime is how long the choice of a prefix's addresses stays the same.
const drawTime = time.Hour

// draw returns random octets for the n-th address of a prefix. They depend on
// the prefix and the time only: the owner of a part of it has one try each hour,
// whatever the requests.
func (p *Prover) draw(host netip.Addr, prefix netip.Prefix, at int64, n int) []byte {
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte("address"))
	h, a := host.As16(), prefix.Addr().As16()
	m.Write(h[:])
	m.Write(a[:])
	var tail [17]byte
	binary.BigEndian.PutUint64(tail[:], uint64(at*int64(slot)/int64(drawTime)))
	binary.BigEndian.PutUint64(tail[8:], uint64(n))
	tail[16] = uint8(prefix.Bits())
	m.Write(tail[:])
	return m.Sum(nil)
}

// Challenges makes the nonces for a request, each for the address that must
// receive it. The gateway chooses the addresses of a prefix, the same ones for an
// hour, so that asking again yields no better ones.
func (p *Prover) Challenges(host netip.Addr, l *Message, now time.Time) []Proof {
	return p.makeProofs(host, l, now.UnixNano()/int64(slot))
}

func (p *Prover) makeProofs(host netip.Addr, l *Message, at int64) []Proof {
	out := make([]Proof, 0, Needed(l.Peer))
	seen := map[netip.Addr]bool{}
	for n := range cap(out) {
		a := l.Peer.Addr()
		if cap(out) > 1 {
			a = randomAddr(l.Peer, p.draw(host, l.Peer, at, n))
		}
		for seen[a] { // there are as many addresses as proofs, at least
			if a = a.Next(); !l.Peer.Contains(a) {
				a = l.Peer.Addr()
			}
		}
		seen[a] = true
		out = append(out, Proof{a, [16]byte(p.computeMAC("nonce", host, l, at, n, a))})
	}
	return out
}

// randomAddr fills the host part of a prefix with random bits.
func randomAddr(p netip.Prefix, random []byte) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		keep := max(0, min(8, p.Bits()-8*i))
		b[i] |= random[i] & (0xff >> keep)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Check reports whether a Pull holds all nonces of its request.
func (p *Prover) Check(host netip.Addr, l *Message, now time.Time) bool {
	at := now.UnixNano() / int64(slot)
	return p.checkSlot(host, l, at) || p.checkSlot(host, l, at-1)
}

func (p *Prover) checkSlot(host netip.Addr, l *Message, at int64) bool {
	want := map[netip.Addr][16]byte{}
	for _, c := range p.makeProofs(host, l, at) {
		want[c.Address] = c.Nonce
	}
	ok := len(want) == len(l.Proofs)
	for _, proof := range l.Proofs {
		w, asked := want[proof.Address]
		ok = ok && asked && hmac.Equal(proof.Nonce[:], w[:])
		delete(want, proof.Address) // none counts twice
	}
	return ok
}

// Lifetime bounds how long a nonce is valid.
const Lifetime = 2 * slot
