package openflow

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Fields of the basic class, in OXM type-length-value form (section A.2.3). The
// lowest bit of the third byte says that a mask follows.
const (
	basicClass       = 0x8000
	fieldInPort      = 0
	fieldEtherSource = 4
	fieldEther       = 5
	fieldIPv4        = 11
	fieldIPv6        = 26 // each is followed by that of the destination
	etherIPv4        = 0x0800
	etherIPv6        = 0x86dd
	matchOXM         = 1
)

// append encodes m; without a source, the destination does not count.
func (m Match) append(b []byte) []byte {
	from := len(b)
	b = binary.BigEndian.AppendUint16(b, matchOXM)
	b = append(b, 0, 0) // length, below
	if m.InPort != 0 {
		b = appendField(b, fieldInPort, binary.BigEndian.AppendUint32(nil, m.InPort))
	}
	if m.Source.IsValid() {
		ether, field := uint16(etherIPv4), byte(fieldIPv4)
		if m.Source.Addr().Is6() {
			ether, field = etherIPv6, fieldIPv6
		}
		b = appendField(b, fieldEther, binary.BigEndian.AppendUint16(nil, ether))
		b = appendPrefix(b, field, m.Source)
		if m.Destination.IsValid() {
			b = appendPrefix(b, field+1, m.Destination)
		}
	}
	binary.BigEndian.PutUint16(b[from+2:], uint16(len(b)-from))
	return append(b, make([]byte, padding(len(b)-from))...)
}

func appendField(b []byte, field byte, value []byte) []byte {
	b = append(b, basicClass>>8, basicClass&0xff, field<<1, byte(len(value)))
	return append(b, value...)
}

func appendPrefix(b []byte, field byte, p netip.Prefix) []byte {
	at, address := len(b), p.Masked().Addr().AsSlice()
	b = appendField(b, field, address)
	if !p.IsSingleIP() {
		b[at+2] |= 1
		b[at+3] *= 2
		b = append(b, maskOf(p.Bits(), len(address))...)
	}
	return b
}

