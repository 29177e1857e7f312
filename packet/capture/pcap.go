package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"dragnet/flow"
	"dragnet/packet"
)

// pcap is the classic format (draft-ietf-opsawg-pcap): a header of 24 octets,
// then per packet 16 octets of seconds, fraction, captured and wire length.
type pcap struct {
	in    *pieceReader
	order binary.ByteOrder
	// unit is the number of nanoseconds in one count of the fraction.
	unit int64
	link packet.LinkType
	// extra is the length of the data that patched kernels append to each
	// packet header.
	extra int
}

// pcapMagic reads the file's first four bytes.
func pcapMagic(b []byte) (p pcap, ok bool) {
	for _, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
		switch order.Uint32(b) {
		case 0xa1b2c3d4:
			return pcap{order: order, unit: 1000}, true
		case 0xa1b23c4d:
			return pcap{order: order, unit: 1}, true
		case 0xa1b2cd34: // Kuznetzov's variant, with interface and protocol
			return pcap{order: order, unit: 1000, extra: 8}, true
		}
	}
	return pcap{}, false
}

func newPcap(in *pieceReader) (*pcap, error) {
	b, err := in.nextPiece(24)
	if err != nil {
		return nil, errors.New("pcap file ends inside its header")
	}
	p, _ := pcapMagic(b)
	p.in = in
	if major := p.order.Uint16(b[4:]); major != 2 {
		return nil, fmt.Errorf("pcap file has version %d; only version 2 is supported", major)
	}
	p.link = packet.LinkType(p.order.Uint32(b[20:])) // the upper half holds the frame check length
	return &p, nil
}

func (p *pcap) readRecord(rec *Record) error {
	b, err := p.in.nextPiece(16 + p.extra)
	if err != nil {
		return err
	}
	seconds, fraction := p.order.Uint32(b), p.order.Uint32(b[4:])
	captured, wire := p.order.Uint32(b[8:]), p.order.Uint32(b[12:])
	if captured > MaxPacket {
		return fmt.Errorf("captured length %d is impossible (at most %d)", captured, MaxPacket)
	}
	data, err := p.in.nextPiece(int(captured))
	if err == io.EOF && captured > 0 {
		err = errCut
	}
	if err != nil {
		return err
	}
	rec.Time = flow.Time(int64(seconds)*1e9 + int64(fraction)*p.unit)
	rec.Link = p.link
	rec.Data = data
	rec.Wire = wireLength(wire, captured)
	if captured == 0 {
		return &SkipError{Reason: "it has no bytes"}
	}
	return nil
}

// wireLength accepts a wire length only if it is at least the captured length
// and at most that of a jumbogram.
func wireLength(wire, captured uint32) int {
	if wire < captured || wire > 1<<24 {
		return int(captured)
	}
	return int(wire)
}
