package key

import "math/bits"

// Columns are the components of many flows, one slice each, as a column store
// keeps them. All present slices have the same length; those outside the mask
// may be nil.
type Columns struct {
	Addr4        []uint32 // other host, IPv4, host byte order
	SPort, DPort []uint16
	Proto        []uint8
}

// block is how many rows are hashed at a time, column by column: the partial
// results stay in the first-level cache, and each pass is a loop that the
// compiler can check once.
const block = 1024

// AppendMatches appends to dst the rows of c whose key is want. The mask must
// hold an IPv4 address; rows number at most 2^31.
func (k *Keyer) AppendMatches(dst []int32, c Columns, want K) []int32 {
	var sums [block]uint64
	for from := 0; from < len(c.Addr4); from += block {
		to := min(from+block, len(c.Addr4))
		part := sums[:to-from]
		if k.hash.Kind == Linear {
			dst = k.matchLinear(dst, c, from, part, uint64(want))
		} else {
			dst = k.matchProduct(dst, c, from, part, uint64(want))
		}
	}
	return dst
}

// AppendKeys appends to dst the key of every row of c. The hash must be Linear
// and the mask hold an IPv4 address.
func (k *Keyer) AppendKeys(dst []uint32, c Columns) []uint32 {
	var sums [block]uint64
	for from := 0; from < len(c.Addr4); from += block {
		part := sums[:min(block, len(c.Addr4)-from)]
		k.sumLinear(c, from, part)
		for _, sum := range part {
			dst = append(dst, uint32(reduce(sum)&k.low))
		}
	}
	return dst
}

func (k *Keyer) matchLinear(dst []int32, c Columns, from int, sums []uint64, want uint64) []int32 {
	k.sumLinear(c, from, sums)
	low := k.low
	for i, sum := range sums {
		if reduce(sum)&low == want {
			dst = append(dst, int32(from+i))
		}
	}
	return dst
}

// sumLinear fills sums with what reduce turns into keys.
func (k *Keyer) sumLinear(c Columns, from int, sums []uint64) {
	a0, a1, v4 := k.a[0], k.a[1], k.v4
	for i, addr := range c.Addr4[from:][:len(sums)] {
		addr &= v4
		sums[i] = a0*uint64(addr>>16) + a1*uint64(addr&0xffff)
	}
	next := 2
	if k.mask.SPort {
		addColumn(sums, c.SPort[from:], k.a[next])
		next++
	}
	if k.mask.DPort {
		addColumn(sums, c.DPort[from:], k.a[next])
		next++
	}
	if k.mask.Proto {
		addColumn(sums, c.Proto[from:], k.a[next])
	}
}

func addColumn[T uint8 | uint16](sums []uint64, col []T, a uint64) {
	col = col[:len(sums)]
	for i, v := range col {
		sums[i] += a * uint64(v)
	}
}

func (k *Keyer) matchProduct(dst []int32, c Columns, from int, products []uint64, want uint64) []int32 {
	v4 := k.v4
	for i, addr := range c.Addr4[from:][:len(products)] {
		addr &= v4
		products[i] = factors16(uint16(addr>>16)) * factors16(uint16(addr))
	}
	if k.mask.SPort {
		multiplyPorts(products, c.SPort[from:])
	}
	if k.mask.DPort {
		multiplyPorts(products, c.DPort[from:])
	}
	m := uint64(0)
	if k.hash.Kind == ProductMod {
		m = k.hash.Modulus
	}
	for i, p := range products {
		// Eight bytes always fit; the protocol may be the ninth.
		hi := uint64(0)
		if k.mask.Proto {
			hi, p = bits.Mul64(p, factor(c.Proto[from+i]))
		}
		if m != 0 {
			p = bits.Rem64(hi, p, m)
		}
		if p == want {
			dst = append(dst, int32(from+i))
		}
	}
	return dst
}

func multiplyPorts(products []uint64, col []uint16) {
	col = col[:len(products)]
	for i, v := range col {
		products[i] *= factors16(v)
	}
}

func factors16(v uint16) uint64 { return factor(byte(v>>8)) * factor(byte(v)) }
