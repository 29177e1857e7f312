package key

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/big"
	"math/bits"
	"strconv"
	"strings"

	"dragnet/flow"
)

// Kind names a hash function.
type Kind uint8

// The hash functions. Product is the paper's: the product of the components'
// bytes, zeros counted as one, exact up to eight bytes and modulo 2^64 beyond
// (IPv6, or IPv4 with both ports). ProductMod is Product modulo m. Linear is
// ours: sum of a_i * limb_i modulo 2^31-1 over the 16-bit limbs of the
// components, modulo 2^b, with coefficients from a public salt.
const (
	Linear Kind = iota
	Product
	ProductMod
	numKinds
)

var kindNames = [numKinds]string{"linear", "product", "product-mod"}

// String is the name used on the command line and in questions.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

// MaxBits is the largest size of Linear's keys: the prime has 31 bits.
const MaxBits = 31

// Hash is a hash function with its parameters.
type Hash struct {
	Kind Kind
	// Bits is the size of Linear's keys, 1..31. A key of fewer bits is the low
	// end of the same hash's key of more bits.
	Bits uint8
	// Modulus is ProductMod's m, at least 2.
	Modulus uint64
}

// ParseHash reads "linear", "product", "product-mod" or "product-mod:M"; bits
// is the key size for linear. Without M, product-mod takes the largest prime
// below 2^bits, so that all bytes of the components still matter.
func ParseHash(s string, bits int) (Hash, error) {
	name, param, given := strings.Cut(s, ":")
	var h Hash
	switch name {
	case "linear":
		h = Hash{Kind: Linear, Bits: uint8(min(max(bits, 0), 255))}
	case "product":
		h = Hash{Kind: Product}
	case "product-mod":
		h = Hash{Kind: ProductMod, Modulus: largestPrimeBelow(bits)}
	default:
		return Hash{}, fmt.Errorf("unknown hash %q: want linear, product, product-mod or product-mod:M", s)
	}
	if given {
		m, err := strconv.ParseUint(param, 10, 64)
		if err != nil || h.Kind != ProductMod {
			return Hash{}, fmt.Errorf("hash %q: only product-mod takes a parameter, a modulus such as product-mod:65521", s)
		}
		h.Modulus = m
	}
	return h, h.Validate()
}

func largestPrimeBelow(bits int) uint64 {
	if bits < 2 || bits > 62 {
		return 0 // Validate reports it
	}
	for n := uint64(1)<<bits - 1; ; n-- {
		if new(big.Int).SetUint64(n).ProbablyPrime(0) {
			return n
		}
	}
}

// Validate reports parameters that make no sense.
func (h Hash) Validate() error {
	switch {
	case h.Kind >= numKinds:
		return fmt.Errorf("unknown hash kind %d", h.Kind)
	case h.Kind == Linear && (h.Bits < 1 || h.Bits > MaxBits):
		return fmt.Errorf("hash linear: %d bits; want 1..%d", h.Bits, MaxBits)
	case h.Kind == ProductMod && h.Modulus < 2:
		return fmt.Errorf("hash product-mod: modulus %d; want at least 2 (bits 2..62, or product-mod:M)", h.Modulus)
	case h.Kind != Linear && h.Bits != 0, h.Kind != ProductMod && h.Modulus != 0:
		return fmt.Errorf("hash %s: parameter of another hash", h.Kind)
	}
	return nil
}

// String is what ParseHash reads (bits apart).
func (h Hash) String() string {
	if h.Kind == ProductMod {
		return fmt.Sprintf("%s:%d", h.Kind, h.Modulus)
	}
	return h.Kind.String()
}

// Salt selects Linear's coefficients. It is public: it only prevents tables of
// one mask and epoch from being used for another.
type Salt [16]byte

// OneShotSalt is the salt of a mask if no clearinghouse publishes one: derived
// from the epoch, by convention the UTC day ("2026-11-22"), so that all who ask
// the same thing on one day send the same key. Masks that hold an address of one
// family share it: then the keys of one address under several masks differ by
// what the other components add, and do not narrow the address down further
// (HiddenAddresses). A mask without an address has its own.
func OneShotSalt(m Mask, epoch string) Salt {
	h := sha256.New()
	fmt.Fprintf(h, "dragnet salt v2\x00%s\x00", epoch)
	if m.Family != NoAddr {
		h.Write([]byte{byte(m.Family)})
	} else {
		code := m.Code()
		h.Write(code[:])
	}
	return Salt(h.Sum(nil))
}

// K is a key. It is ambiguous on purpose.
type K uint64

// String is decimal.
func (k K) String() string { return strconv.FormatUint(uint64(k), 10) }

// prime is Linear's modulus, the Mersenne prime 2^31-1: reduction is a shift
// and an add, and products of a coefficient and a limb stay below 2^47, so
// SQL's 64-bit integers compute the same.
const prime = 1<<31 - 1

// maxLimbs: eight of an IPv6 address, two ports, the protocol.
const maxLimbs = 11

// Keyer computes keys of one mask, hash and salt. It is a value without
// pointers and safe for concurrent use.
type Keyer struct {
	mask Mask
	end  End
	hash Hash
	low  uint64 // 2^b - 1
	a    [maxLimbs]uint64
	v4   uint32 // prefix mask of an IPv4 address
}

