// Package lines reads logs of one record a line, which may grow while they are
// read; what a line means is a Format's to say. The Zeek conn log, which
// describes its own columns, is source/zeek's.
//
// A log is read as a hostile file: a line that cannot be used is counted with
// its place and its reason, and one that is too long is passed over in bounded
// memory.
package lines

import (
	"bytes"
	"fmt"
	"io"

	"dragnet/flow"
	"dragnet/source/zeek"
)

// Format says what the lines of a log mean.
type Format struct {
	// Name is what users call the log.
	Name string
	// Is reports whether prefix, the first bytes of a file, look like it.
	Is func(prefix []byte) bool
	// Parse reads a line into f, which is zero. ok is false for a line that is
	// in order but tells of no flow.
	Parse func(line []byte, f *flow.Flow) (ok bool, err error)
	// Whole reports whether a last line without newline is whole. Without it
	// such a line waits for the rest.
	Whole func(line []byte) bool
}

const (
	// maxLine bounds one line without its newline.
	maxLine = 1 << 20
	// batchSize is how many flows are handed over at once.
	batchSize = 1024
	chunkSize = 64 << 10
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
}

// NewReader reads src in a format; name stands for it in problems.
func NewReader(src io.Reader, name string, format *Format) *Reader {
	return &Reader{src: src, format: format, name: name}
}

// Next returns the next flows, at least one, and io.EOF at the end of what
// there is. The batch is valid until the next call.
func (r *Reader) Next() ([]flow.Flow, error) {
	r.batch = r.batch[:0]
	for {
		r.parse()
		if len(r.batch) > 0 {
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
	for len(r.batch) < batchSize {
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
	var f flow.Flow
	ok, err := r.format.Parse(line, &f)
	if err != nil {
		r.cov.Skip(r.place(), "%v", err)
	} else if ok {
		r.batch = append(r.batch, f)
	}
}

// drop forgets the beginning of a line that is too long.
func (r *Reader) drop() {
	r.long = true
	r.offset += int64(len(r.buf))
	r.buf = r.buf[:0]
}

func (r *Reader) place() string { return fmt.Sprintf("%s:%d", r.name, r.line) }

// Coverage tells what has been read so far.
func (r *Reader) Coverage() flow.Coverage {
	c := r.cov
	c.Problems = append([]flow.Problem(nil), c.Problems...)
	return c
}

// Mark tells where the next batch will begin.
func (r *Reader) Mark() zeek.Mark { return zeek.Mark{Offset: r.offset, Line: r.line} }

// Resume makes a new Reader go on from m. Its source must already stand at
// m.Offset.
func (r *Reader) Resume(m zeek.Mark) { r.offset, r.line = m.Offset, m.Line }
