package zeek

import (
	"io"

	"dragnet/flow"
)

// batchSize is how many flows are handed over at once.
const batchSize = 1024

// Reader reads one stream of conn log lines, in order and in one goroutine. It
// follows a log that grows: after io.EOF, Next may be called again and goes on
// with what has been appended since, and a line without its newline waits for
// the rest of it. A Reader is not safe for concurrent use.
type Reader struct {
	stream *stream
	parser *parser
	cov    flow.Coverage
	name   string
	buf    []byte
	batch  []flow.Flow
}

// NewReader reads plain TSV or JSON from r; name stands for it in problems, and
// cols are the optional columns wanted.
func NewReader(r io.Reader, name string, cols flow.Columns) *Reader {
	z := &Reader{stream: newStream(r), parser: newParser(cols), name: name, batch: make([]flow.Flow, batchSize)}
	z.Resume(Mark{})
	return z
}

// Next returns the next flows, at least one, and io.EOF at the end of what
// there is. The batch is valid until the next call.
func (r *Reader) Next() ([]flow.Flow, error) {
	for {
		if n := r.parser.fill(r.batch); n > 0 {
			r.cov.Saw(r.batch[:n])
			return r.batch[:n], nil
		}
		c, buf, err := r.stream.next(r.buf)
		r.buf = buf
		r.parser.start(0, c)
		if err != nil {
			return nil, err
		}
	}
}

// Coverage tells what has been read so far.
func (r *Reader) Coverage() flow.Coverage {
	c := r.cov
	r.parser.lost.report(&c, func(int) string { return r.name })
	return c
}

// Offset is how many bytes of the stream have become flows or problems: where
// the first line not yet returned begins.
func (r *Reader) Offset() int64 { return r.parser.c.offset + int64(r.parser.at) }

// Mark is a place in a growing log, to be kept until the next start of the
// program.
type Mark struct {
	// Offset is where the next line begins, in bytes.
	Offset int64 `json:"offset"`
	// Line counts the lines before it.
	Line int64 `json:"line"`
	// Header is the log's own description of the lines that follow; empty for
	// JSON.
	Header string `json:"header"`
}

// Mark tells where the next batch will begin.
func (r *Reader) Mark() Mark {
	return Mark{Offset: r.Offset(), Line: r.parser.line, Header: r.parser.c.head.text()}
}

// Resume makes a new Reader go on from m. Its stream must already stand at
// m.Offset.
func (r *Reader) Resume(m Mark) {
	r.stream.offset, r.stream.line, r.stream.head = m.Offset, m.Line, parseHeader(m.Header)
	r.parser.start(0, chunk{head: r.stream.head, line: m.Line + 1, offset: m.Offset})
}
