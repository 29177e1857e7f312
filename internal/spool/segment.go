package spool

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const extension = ".spool"

// headerSize is that of a record: length of the data and CRC-32C (Castagnoli)
// over all that follows it, 4 bytes each; sequence and time, 8 bytes each; all
// in network byte order. The data follow.
const headerSize = 24

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// segment is one file of records; it is named after the first sequence that it
// may hold.
type segment struct {
	file     *os.File
	first    uint64
	count    uint64
	size     int64
	from, to time.Time // of its first and last record
	broken   error

	// Where reading begins, since the records before have arrived: a byte, and
	// the sequence of the record there.
	at     int64
	record uint64
}

// nextSequence is the sequence after the last one of the segment.
func (g *segment) nextSequence() uint64 { return g.first + g.count }

func newSegment(dir string, first uint64) (*segment, error) {
	name := filepath.Join(dir, fmt.Sprintf("%020d%s", first, extension))
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	d, err := os.Open(dir)
	if err == nil {
		err = errors.Join(d.Sync(), d.Close()) // makes the name last
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(name))
	}
	return &segment{file: f, first: first, record: first}, nil
}

// openSegment reads a whole segment. The last one may end in a record that was
// being written at a crash: it was never acknowledged, and is cut off. The second
// result says what could not be read.
func openSegment(name string, last bool) (*segment, error, error) {
	first, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(name), extension), 10, 64)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: is not a spool file; move it away", name)
	}
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, nil, err
	}
	g := &segment{file: f, first: first, record: first}
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, 1<<62), 64<<10)
	for {
		r, n, err := readRecord(in)
		if err == io.EOF {
			return g, nil, nil
		}
		if err == nil && r.Sequence != g.nextSequence() {
			err = fmt.Errorf("%w: its number is %d, not %d", errTorn, r.Sequence, g.nextSequence())
		}
		if err == nil {
			g.noteAppended(n, 1, r.Time)
			continue
		}
		problem := fmt.Errorf("%s: what follows byte %d is ignored: %w", name, g.size, err)
		if last {
			err = errors.Join(f.Truncate(g.size), f.Sync())
		}
		if !errors.Is(err, errTorn) && err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		return g, problem, nil
	}
}

func (g *segment) noteAppended(size int64, count int, now time.Time) {
	if g.count == 0 {
		g.from = now
	}
	g.to = now
	g.count += uint64(count)
	g.size += size
}

// writeBlock appends a block of count records. If that fails, the segment is as
// before, or broken.
func (g *segment) writeBlock(block []byte, count int, now time.Time) error {
	_, err := g.file.WriteAt(block, g.size)
	if err == nil {
		err = g.file.Sync()
	}
	if err != nil {
		if undo := errors.Join(g.file.Truncate(g.size), g.file.Sync()); undo != nil {
			g.broken = errors.Join(err, undo)
		}
		return err
	}
	g.noteAppended(int64(len(block)), count, now)
	return nil
}

func appendRecord(b []byte, r Record) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, uint32(len(r.Data)))
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint64(b, r.Sequence)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Time.UnixNano()))
	b = append(b, r.Data...)
	binary.BigEndian.PutUint32(b[start+4:], crc32.Checksum(b[start+8:], castagnoli))
	return b
}

// errTorn means that the bytes are not a whole record.
var errTorn = errors.New("incomplete record")

// readRecord reads one record and returns its size with the header. At the end it
// returns io.EOF.
func readRecord(in io.Reader) (r Record, size int64, err error) {
	var header [headerSize]byte
	if n, err := io.ReadFull(in, header[:]); err != nil {
		if n == 0 && err == io.EOF {
			return r, 0, io.EOF
		}
		return r, 0, errors.Join(errTorn, err)
	}
	length := binary.BigEndian.Uint32(header[:])
	if length > MaxRecord {
		return r, 0, fmt.Errorf("%w: it claims %d bytes", errTorn, length)
	}
	r.Data = make([]byte, length)
	if _, err := io.ReadFull(in, r.Data); err != nil {
		return r, 0, errors.Join(errTorn, err)
	}
	sum := crc32.Update(crc32.Checksum(header[8:], castagnoli), castagnoli, r.Data)
	if sum != binary.BigEndian.Uint32(header[4:]) {
		return r, 0, fmt.Errorf("%w: its checksum is wrong", errTorn)
	}
	r.Sequence = binary.BigEndian.Uint64(header[8:])
	r.Time = time.Unix(0, int64(binary.BigEndian.Uint64(header[16:]))).UTC()
	return r, headerSize + int64(length), nil
}

// readRecords passes the records after sequence to take until it has enough.
func (g *segment) readRecords(sequence uint64, take func(Record) bool) (enough bool, err error) {
	in := bufio.NewReaderSize(io.NewSectionReader(g.file, g.at, g.size-g.at), 64<<10)
	at, seq := g.at, g.record
	for seq < g.nextSequence() {
		r, n, err := readRecord(in)
		if err != nil {
			return false, fmt.Errorf("%s: byte %d: %w", g.file.Name(), at, err)
		}
		if r.Sequence > sequence && !take(r) {
			return true, nil
		}
		at, seq = at+n, r.Sequence+1
		if r.Sequence <= sequence {
			g.at, g.record = at, seq
		}
	}
	return false, nil
}
