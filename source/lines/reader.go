// Package lines reads logs of one record a line, which may grow while they are
// read; what a line means is a Format's to say. The Zeek conn log is
// source/zeek's.
//
// Of a format whose lines are each one direction of a conversation, or a part of
// it, the lines that one reading finds are joined (source/biflow). A
// conversation that goes on in the next reading is two flows: what was read can
// be marked as done only with its flows.
//
// A log is read as a hostile file: a line that cannot be used is counted with
// its place and its reason, and one that is too long is passed over in bounded
// memory.
package lines

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"dragnet/flow"
	"dragnet/source/biflow"
	"dragnet/source/zeek"
)

// Format says what the lines of a log mean.
type Format struct {
	// Name is what users call the log.
	Name string
	// Is reports whether prefix, the first bytes of a file, look like it.
	Is func(prefix []byte) bool
	// Parse reads a line into f, which is zero. ok is false for a line that is
	// valid but has no flow.
	Parse Parse
	// Record takes the place of Parse for lines that are to be joined. Times of
	// arrival are those at which records end.
	Record ParseRecord
	// Header, if set, looks whether a line names the columns of those that
	// follow, and says how to read them; nil if it does not. Record may be nil
	// then, for lines before the first header are of no use.
	Header func(line []byte) ParseRecord
	// Whole reports whether a last line without newline is whole. Without it
	// such a line waits for the rest.
	Whole func(line []byte) bool
}

// Parse is how a Format reads a line that is a flow.
type Parse func(line []byte, f *flow.Flow) (ok bool, err error)

// ParseRecord is how a Format reads a line that is a record of one direction.
type ParseRecord func(line []byte, r *biflow.Record) (ok bool, err error)

var errNoHeader = errors.New("no line before it names the columns")

const (
	// maxLine bounds one line without its newline.
	maxLine = 1 << 20
	// batchSize is how many flows are handed over at once.
	batchSize = 1024
	chunkSize = 64 << 10
	// maxJoined bounds the records joined at a time.
	maxJoined = 1 << 17
)

// Reader reads one log, in order and in one goroutine. After io.EOF, Next may
// be called again and goes on with what has been appended since.
type Reader struct {
	src    io.Reader
	format *Format
	name   string
	cov    flow.Coverage
	batch  []flow.Flow

	buf    []byte // read, and not parsed yet
	long   bool   // the line at buf was longer than maxLine; its rest is dropped
	offset int64  // of buf in the log
	line   int64  // lines before it
	err    error  // of src, for when buf is done

	join   *biflow.Joiner // nil unless lines are joined
	joined int            // records in join, since it was flushed
	now    flow.Time      // the latest end of a record
	record ParseRecord    // how lines are read now
	header string         // the line that says so
}

// NewReader reads src in a format; name is what problems call it.
func NewReader(src io.Reader, name string, format *Format) *Reader {
	r := &Reader{src: src, format: format, name: name, record: format.Record, now: flow.MinTime}
	if format.Record != nil || format.Header != nil {
		r.join = biflow.New(biflow.Recorded(), func(f *flow.Flow) { r.batch = append(r.batch, *f) })
	}
	return r
}

// Next returns the next flows, at least one, and io.EOF at the end of what
// there is. The batch is valid until the next call.
func (r *Reader) Next() ([]flow.Flow, error) {
	r.batch = r.batch[:0]
	for {
		r.parse()
		if r.joined > 0 && (r.err != nil || r.joined >= maxJoined) {
			r.join.Cut()
			r.joined = 0
		}
		if r.joined == 0 && len(r.batch) > 0 {
			r.cov.Saw(r.batch)
			return r.batch, nil
		}
		if err := r.err; err != nil {
			r.err = nil
			return nil, err
		}
		r.fill()
	}
}

// fill reads more of the log.
func (r *Reader) fill() {
	if cap(r.buf)-len(r.buf) < chunkSize {
		r.buf = append(make([]byte, 0, 2*len(r.buf)+chunkSize), r.buf...)
	}
	n, err := r.src.Read(r.buf[len(r.buf):cap(r.buf)])
	r.buf = r.buf[:len(r.buf)+n]
	r.err = err
	if err == io.EOF && !r.long && len(r.buf) > 0 && r.format.Whole != nil && r.buf[len(r.buf)-1] != '\n' {
		last := r.buf[bytes.LastIndexByte(r.buf, '\n')+1:]
		if len(last) <= maxLine && r.format.Whole(last) {
			r.parseAll()
		}
	}
}

// parse reads whole lines until the batch is full.
func (r *Reader) parse() {
	for (r.join != nil || len(r.batch) < batchSize) && r.joined < maxJoined {
		end := bytes.IndexByte(r.buf, '\n')
		if end < 0 {
			if len(r.buf) > maxLine {
				r.drop()
			}
			return
		}
		r.take(r.buf[:end], end+1)
	}
}

// parseAll reads all lines, of which the last has no newline.
func (r *Reader) parseAll() {
	for len(r.buf) > 0 {
		end := bytes.IndexByte(r.buf, '\n')
		if end < 0 {
			r.take(r.buf, len(r.buf))
			return
		}
		r.take(r.buf[:end], end+1)
	}
}

// take reads one line, which with its newline has size bytes.
func (r *Reader) take(line []byte, size int) {
	r.line++
	switch {
	case r.long || len(line) > maxLine:
		r.long = false
		r.cov.Skip(r.place(), "longer than 1 MiB")
	default:
		if line = bytes.TrimSpace(line); len(line) > 0 {
			r.one(line)
		}
	}
	r.buf = r.buf[size:]
	r.offset += int64(size)
}

func (r *Reader) one(line []byte) {
	if r.join != nil {
		r.part(line)
		return
	}
	var f flow.Flow
	ok, err := r.format.Parse(line, &f)
	if err != nil {
		r.cov.Skip(r.place(), "%v", err)
	} else if ok {
		r.batch = append(r.batch, f)
	}
}

// part reads a line of a format that is joined.
func (r *Reader) part(line []byte) {
	if r.format.Header != nil {
		if record := r.format.Header(line); record != nil {
			r.record, r.header = record, string(line)
			return
		}
	}
	if r.record == nil {
		r.cov.Skip(r.place(), "%v", errNoHeader)
		return
	}
	var record biflow.Record
	ok, err := r.record(line, &record)
	switch {
	case err != nil:
		r.cov.Skip(r.place(), "%v", err)
	case ok:
		r.joined++
		r.now = max(r.now, record.End())
		r.join.Add(r.now, &record)
	}
}

// drop forgets the beginning of a line that is too long.
func (r *Reader) drop() {
	r.long = true
	r.offset += int64(len(r.buf))
	r.buf = r.buf[:0]
}

func (r *Reader) place() string { return fmt.Sprintf("%s:%d", r.name, r.line) }

// Coverage returns what has been read so far.
func (r *Reader) Coverage() flow.Coverage {
	c := r.cov
	c.Problems = append([]flow.Problem(nil), c.Problems...)
	return c
}

// Mark returns where the next batch will begin.
func (r *Reader) Mark() zeek.Mark { return zeek.Mark{Offset: r.offset, Line: r.line, Header: r.header} }

// Resume makes a new Reader go on from m. Its source must already stand at
// m.Offset.
func (r *Reader) Resume(m zeek.Mark) {
	r.offset, r.line = m.Offset, m.Line
	if m.Header != "" && r.format.Header != nil {
		r.record, r.header = r.format.Header([]byte(m.Header)), m.Header
	}
}