func maskOf(bits, bytes int) []byte {
	m := make([]byte, bytes)
	for i := range bits {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

// padding is the number of bytes up to the next multiple of 8.
func padding(n int) int { return (8 - n%8) % 8 }

// parseMatch reads a match and returns how many bytes it took with its padding.
func parseMatch(b []byte) (m Match, n int, err error) {
	if len(b) < 4 {
		return m, 0, fmt.Errorf("match: %w", ErrTruncated)
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	n = length + padding(length)
	switch {
	case binary.BigEndian.Uint16(b) != matchOXM || length < 4:
		return m, 0, fmt.Errorf("match: %w %d", ErrLength, length)
	case n > len(b):
		return m, 0, fmt.Errorf("match: %w", ErrTruncated)
	}
	for fields := b[4:length]; len(fields) > 0; {
		if len(fields) < 4 || len(fields) < 4+int(fields[3]) {
			return m, 0, fmt.Errorf("field of a match: %w", ErrTruncated)
		}
		m.addField(binary.BigEndian.Uint16(fields), fields[2]>>1, fields[2]&1 != 0, fields[4:4+int(fields[3])])
		fields = fields[4+int(fields[3]):]
	}
	return m, n, nil
}

func (m *Match) addField(class uint16, field byte, masked bool, value []byte) {
	width := map[byte]int{fieldIPv4: 4, fieldIPv4 + 1: 4, fieldIPv6: 16, fieldIPv6 + 1: 16}[field]
	into := &m.Source
	if field == fieldIPv4+1 || field == fieldIPv6+1 {
		into = &m.Destination
	}
	switch {
	case class == basicClass && field == fieldEther && !masked && len(value) == 2:
		return // the source says it too
	case class == basicClass && field == fieldInPort && !masked && len(value) == 4 && m.InPort == 0:
		if m.InPort = binary.BigEndian.Uint32(value); m.InPort != 0 {
			return
		}
	case class != basicClass || width == 0 || into.IsValid():
	case !masked && len(value) == width:
		a, _ := netip.AddrFromSlice(value)
		*into = netip.PrefixFrom(a, 8*width)
		return
	case masked && len(value) == 2*width:
		if bits, ok := prefixLength(value[width:]); ok {
			a, _ := netip.AddrFromSlice(value[:width])
			*into = netip.PrefixFrom(a, bits).Masked()
			return
		}
	}
	m.Others++
}

// prefixLength is the number of leading ones of a mask; ok is false if others
// follow.
func prefixLength(mask []byte) (bits int, ok bool) {
	for bits < 8*len(mask) && mask[bits/8]>>(7-bits%8)&1 != 0 {
		bits++
	}
	for i := bits; i < 8*len(mask); i++ {
		if mask[i/8]>>(7-i%8)&1 != 0 {
			return 0, false
		}
	}
	return bits, true
}

// Instructions (section A.2.4) and actions (section A.2.5).
const (
	instructionApply = 4
	instructionMeter = 6
	actionOutput     = 0
	actionSetField   = 25
	outputLength     = 16
	setSourceLength  = 16 // with 2 bytes of padding
)

func (a Action) append(b []byte) []byte {
	if a.Meter != 0 {
		b = append(b, 0, instructionMeter, 0, 8)
		b = binary.BigEndian.AppendUint32(b, a.Meter)
	}
	length, rewrite := outputLength*len(a.Ports), a.EtherSource != [6]byte{}
	if rewrite {
		length += setSourceLength
	}
	if length == 0 {
		return b
	}
	b = append(b, 0, instructionApply)
	b = binary.BigEndian.AppendUint16(b, uint16(8+length))
	b = append(b, 0, 0, 0, 0)
	if rewrite {
		b = append(b, 0, actionSetField, 0, setSourceLength)
		b = appendField(b, fieldEtherSource, a.EtherSource[:])
		b = append(b, 0, 0)
	}
	for _, p := range a.Ports {
		b = append(b, 0, actionOutput, 0, outputLength)
		b = binary.BigEndian.AppendUint32(b, p)
		b = append(b, make([]byte, 8)...)
	}
	return b
}

func parseInstructions(b []byte) (a Action, err error) {
	for len(b) > 0 {
		kind, value, rest, err := splitItem(b, 8)
		if err != nil {
			return a, fmt.Errorf("instruction: %w", err)
		}
		switch kind {
		case instructionMeter:
			a.Meter = binary.BigEndian.Uint32(value[4:])
		case instructionApply:
			if err := a.addActions(value[8:]); err != nil {
				return a, err
			}
		default:
			a.Others++
		}
		b = rest
	}
	return a, nil
}

func (a *Action) addActions(b []byte) error {
	for len(b) > 0 {
		kind, value, rest, err := splitItem(b, 8)
		if err != nil {
			return fmt.Errorf("action: %w", err)
		}
		switch {
		case kind == actionOutput && len(value) == outputLength:
			a.Ports = append(a.Ports, binary.BigEndian.Uint32(value[4:]))
		case kind == actionSetField && len(a.Ports) == 0 && a.EtherSource == [6]byte{} && isEtherSource(value):
			a.EtherSource = [6]byte(value[8:])
		default:
			a.Others++
		}
		b = rest
	}
	return nil
}

// isEtherSource reports whether a set_field action sets the Ethernet source, to
// other than 0.
func isEtherSource(action []byte) bool {
	return len(action) == setSourceLength && binary.BigEndian.Uint16(action[4:]) == basicClass && action[6] == fieldEtherSource<<1 && action[7] == 6 && [6]byte(action[8:]) != [6]byte{}
}

// splitItem takes the first item off b, which begins with its type and its
// length; least is the smallest length.
func splitItem(b []byte, least int) (kind uint16, item, rest []byte, err error) {
	if len(b) < 4 {
		return 0, nil, nil, ErrTruncated
	}
	length := int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case length < least:
		return 0, nil, nil, ErrLength
	case length > len(b):
		return 0, nil, nil, ErrTruncated
	}
	return binary.BigEndian.Uint16(b), b[:length], b[length:], nil
}
