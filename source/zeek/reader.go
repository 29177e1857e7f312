package zeek

import (
	"io"

	"dragnet/flow"
)

// batchSize is the number of flows per batch.
const batchSize = 1024

// Reader reads one stream of conn log lines, in order and in one goroutine. It
// follows a log that grows: after io.EOF, Next may be called again and
// continues with what was appended since, and a line without its newline waits
// for the rest of it. A Reader is not safe for concurrent use.
type Reader struct {
	stream *stream
	parser *parser
	cov    flow.Coverage
	name   string
	buf    []byte
	batch  []flow.Flow
}

// NewReader reads plain TSV or JSON from r; name is its name in problems, and
// cols are the optional columns wanted.
func NewReader(r io.Reader, name string, cols flow.Columns) *Reader {
	z := &Reader{stream: newStream(r), parser: newParser(cols), name: name, batch: make([]flow.Flow, batchSize)}
	z.Resume(Mark{})
	return z
}

// Next returns the next flows, at least one, and io.EOF at the current end of
// the log. The batch is valid until the next call.
func (r *Reader) Next() ([]flow.Flow, error) {
	for {
		if n := r.parser.fillBatch(r.batch); n > 0 {
			r.cov.Saw(r.batch[:n])
			return r.batch[:n], nil
		}
		c, buf, err := r.stream.nextChunk(r.buf)
		r.buf = buf
		r.parser.startChunk(0, c)
		if err != nil {
			return nil, err
		}
	}
}

// Coverage describes what has been read so far.
func (r *Reader) Coverage() flow.Coverage {
	c := r.cov
	r.parser.lost.reportTo(&c, func(int) string { return r.name })
	return c
}

// Offset is how many bytes of the stream have become flows or problems: the
// offset of the first line not yet returned.
func (r *Reader) Offset() int64 { return r.parser.c.offset + int64(r.parser.at) }

// Mark is a position in a growing log, to be stored until the program starts
// again.
type Mark struct {
	// Offset is the start of the next line, in bytes.
	Offset int64 `json:"offset"`
	// Line counts the lines before it.
	Line int64 `json:"line"`
	// Header is the log's own description of the lines that follow; empty for
	// JSON.
	Header string `json:"header"`
}

// Mark returns the position of the next batch.
func (r *Reader) Mark() Mark {
	return Mark{Offset: r.Offset(), Line: r.parser.line, Header: r.parser.c.head.encodeText()}
}

// Resume makes a new Reader continue from m. Its stream must already be at
// m.Offset.
func (r *Reader) Resume(m Mark) {
	r.stream.offset, r.stream.line, r.stream.head = m.Offset, m.Line, parseHeader(m.Header)
	r.parser.startChunk(0, chunk{head: r.stream.head, line: m.Line + 1, offset: m.Offset})
}
