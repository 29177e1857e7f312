package capture

import (
	"encoding/binary"
	"fmt"
	"io"

	"dragnet/packet"
)

// Writer writes a pcap file with nanoseconds, little-endian. A Reader, tcpdump and
// tshark read it.
type Writer struct {
	w    io.Writer
	link packet.LinkType
}

// NewWriter writes the header of a file with packets of one type of link.
func NewWriter(w io.Writer, link packet.LinkType) (*Writer, error) {
	h := make([]byte, 24)
	binary.LittleEndian.PutUint32(h, 0xa1b23c4d)
	binary.LittleEndian.PutUint16(h[4:], 2)
	binary.LittleEndian.PutUint16(h[6:], 4)
	binary.LittleEndian.PutUint32(h[16:], MaxPacket)
	binary.LittleEndian.PutUint32(h[20:], uint32(link))
	_, err := w.Write(h)
	return &Writer{w, link}, err
}

// Write writes a packet, in one call of the underlying writer.
func (w *Writer) Write(r *Record) error {
	if r.Link != w.link {
		return fmt.Errorf("a packet of link type %d in a file of type %d", r.Link, w.link)
	}
	b := make([]byte, 16, 16+len(r.Data))
	binary.LittleEndian.PutUint32(b, uint32(r.Time/1e9))
	binary.LittleEndian.PutUint32(b[4:], uint32(r.Time%1e9))
	binary.LittleEndian.PutUint32(b[8:], uint32(len(r.Data)))
	binary.LittleEndian.PutUint32(b[12:], uint32(max(r.Wire, len(r.Data))))
	_, err := w.w.Write(append(b, r.Data...))
	return err
}
