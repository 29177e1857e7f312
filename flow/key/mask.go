// Package key turns the fixed components of a flow into the small, ambiguous
// key K that a detective sends instead of its pattern (Allman et al. 2006,
// section 3.1: K = H(C1, ..., Cn)).
//
// A Mask selects components, a Tuple holds their values, a Hash maps a tuple
// to K, and the ambiguity functions count the tuples that share a K, which is
// the only protection of the pattern.
package key

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"dragnet/flow"
)

// End is the end of the flow that is X, the host a clue leaves open.
type End uint8

// In: X is the responder, the flow comes in to it. Out: X is the originator.
const (
	In End = iota
	Out
)

// String is the pattern language's word, "in" or "out".
func (e End) String() string {
	if e == In {
		return "in"
	}
	return "out"
}

// X is the host that e leaves open.
func (e End) X(f *flow.Flow) netip.Addr {
	if e == In {
		return f.Resp
	}
	return f.Orig
}

// Other is the host at the far end from X.
func (e End) Other(f *flow.Flow) netip.Addr {
	if e == In {
		return f.Orig
	}
	return f.Resp
}

// AddressFamily is the IP version of the address in a mask.
type AddressFamily uint8

// NoAddr means the mask holds no address, and matches flows of both versions.
const (
	NoAddr AddressFamily = 0
	IPv4   AddressFamily = 4
	IPv6   AddressFamily = 6
)

// Bits is the length of the family's addresses in bits.
func (f AddressFamily) Bits() int {
	switch f {
	case IPv4:
		return 32
	case IPv6:
		return 128
	}
	return 0
}

// Mask is the set of components of a key: the paper's bit mask of a
// self-describing question (section 3.3).
type Mask struct {
	// Family of the other host's address; NoAddr leaves the address out.
	Family AddressFamily
	// Prefix is how many leading bits of that address count.
	Prefix uint8
	// SPort and DPort are the originator's and the responder's port.
	SPort, DPort bool
	// Proto is the IP protocol.
	Proto bool
}

// Validate reports a mask without components or with an impossible prefix.
func (m Mask) Validate() error {
	switch {
	case m.Family != NoAddr && m.Family != IPv4 && m.Family != IPv6:
		return fmt.Errorf("mask: unknown address family %d", m.Family)
	case int(m.Prefix) > m.Family.Bits():
		return fmt.Errorf("mask: prefix length %d exceeds %d bits", m.Prefix, m.Family.Bits())
	case m.Family != NoAddr && m.Prefix == 0:
		return fmt.Errorf("mask: an address of 0 bits fixes nothing; leave it out")
	case m == Mask{}:
		return fmt.Errorf("mask: no component is fixed")
	}
	return nil
}

// String is the mask as questions show it, such as "addr4/32+dport+proto".
func (m Mask) String() string {
	var parts []string
	if m.Family != NoAddr {
		parts = append(parts, fmt.Sprintf("addr%d/%d", m.Family, m.Prefix))
	}
	for _, c := range []struct {
		in   bool
		name string
	}{{m.SPort, "sport"}, {m.DPort, "dport"}, {m.Proto, "proto"}} {
		if c.in {
			parts = append(parts, c.name)
		}
	}
	return strings.Join(parts, "+")
}

// ParseMask reads what String writes.
func ParseMask(s string) (Mask, error) {
	var m Mask
	for part := range strings.SplitSeq(s, "+") {
		switch {
		case part == "sport" && !m.SPort:
			m.SPort = true
		case part == "dport" && !m.DPort:
			m.DPort = true
		case part == "proto" && !m.Proto:
			m.Proto = true
		case strings.HasPrefix(part, "addr") && m.Family == NoAddr:
			family, prefix, _ := strings.Cut(part[len("addr"):], "/")
			f, err1 := strconv.ParseUint(family, 10, 8)
			p, err2 := strconv.ParseUint(prefix, 10, 8)
			if err1 != nil || err2 != nil {
				return Mask{}, fmt.Errorf("mask component %q: want addr4/32 or addr6/128", part)
			}
			m.Family, m.Prefix = AddressFamily(f), uint8(p)
		default:
			return Mask{}, fmt.Errorf("mask component %q: want each of addr4/N, addr6/N, sport, dport, proto at most once", part)
		}
	}
	return m, m.Validate()
}

