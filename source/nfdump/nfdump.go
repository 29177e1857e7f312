// Package nfdump reads the files of nfdump's collectors, such as nfcapd writes:
// layout version 2 with records of version 3, of nfdump 1.7 (nfdump's nffile.h
// and nfxV3.h), uncompressed or compressed with LZO, LZ4, bzip2 or Zstandard.
// nfdump converts those of layout 1, which 1.6 wrote.
//
// A record is one direction of a conversation, to be joined (source/biflow).
// nfcapd multiplies counts by the sampling rate; here they are again as they
// were exported, with the rate beside them.
package nfdump

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/anchore/go-lzo"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// Reasons why a file cannot be read.
var (
	// ErrLayout marks files of another layout or machine.
	ErrLayout = errors.New("not of layout 2 on a little-endian machine, which nfdump 1.7 writes; convert it with 'nfdump -r FILE -w NEW'")
	// ErrEncrypted marks encrypted files.
	ErrEncrypted = errors.New("it is encrypted")
	// ErrOpen marks a file that the collector has not finished.
	ErrOpen = errors.New("its collector is still writing it")
)

// Sizes in bytes.
const (
	fileHeader  = 40
	blockHeader = 12
	// maxBlock is above the 5 MiB of which nfdump makes its blocks.
	maxBlock = 10 << 20
	// maxRatio bounds how much more a block may hold than it takes: records of
	// one kind hardly shrink below a hundredth.
	maxRatio = 1 << 10
)

const magic = 0xa50c

// Is reports whether prefix, the first bytes of a file, look like it, whatever
// its layout.
func Is(prefix []byte) bool {
	if len(prefix) < fileHeader {
		return false
	}
	version := binary.LittleEndian.Uint16(prefix[2:])
	switch binary.LittleEndian.Uint16(prefix) {
	case magic:
		return version >= 1 && version <= 3
	case magic>>8 | magic&0xff<<8:
		version = binary.BigEndian.Uint16(prefix[2:])
		return version >= 1 && version <= 3
	}
	return false
}

// header is that of a file: magic, layout, version of the writer, time,
// compression, encryption, appendix blocks, creator, offset of the appendix,
// size and number of blocks.
type header struct {
	compression uint8
	blocks      uint32
}

func readHeader(src io.Reader) (h header, err error) {
	var b [fileHeader]byte
	if _, err := io.ReadFull(src, b[:]); err != nil {
		return h, fmt.Errorf("its header is cut short: %w", err)
	}
	switch {
	case binary.LittleEndian.Uint16(b[:]) != magic || binary.LittleEndian.Uint16(b[2:]) != 2:
		return h, ErrLayout
	case b[17] != 0:
		return h, ErrEncrypted
	}
	h = header{b[16], binary.LittleEndian.Uint32(b[36:])}
	if h.blocks == 0 && binary.LittleEndian.Uint64(b[24:]) == 0 {
		return h, ErrOpen
	}
	return h, nil
}

// Read hands each record of a file to emit, until that fails; a record is valid
// during the call. What cannot be used is counted in cov, with name and number of
// block and record.
func Read(src io.Reader, name string, cov *flow.Coverage, emit func(*biflow.Record) error) error {
	h, err := readHeader(src)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	r := &reader{name: name, cov: cov, emit: emit, header: h, exporters: map[uint16]exporter{}, rates: map[sampler]uint32{}}
	for n := range h.blocks {
		r.block = n + 1
		more, err := r.readBlock(src)
		if err != nil || !more {
			return err
		}
	}
	return nil
}

// reader reads one file.
type reader struct {
	header
	name  string
	cov   *flow.Coverage
	emit  func(*biflow.Record) error
	block uint32 // its number, from 1

	raw, plain []byte
	exporters  map[uint16]exporter
	rates      map[sampler]uint32
	out        biflow.Record
}

// countSkipped counts what cannot be used. A hostile file has millions of such places,
// of which the first say enough.
func (r *reader) countSkipped(record int, format string, args ...any) {
	const enough = 100
	if r.cov.Skipped >= enough {
		r.cov.Skipped++
		return
	}
	r.cov.Skip(fmt.Sprintf("%s: block %d, record %d", r.name, r.block, record), format, args...)
}

// readBlock reads a block: the number of its records, its size, its type and flags.
// Nothing can be found behind a block of wrong size.
func (r *reader) readBlock(src io.Reader) (more bool, err error) {
	var b [blockHeader]byte
	if _, err := io.ReadFull(src, b[:]); err != nil {
		r.countSkipped(0, "the file ends before it: %v", err)
		return false, nil
	}
	records, size, kind, flags := binary.LittleEndian.Uint32(b[:]), binary.LittleEndian.Uint32(b[4:]), binary.LittleEndian.Uint16(b[8:]), binary.LittleEndian.Uint16(b[10:])
	if size > maxBlock {
		r.countSkipped(0, "impossible size of %d bytes: nothing from here on could be read", size)
		return false, nil
	}
	if cap(r.raw) < int(size) {
		r.raw = make([]byte, size)
	}
	r.raw = r.raw[:size]
	if _, err := io.ReadFull(src, r.raw); err != nil {
		r.countSkipped(0, "the file ends within it: %v", err)
		return false, nil
	}
	const individual, uncompressed = 3, 1
	if kind != individual {
		if kind == 2 {
			r.countSkipped(0, "%d records of nfdump 1.6: convert the file with 'nfdump -r FILE -w NEW'", records)
		}
		return true, nil
	}
	plain := r.raw
	if flags&uncompressed == 0 {
		if plain, err = r.decompressBlock(); err != nil {
			r.countSkipped(0, "%v", err)
			return true, nil
		}
	}
	return true, r.readRecords(records, plain)
}

// Kinds of compression.
const (
	none = iota
	withLZO
	withBzip2
	withLZ4
	withZstd
)

// decompressBlock returns what raw holds; valid until the next call.
func (r *reader) decompressBlock() ([]byte, error) {
	if r.compression == none {
		return r.raw, nil
	}
	if most := min(maxBlock, maxRatio*len(r.raw)+64<<10); len(r.plain) < most {
		r.plain = make([]byte, most)
	}
	n, err := 0, error(nil)
	switch r.compression {
	case withLZO:
		n, err = unLZO(r.raw, r.plain)
	case withBzip2:
		n, err = readAll(bzip2.NewReader(bytes.NewReader(r.raw)), r.plain)
	case withLZ4:
		n, err = lz4.UncompressBlock(r.raw, r.plain)
	case withZstd:
		z, zerr := zstd.NewReader(bytes.NewReader(r.raw), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(2*maxBlock))
		if zerr != nil {
			return nil, zerr
		}
		n, err = readAll(z, r.plain)
		z.Close()
	default:
		return nil, fmt.Errorf("compression %d is not known", r.compression)
	}
	if err != nil || n > len(r.plain) {
		return nil, fmt.Errorf("it cannot be decompressed: %w", err)
	}
	return r.plain[:n], nil
}

// unLZO guards against damage that the library does not expect.
func unLZO(src, dst []byte) (n int, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("damaged LZO data")
		}
	}()
	return lzo.Decompress(src, dst)
}

func readAll(src io.Reader, into []byte) (int, error) {
	n, err := io.ReadFull(src, into)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
