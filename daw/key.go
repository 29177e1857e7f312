package daw

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// key is an address in 128 bits, IPv4 in its mapped form.
type key struct{ hi, lo uint64 }

func keyOf(a netip.Addr) key {
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k key) is4() bool { return k.hi == 0 && k.lo>>32 == 0xffff }

func (k key) toAddr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.hi)
	binary.BigEndian.PutUint64(b[8:], k.lo)
	return netip.AddrFrom16(b).Unmap()
}

// sitePrefix is the /24 or /48 an address lies in.
func (k key) sitePrefix() key {
	if k.is4() {
		return key{k.hi, k.lo &^ 0xff}
	}
	return key{hi: k.hi &^ 0xffff}
}

// prefixBits are the lengths of the prefixes that limit IPv6 sources, besides
// their addresses.
var prefixBits = [...]int{64, 56, 48}

// prefixOf is the i-th prefix of an IPv6 address.
func (k key) prefixOf(i int) key { return key{hi: k.hi &^ (1<<(64-prefixBits[i]) - 1)} }

// hashWith is keyed: without the seed, an attacker cannot choose addresses that share
// an entry of a table. Multiply-and-fold as in wyhash.
func (k key) hashWith(seed uint64) uint64 {
	h := foldProduct(k.hi^seed^0xa0761d6478bd642f, k.lo^bits.RotateLeft64(seed, 32)^0x9e3779b97f4a7c15)
	return foldProduct(h^seed, 0xe7037ed1a0b428db)
}

func foldProduct(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	return hi ^ lo
}