// NewKeyer prepares to compute keys of flows whose X is at end.
func NewKeyer(m Mask, end End, h Hash, salt Salt) (*Keyer, error) {
	if err := m.Validate(); err != nil {
		return nil, err
	}
	if err := h.Validate(); err != nil {
		return nil, err
	}
	k := &Keyer{mask: m, end: end, hash: h, low: 1<<h.Bits - 1, a: Coefficients(salt)}
	if m.Family == IPv4 {
		k.v4 = ^uint32(0) << (32 - m.Prefix)
	}
	return k, nil
}

// Coefficients are Linear's factors of a salt, one for each limb, in the order
// of the components: for computing keys where flows are stored, such as in SQL.
// It draws a_i uniformly from 1..prime-1: SHA-256 of salt and a counter, cut to
// 31 bits, drawing again for values outside the range.
func Coefficients(salt Salt) (a [maxLimbs]uint64) {
	buf := append(salt[:len(salt):len(salt)], 0, 0, 0, 0)
	for i, counter := 0, uint32(0); i < maxLimbs; counter++ {
		binary.BigEndian.PutUint32(buf[len(salt):], counter)
		sum := sha256.Sum256(buf)
		for w := 0; w < len(sum) && i < maxLimbs; w += 4 {
			if v := binary.BigEndian.Uint32(sum[w:]) & prime; v >= 1 && v < prime {
				a[i] = uint64(v)
				i++
			}
		}
	}
	return a
}

// Flow is the key of f; ok is false if f lacks an address of the mask's
// family. It does not allocate.
func (k *Keyer) Flow(f *flow.Flow) (key K, ok bool) {
	if k.mask.Family == IPv4 && k.hash.Kind == Linear {
		other := k.end.Other(f)
		if !other.Is4() {
			return 0, false
		}
		b := other.As4()
		return k.linear4(binary.BigEndian.Uint32(b[:]), f.OrigPort, f.RespPort, uint8(f.Proto)), true
	}
	t, ok := k.mask.Tuple(f, k.end)
	if !ok {
		return 0, false
	}
	return k.Tuple(t), true
}

// linear4 is Linear over an IPv4 mask, without building the tuple.
func (k *Keyer) linear4(addr uint32, sport, dport uint16, proto uint8) K {
	addr &= k.v4
	sum := k.a[0]*uint64(addr>>16) + k.a[1]*uint64(addr&0xffff)
	i := 2
	if k.mask.SPort {
		sum += k.a[i] * uint64(sport)
		i++
	}
	if k.mask.DPort {
		sum += k.a[i] * uint64(dport)
		i++
	}
	if k.mask.Proto {
		sum += k.a[i] * uint64(proto)
	}
	return K(reduceModPrime(sum) & k.low)
}

// Tuple is the key of t, which must be of the Keyer's mask.
func (k *Keyer) Tuple(t Tuple) K {
	if k.hash.Kind == Linear {
		return k.linearKey(t)
	}
	var buf [21]byte
	p := uint64(1)
	for _, b := range t.appendComponents(buf[:0]) {
		p *= byteFactor(b)
	}
	if k.hash.Kind == ProductMod {
		return K(k.productMod(t))
	}
	return K(p)
}

// productMod reduces at every step: beyond eight bytes the product would
// otherwise be taken modulo 2^64 first.
func (k *Keyer) productMod(t Tuple) uint64 {
	var buf [21]byte
	hi, p := uint64(0), uint64(1)%k.hash.Modulus
	for _, b := range t.appendComponents(buf[:0]) {
		hi, p = bits.Mul64(p, byteFactor(b))
		p = bits.Rem64(hi, p, k.hash.Modulus)
	}
	return p
}

func (k *Keyer) linearKey(t Tuple) K {
	sum, i := uint64(0), 0
	limb := func(v uint64) {
		sum += k.a[i] * v
		i++
	}
	switch k.mask.Family {
	case IPv4:
		a := t.Addr.As4()
		limb(uint64(binary.BigEndian.Uint16(a[:])))
		limb(uint64(binary.BigEndian.Uint16(a[2:])))
	case IPv6:
		a := t.Addr.As16()
		for j := 0; j < len(a); j += 2 {
			limb(uint64(binary.BigEndian.Uint16(a[j:])))
		}
	}
	if k.mask.SPort {
		limb(uint64(t.SPort))
	}
	if k.mask.DPort {
		limb(uint64(t.DPort))
	}
	if k.mask.Proto {
		limb(uint64(t.Proto))
	}
	return K(reduceModPrime(sum) & k.low)
}

// reduceModPrime is sum mod 2^31-1 in its low 31 bits. Eleven products below 2^47 sum to less than 2^51,
// so one fold leaves less than twice the prime, and one subtraction, written
// without a branch, the rest.
func reduceModPrime(sum uint64) uint64 {
	sum = sum&prime + sum>>31
	return sum + (sum+1)>>31
}

// byteFactor counts a zero byte as one (section 3.2).
func byteFactor(b byte) uint64 { return uint64(b) + (uint64(b)-1)>>63 }
