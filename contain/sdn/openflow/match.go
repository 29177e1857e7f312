package openflow

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Fields of the basic class, in OXM type-length-value form (section A.2.3). The
// lowest bit of the third byte says that a mask follows.
const (
	basicClass = 0x8000
	fieldEther = 5
	fieldIPv4  = 11
	fieldIPv6  = 26
	etherIPv4  = 0x0800
	etherIPv6  = 0x86dd
	matchOXM   = 1
)

// append encodes m; an invalid source matches every packet.
func (m Match) append(b []byte) []byte {
	from := len(b)
	b = binary.BigEndian.AppendUint16(b, matchOXM)
	b = append(b, 0, 0) // length, below
	if m.Source.IsValid() {
		ether, field := uint16(etherIPv4), byte(fieldIPv4)
		if m.Source.Addr().Is6() {
			ether, field = etherIPv6, fieldIPv6
		}
		b = append(b, basicClass>>8, basicClass&0xff, fieldEther<<1, 2)
		b = binary.BigEndian.AppendUint16(b, ether)
		address := m.Source.Masked().Addr().AsSlice()
		b = append(b, basicClass>>8, basicClass&0xff, field<<1, byte(len(address)))
		b = append(b, address...)
		if !m.Source.IsSingleIP() {
			b[len(b)-len(address)-2] |= 1
			b[len(b)-len(address)-1] *= 2
			b = append(b, maskOf(m.Source.Bits(), len(address))...)
		}
	}
	binary.BigEndian.PutUint16(b[from+2:], uint16(len(b)-from))
	return append(b, make([]byte, padding(len(b)-from))...)
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
	width := map[byte]int{fieldIPv4: 4, fieldIPv6: 16}[field]
	switch {
	case class == basicClass && field == fieldEther && !masked && len(value) == 2:
		return // the source says it too
	case class != basicClass || width == 0 || m.Source.IsValid():
	case !masked && len(value) == width:
		a, _ := netip.AddrFromSlice(value)
		m.Source = netip.PrefixFrom(a, 8*width)
		return
	case masked && len(value) == 2*width:
		if bits, ok := prefixLength(value[width:]); ok {
			a, _ := netip.AddrFromSlice(value[:width])
			m.Source = netip.PrefixFrom(a, bits).Masked()
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

// Instructions (section A.2.4) and the one action.
const (
	instructionApply = 4
	instructionMeter = 6
	actionOutput     = 0
	outputLength     = 16
)

func (a Action) append(b []byte) []byte {
	if a.Meter != 0 {
		b = append(b, 0, instructionMeter, 0, 8)
		b = binary.BigEndian.AppendUint32(b, a.Meter)
	}
	if len(a.Ports) == 0 {
		return b
	}
	b = append(b, 0, instructionApply)
	b = binary.BigEndian.AppendUint16(b, uint16(8+outputLength*len(a.Ports)))
	b = append(b, 0, 0, 0, 0)
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
		if kind == actionOutput && len(value) == outputLength {
			a.Ports = append(a.Ports, binary.BigEndian.Uint32(value[4:]))
		} else {
			a.Others++
		}
		b = rest
	}
	return nil
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
