package path

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// drawNonce returns a number that neither end can predict; 0 without a key.
func (p *Path) drawNonce(host, peer netip.AddrPort) uint64 {
	if p.Secret[0]|p.Secret[1] == 0 {
		return 0
	}
	var m [6]uint64
	a, b := host.Addr().As16(), peer.Addr().As16()
	m[0], m[1] = binary.NativeEndian.Uint64(a[:]), binary.NativeEndian.Uint64(a[8:])
	m[2], m[3] = binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:])
	m[4] = uint64(host.Port())<<16 | uint64(peer.Port())
	m[5] = p.NS
	return siphash(p.Secret, m[:])
}

// siphash is SipHash-2-4 (Aumasson and Bernstein, 2012) of whole words.
func siphash(key [2]uint64, m []uint64) uint64 {
	v0, v1 := key[0]^0x736f6d6570736575, key[1]^0x646f72616e646f6d
	v2, v3 := key[0]^0x6c7967656e657261, key[1]^0x7465646279746573
	round := func() {
		v0 += v1
		v1 = bits.RotateLeft64(v1, 13) ^ v0
		v0 = bits.RotateLeft64(v0, 32)
		v2 += v3
		v3 = bits.RotateLeft64(v3, 16) ^ v2
		v0 += v3
		v3 = bits.RotateLeft64(v3, 21) ^ v0
		v2 += v1
		v1 = bits.RotateLeft64(v1, 17) ^ v2
		v2 = bits.RotateLeft64(v2, 32)
	}
	take := func(w uint64) {
		v3 ^= w
		round()
		round()
		v0 ^= w
	}
	for _, w := range m {
		take(w)
	}
	take(uint64(len(m)*8) << 56)
	v2 ^= 0xff
	for range 4 {
		round()
	}
	return v0 ^ v1 ^ v2 ^ v3
}
