package letter

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"time"
)

// slot is how long nonces are made alike; one is good until the end of the slot
// after its own.
const slot = 8 * time.Second

// Prover makes and checks nonces without remembering them.
type Prover struct{ key [32]byte }

// NewProver takes a secret key.
func NewProver(key [32]byte) *Prover { return &Prover{key} }

// mac binds what a nonce is for: the host, the request, and the time.
func (p *Prover) mac(label string, host netip.Addr, l *Letter, at int64, n int, address netip.Addr) []byte {
	m := hmac.New(sha256.New, p.key[:])
	m.Write([]byte(label))
	h, a := host.As16(), address.As16()
	m.Write(h[:])
	m.Write(a[:])
	about := Letter{ID: l.ID, Proto: l.Proto, HPort: l.HPort, PPort: l.PPort, Peer: l.Peer, Seconds: l.Seconds}
	m.Write(about.Append(nil))
	var tail [16]byte
	binary.BigEndian.PutUint64(tail[:], uint64(at))
	binary.BigEndian.PutUint64(tail[8:], uint64(n))
	m.Write(tail[:])
	return m.Sum(nil)
}

// Challenges makes the nonces for a request, each for the address that must
// receive it. Which addresses of a prefix are taken is the gateway's choice and
// fixed for the request, so that asking again finds no better ones.
func (p *Prover) Challenges(host netip.Addr, l *Letter, now time.Time) []Proof {
	return p.challenges(host, l, now.UnixNano()/int64(slot))
}

func (p *Prover) challenges(host netip.Addr, l *Letter, at int64) []Proof {
	out := make([]Proof, 0, Needed(l.Peer))
	seen := map[netip.Addr]bool{}
	for n := range cap(out) {
		a := l.Peer.Addr()
		if cap(out) > 1 {
			a = pick(l.Peer, p.mac("address", host, l, at, n, a))
		}
		for seen[a] { // there are as many addresses as proofs, at least
			if a = a.Next(); !l.Peer.Contains(a) {
				a = l.Peer.Addr()
			}
		}
		seen[a] = true
		out = append(out, Proof{a, [16]byte(p.mac("nonce", host, l, at, n, a))})
	}
	return out
}

// pick puts random bits behind a prefix.
func pick(p netip.Prefix, random []byte) netip.Addr {
	b := p.Addr().AsSlice()
	for i := range b {
		keep := max(0, min(8, p.Bits()-8*i))
		b[i] |= random[i] & (0xff >> keep)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Check tells whether a Pull holds all nonces of its request.
func (p *Prover) Check(host netip.Addr, l *Letter, now time.Time) bool {
	at := now.UnixNano() / int64(slot)
	return p.holds(host, l, at) || p.holds(host, l, at-1)
}

func (p *Prover) holds(host netip.Addr, l *Letter, at int64) bool {
	want := map[netip.Addr][16]byte{}
	for _, c := range p.challenges(host, l, at) {
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

// Lifetime is how long a nonce can be good, at most.
const Lifetime = 2 * slot
