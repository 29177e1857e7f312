// Package capture reads capture files: pcap with microseconds or nanoseconds
// in either byte order, and pcapng, plain or compressed with gzip or zstd.
//
// Files are untrusted. A reader never trusts a length: it keeps what it read so
// far, reports at which packet a file is damaged, and holds one packet in
// memory.
package capture

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"dragnet/flow"
	"dragnet/internal/unpack"
	"dragnet/packet"
)

// MaxPacket bounds the captured length of one packet; libpcap's own limit is
// the same.
const MaxPacket = 262144

// Record is one captured packet.
type Record struct {
	// Number counts packets of the file from 1, as tshark and tcpdump do.
	Number uint64
	Time   flow.Time
	Link   packet.LinkType
	// Data is valid until the next call of Next.
	Data []byte
	// Wire is the packet's length on the wire; more than len(Data) if the
	// capture truncated it.
	Wire int
	// Direction is set for packets of a live interface only.
	Direction PacketDirection
}

// PacketDirection is that of a packet at the interface where it was captured.
type PacketDirection uint8

// The directions.
const (
	UnknownDirection PacketDirection = iota
	Received
	Sent
)

// Reader yields the packets of one capture file in the order of the file.
type Reader struct {
	format format
	record Record // the last one
	number uint64
	err    error
}

// format is one of the two file formats; readRecord fills everything of a
// record but its number.
type format interface {
	readRecord(*Record) error
}

// SkipError is returned by Next for one packet that cannot be used; the reader
// continues after it.
type SkipError struct {
	Number uint64
	Reason string
}

// Error is "packet N: reason".
func (e *SkipError) Error() string { return fmt.Sprintf("packet %d: %s", e.Number, e.Reason) }

// DamageError is returned by Next when nothing after packet Number-1 can be
// read. The packets returned before are valid.
type DamageError struct {
	Number uint64
	Reason string
}

// Error is "packet N: reason; the N-1 packets before it were read".
func (e *DamageError) Error() string {
	return fmt.Sprintf("packet %d: %s; the %d packets before it were read", e.Number, e.Reason, e.Number-1)
}

// Is reports whether prefix, the first bytes of a file, look like a capture
// file. For a compressed file pass the decompressed bytes. Four bytes suffice.
func Is(prefix []byte) bool {
	if len(prefix) < 4 {
		return false
	}
	if _, ok := pcapMagic(prefix); ok {
		return true
	}
	return binary.BigEndian.Uint32(prefix) == blockSection
}

// NewReader reads the file header from r, which may be compressed with gzip or zstd.
func NewReader(r io.Reader) (*Reader, error) {
	b := bufio.NewReaderSize(r, 1<<18)
	if u := unpack.NewReader(b); u.Format() != unpack.Plain {
		b = bufio.NewReaderSize(u, 1<<18)
	}
	head, err := b.Peek(4)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("file is empty or shorter than a file header")
		}
		return nil, err
	}
	if !Is(head) {
		return nil, fmt.Errorf("not a pcap or pcapng file: it starts with % x", head)
	}
	in := &pieceReader{r: b}
	if binary.BigEndian.Uint32(head) == blockSection {
		return &Reader{format: &pcapng{in: in}}, nil
	}
	p, err := newPcap(in)
	if err != nil {
		return nil, err
	}
	return &Reader{format: p}, nil
}

// Next returns the next packet, io.EOF at a regular end of file, a *SkipError
// for a packet that must be left out, or a *DamageError, after which there are
// no more packets.
func (r *Reader) Next() (Record, error) {
	if r.err != nil {
		return Record{}, r.err
	}
	err := r.format.readRecord(&r.record)
	if err == io.EOF {
		r.err = err
		return Record{}, err
	}
	r.number++
	r.record.Number = r.number
	switch e := err.(type) {
	case nil:
		return r.record, nil
	case *SkipError:
		e.Number = r.number
		return Record{}, e
	}
	r.err = &DamageError{r.number, err.Error()}
	return Record{}, r.err
}

// File is a Reader on an open file.
type File struct {
	*Reader
	f *os.File
}

// Open opens a capture file.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r, err := NewReader(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &File{r, f}, nil
}

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }
