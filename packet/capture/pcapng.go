package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"

	"dragnet/flow"
	"dragnet/packet"
)

// Block types (draft-ietf-opsawg-pcapng, section 10.1). That of the section
// header is the same in both byte orders.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockOldPacket = 2
	blockSimple    = 3
	blockEnhanced  = 6
)

const (
	// maxBlock bounds a block that is read whole; larger ones without a packet
	// are skipped.
	maxBlock = MaxPacket + 1<<16
	// maxInterfaces bounds the interfaces of one section.
	maxInterfaces = 1 << 16
)

// pcapng is a sequence of blocks: type, length, body, length again.
type pcapng struct {
	in         *pieceReader
	order      binary.ByteOrder
	interfaces []iface
}

// iface is the content of an interface description block.
type iface struct {
	link packet.LinkType
	// perSecond is the resolution of timestamps.
	perSecond uint64
	// offset is added to timestamps, in seconds.
	offset int64
}

func (p *pcapng) readRecord(rec *Record) error {
	for {
		head, err := p.in.nextPiece(8)
		if err != nil {
			return err
		}
		kind := binary.BigEndian.Uint32(head)
		if kind == blockSection {
			if err := p.readSection(head); err != nil {
				return err
			}
			continue
		}
		kind = p.order.Uint32(head)
		length := p.order.Uint32(head[4:])
		if length < 12 || length%4 != 0 {
			return fmt.Errorf("block length %d is impossible", length)
		}
		switch kind {
		case blockInterface, blockOldPacket, blockSimple, blockEnhanced:
		default:
			if err := p.in.skipBytes(int64(length) - 8); err != nil {
				return cutIfEOF(err)
			}
			continue
		}
		if length > maxBlock {
			return fmt.Errorf("block length %d is impossible (at most %d)", length, maxBlock)
		}
		body, err := p.in.nextPiece(int(length) - 8)
		if err != nil {
			return cutIfEOF(err)
		}
		if again := p.order.Uint32(body[len(body)-4:]); again != length {
			return fmt.Errorf("block has length %d at its start and %d at its end", length, again)
		}
		body = body[:len(body)-4]
		if kind == blockInterface {
			if err := p.addInterface(body); err != nil {
				return err
			}
			continue
		}
		return p.readPacketBlock(kind, body, rec)
	}
}

// cutIfEOF turns an end of file after a block's head into the error of a
// truncated block.
func cutIfEOF(err error) error {
	if err == io.EOF {
		return errCut
	}
	return err
}

// readSection reads a section header; head holds its type and length. It resets
// byte order and interfaces.
func (p *pcapng) readSection(head []byte) error {
	raw := [4]byte(head[4:8])
	magic, err := p.in.nextPiece(4)
	if err != nil {
		return cutIfEOF(err)
	}
	switch {
	case binary.LittleEndian.Uint32(magic) == 0x1a2b3c4d:
		p.order = binary.LittleEndian
	case binary.BigEndian.Uint32(magic) == 0x1a2b3c4d:
		p.order = binary.BigEndian
	default:
		return errors.New("section header has no byte-order mark")
	}
	length := p.order.Uint32(raw[:])
	if length < 28 || length%4 != 0 {
		return fmt.Errorf("section header length %d is impossible", length)
	}
	version, err := p.in.nextPiece(4)
	if err != nil {
		return cutIfEOF(err)
	}
	if major := p.order.Uint16(version); major != 1 {
		return fmt.Errorf("pcapng section has version %d; only version 1 is supported", major)
	}
	p.interfaces = p.interfaces[:0]
	return cutIfEOF(p.in.skipBytes(int64(length) - 16))
}

// addInterface adds an interface.
func (p *pcapng) addInterface(b []byte) error {
	if len(b) < 8 {
		return errors.New("interface description is too short")
	}
	if len(p.interfaces) >= maxInterfaces {
		return fmt.Errorf("section has more than %d interfaces", maxInterfaces)
	}
	i := iface{link: packet.LinkType(p.order.Uint16(b)), perSecond: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, n := p.order.Uint16(b), int(p.order.Uint16(b[2:]))
		padded := (n + 3) &^ 3
		if code == 0 || padded > len(b)-4 {
			break
		}
		value := b[4 : 4+n]
		switch {
		case code == 9 && n == 1: // if_tsresol
			i.perSecond = parseResolution(value[0])
		case code == 14 && n == 8: // if_tsoffset
			i.offset = int64(p.order.Uint64(value))
		}
		b = b[4+padded:]
	}
	p.interfaces = append(p.interfaces, i)
	return nil
}

// parseResolution is counts per second: a power of 10, or of 2 if the high bit
// is set; 0 if that does not fit 64 bits.
func parseResolution(v byte) uint64 {
	if v&0x80 != 0 {
		return 1 << (v & 0x7f) // 0 from 64 on
	}
	if v > 19 {
		return 0
	}
	n := uint64(1)
	for range v {
		n *= 10
	}
	return n
}

// readPacketBlock reads the body of a packet block.
func (p *pcapng) readPacketBlock(kind uint32, b []byte, rec *Record) error {
	header := 20
	if kind == blockSimple {
		return &SkipError{Reason: "simple packet block: it has no time"}
	}
	if len(b) < header {
		return &SkipError{Reason: "packet block is too short"}
	}
	number := p.order.Uint32(b)
	if kind == blockOldPacket {
		number = uint32(p.order.Uint16(b)) // then a count of drops
	}
	if int64(number) >= int64(len(p.interfaces)) {
		return &SkipError{Reason: fmt.Sprintf("interface %d is not described", number)}
	}
	captured, wire := p.order.Uint32(b[12:]), p.order.Uint32(b[16:])
	switch {
	case captured == 0:
		return &SkipError{Reason: "it has no bytes"}
	case captured > MaxPacket || int(captured) > len(b)-header:
		return &SkipError{Reason: fmt.Sprintf("captured length %d does not fit its block of %d", captured, len(b)+12)}
	}
	i := p.interfaces[number]
	count := uint64(p.order.Uint32(b[4:]))<<32 | uint64(p.order.Uint32(b[8:]))
	t, ok := i.toTime(count)
	if !ok {
		return &SkipError{Reason: "its time is out of range"}
	}
	rec.Time = t
	rec.Link = i.link
	rec.Data = b[header : header+int(captured)]
	rec.Wire = wireLength(wire, captured)
	return nil
}

// toTime converts a count of the interface's resolution.
func (i iface) toTime(count uint64) (flow.Time, bool) {
	if i.perSecond == 0 {
		return 0, false
	}
	seconds, rest := count/i.perSecond, count%i.perSecond
	high, low := bits.Mul64(rest, 1e9)
	nanos, _ := bits.Div64(high, low, i.perSecond)
	const most = 1 << 33 // seconds that flow.Time can hold, approximately
	total := int64(seconds) + i.offset
	if seconds > most || i.offset > most || i.offset < -most || total < -most || total > most {
		return 0, false
	}
	return flow.Time(total*1e9 + int64(nanos)), true
}
