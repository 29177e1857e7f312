package key

import "math/bits"

// TupleColumns are the components of many flows, one slice each, as a column store
// keeps them. All present slices have the same length; those outside the mask
// may be nil.
type TupleColumns struct {
	Addr4        []uint32 // other host, IPv4, host byte order
	SPort, DPort []uint16
	Proto        []uint8
}

// block is how many rows are hashed at a time. The loops over a block are short
// enough for the compiler to keep in registers, and what one leaves for the
// next stays in the first-level cache.
const block = 1024

// AppendMatches appends to dst the rows of c whose key is want. The mask must
// hold an IPv4 address; rows number at most 2^31.
func (k *Keyer) AppendMatches(dst []int32, c TupleColumns, want K) []int32 {
	k.hashBlocks(c, func(from int, keys []uint64) {
		for i, got := range keys {
			if got == uint64(want) {
				dst = append(dst, int32(from+i))
			}
		}
	})
	return dst
}

// AppendKeys appends to dst the key of every row of c. The hash must be Linear
// and the mask hold an IPv4 address.
func (k *Keyer) AppendKeys(dst []uint32, c TupleColumns) []uint32 {
	k.hashBlocks(c, func(_ int, keys []uint64) {
		for _, got := range keys {
			dst = append(dst, uint32(got))
		}
	})
	return dst
}

// hashBlocks hashes c block by block; from is the row of the first key.
func (k *Keyer) hashBlocks(c TupleColumns, use func(from int, keys []uint64)) {
	var keys [block]uint64
	var zeroPorts [block]uint16
	var zeroProtos [block]uint8
	for from := 0; from < len(c.Addr4); from += block {
		n := min(block, len(c.Addr4)-from)
		// A component outside the mask is read as zeros, which both hashes pass
		// over.
		addr := c.Addr4[from:][:n]
		sport := columnPart(k.mask.SPort, c.SPort, from, zeroPorts[:n])
		dport := columnPart(k.mask.DPort, c.DPort, from, zeroPorts[:n])
		proto := columnPart(k.mask.Proto, c.Proto, from, zeroProtos[:n])
		if k.hash.Kind == Linear {
			k.linearBlock(keys[:n], addr, sport, dport, proto)
		} else {
			k.productBlock(keys[:n], addr, sport, dport, proto)
		}
		use(from, keys[:n])
	}
}

func columnPart[T any](in bool, column []T, from int, zeros []T) []T {
	if !in {
		return zeros
	}
	return column[from:][:len(zeros)]
}

func (k *Keyer) linearBlock(keys []uint64, addr []uint32, sport, dport []uint16, proto []uint8) {
	a0, a1, v4 := k.a[0], k.a[1], k.v4
	as, ad, ap := k.portCoefficients()
	addr, dport, proto = addr[:len(keys)], dport[:len(keys)], proto[:len(keys)]
	for i := range keys {
		a := addr[i] & v4
		keys[i] = a0*uint64(a>>16) + a1*uint64(a&0xffff) + ad*uint64(dport[i]) + ap*uint64(proto[i])
	}
	if k.mask.SPort {
		for i, v := range sport[:len(keys)] {
			keys[i] += as * uint64(v)
		}
	}
	low := k.low
	for i, sum := range keys {
		keys[i] = reduceModPrime(sum) & low
	}
}

// portCoefficients are those of the limbs after an IPv4 address; what is
// outside the mask takes none.
func (k *Keyer) portCoefficients() (sport, dport, proto uint64) {
	next := k.a[2:]
	for _, c := range []struct {
		in bool
		a  *uint64
	}{{k.mask.SPort, &sport}, {k.mask.DPort, &dport}, {k.mask.Proto, &proto}} {
		if c.in {
			*c.a, next = next[0], next[1:]
		}
	}
	return sport, dport, proto
}

func (k *Keyer) productBlock(keys []uint64, addr []uint32, sport, dport []uint16, proto []uint8) {
	v4 := k.v4
	addr, sport, dport = addr[:len(keys)], sport[:len(keys)], dport[:len(keys)]
	for i := range keys {
		keys[i] = bytesProduct(uint64(addr[i]&v4) | uint64(sport[i])<<32 | uint64(dport[i])<<48)
	}
	m := k.hash.Modulus
	for i, v := range proto[:len(keys)] {
		hi, p := bits.Mul64(keys[i], byteFactor(v)) // nine bytes may exceed 64 bits
		if m != 0 {
			p = bits.Rem64(hi, p, m)
		}
		keys[i] = p
	}
}

// bytesProduct multiplies the eight bytes of x, zeros as one. The zeros are
// found in all bytes at once: adding 127 to a byte's low bits carries into its
// top bit unless they are all zero.
func bytesProduct(x uint64) uint64 {
	const low7 = 0x7f7f7f7f7f7f7f7f
	zero := ^((x&low7 + low7) | x | low7)
	x |= zero >> 7
	a := (x & 0xff) * (x >> 8 & 0xff) * (x >> 16 & 0xff) * (x >> 24 & 0xff)
	b := (x >> 32 & 0xff) * (x >> 40 & 0xff) * (x >> 48 & 0xff) * (x >> 56)
	return a * b
}