// Code is the mask in three bytes, for hashing and for the wire.
func (m Mask) Code() [3]byte {
	var flags byte
	for i, in := range []bool{m.SPort, m.DPort, m.Proto} {
		if in {
			flags |= 1 << i
		}
	}
	return [3]byte{byte(m.Family), m.Prefix, flags}
}

// MaskFromCode reads Code's result.
func MaskFromCode(c [3]byte) (Mask, error) {
	m := Mask{Family: AddressFamily(c[0]), Prefix: c[1], SPort: c[2]&1 != 0, DPort: c[2]&2 != 0, Proto: c[2]&4 != 0}
	if c[2] > 7 {
		return Mask{}, fmt.Errorf("mask: unknown components %#x", c[2])
	}
	return m, m.Validate()
}

// Tuple holds the values of a mask's components: the paper's T. Parts outside
// the mask are zero, so equal tuples compare equal.
type Tuple struct {
	Mask         Mask
	Addr         netip.Addr
	SPort, DPort uint16
	Proto        flow.Proto
}

// Tuple extracts the components of f, where X is at end; ok is false if f has
// no address of the mask's family.
func (m Mask) Tuple(f *flow.Flow, end End) (t Tuple, ok bool) {
	t.Mask = m
	if m.Family != NoAddr {
		p, ok := m.prefixOf(end.Other(f))
		if !ok {
			return Tuple{}, false
		}
		t.Addr = p
	}
	if m.SPort {
		t.SPort = f.OrigPort
	}
	if m.DPort {
		t.DPort = f.RespPort
	}
	if m.Proto {
		t.Proto = f.Proto
	}
	return t, true
}

func (m Mask) prefixOf(a netip.Addr) (netip.Addr, bool) {
	if a.Is4() != (m.Family == IPv4) || !a.IsValid() {
		return netip.Addr{}, false
	}
	p, err := a.Prefix(int(m.Prefix))
	return p.Addr(), err == nil
}

// AppendBinary appends the canonical bytes of t, unique to the tuple: the
// mask's code, then each component in network byte order.
func (t Tuple) AppendBinary(b []byte) ([]byte, error) {
	code := t.Mask.Code()
	return t.appendComponents(append(b, code[:]...)), nil
}

// Compare orders tuples by their canonical bytes: the order in which the values of a
// count of clues are sealed.
func (t Tuple) Compare(u Tuple) int {
	a, _ := t.AppendBinary(nil) // cannot fail
	b, _ := u.AppendBinary(nil)
	return bytes.Compare(a, b)
}

// appendComponents appends the bytes that are multiplied by the paper's hash.
func (t Tuple) appendComponents(b []byte) []byte {
	switch t.Mask.Family {
	case IPv4:
		a := t.Addr.As4()
		b = append(b, a[:]...)
	case IPv6:
		a := t.Addr.As16()
		b = append(b, a[:]...)
	}
	if t.Mask.SPort {
		b = binary.BigEndian.AppendUint16(b, t.SPort)
	}
	if t.Mask.DPort {
		b = binary.BigEndian.AppendUint16(b, t.DPort)
	}
	if t.Mask.Proto {
		b = append(b, byte(t.Proto))
	}
	return b
}

// FirstComponent is the first component of a sealed answer (section 3.1): the
// bytes of the address if the mask has one, else those of the first port or the
// protocol.
func (t Tuple) FirstComponent() []byte {
	all := t.appendComponents(nil)
	switch {
	case t.Mask.Family != NoAddr:
		return all[:t.Mask.Family.Bits()/8]
	case t.Mask.SPort || t.Mask.DPort:
		return all[:2]
	}
	return all
}

// String lists the components, such as "192.0.2.1/32 dport=69 proto=udp".
func (t Tuple) String() string {
	var parts []string
	if t.Mask.Family != NoAddr {
		parts = append(parts, netip.PrefixFrom(t.Addr, int(t.Mask.Prefix)).String())
	}
	if t.Mask.SPort {
		parts = append(parts, fmt.Sprintf("sport=%d", t.SPort))
	}
	if t.Mask.DPort {
		parts = append(parts, fmt.Sprintf("dport=%d", t.DPort))
	}
	if t.Mask.Proto {
		parts = append(parts, "proto="+t.Proto.String())
	}
	return strings.Join(parts, " ")
}
