package zeek

import (
	"bytes"
	"io"
)

// maxLine bounds one line without its newline; real ones stay below 1 KiB.
const maxLine = 1 << 20

// chunkSize is how much of a file one worker reads at a time: small enough to
// stay in its core's second-level cache from reading to parsing.
const chunkSize = 256 << 10

// spare is room for the usual unfinished line, so that a buffer need not grow
// after the first chunk.
const spare = 4 << 10

// chunk is a run of whole lines.
type chunk struct {
	data   []byte
	head   *header // in force before the first line
	line   int64   // number of the first line, from 1
	offset int64   // of data in the stream
	// tooLong is the number of a line before data that was longer than
	// maxLine and has been dropped; 0 if none was.
	tooLong int64
	// cut says that data is the rest of the stream: one line without its
	// newline.
	cut bool
}

// stream cuts a log into chunks. It only examines line ends and header lines,
// so taking a chunk is fast, and parsing it does not need the stream.
type stream struct {
	src  io.Reader
	size int // how much to read for one chunk

	head    *header
	line    int64  // lines taken
	offset  int64  // bytes taken
	rest    []byte // read, but the line has not ended yet
	skipped int64  // bytes dropped of a line that is too long and not at its end
}

func newStream(src io.Reader) *stream {
	return &stream{src: src, size: chunkSize, head: newHeader()}
}

// nextChunk reads a chunk into buf, which it may replace by a larger one and
// which c.data is part of. At the current end of the log it returns io.EOF;
// text after the last newline is kept for a later call, when the log has grown.
// Lines read before an error come first, the error with the next call.
func (s *stream) nextChunk(buf []byte) (c chunk, grown []byte, err error) {
	buf = append(buf[:0], s.rest...)
	s.rest = s.rest[:0]
	end := -1 // of the last whole line in buf
	for end < 0 && c.tooLong == 0 && err == nil {
		searched := len(buf)
		buf, err = s.readMore(buf)
		if s.skipped > 0 {
			buf = s.dropLongLine(buf, &c)
			searched = 0
		}
		end = searched + bytes.LastIndexByte(buf[searched:], '\n')
		if end < searched {
			end = -1
			if len(buf) > maxLine {
				s.skipped, buf = int64(len(buf)), buf[:0]
			}
		}
	}
	s.rest = append(s.rest, buf[end+1:]...)
	c.data, c.head, c.line, c.offset = buf[:end+1], s.head, s.line+1, s.offset
	s.advanceLines(c.data)
	if len(c.data) > 0 || c.tooLong > 0 {
		err = nil
	}
	return c, buf, err
}

// readMore appends to buf up to s.size bytes more. (io.ReadFull would not do: it
// gives a plain end of file and a cut-off gzip stream the same error.)
func (s *stream) readMore(buf []byte) ([]byte, error) {
	full := len(buf) + s.size
	if cap(buf) < full {
		buf = append(make([]byte, 0, full+len(buf)+spare), buf...)
	}
	for empty := 0; len(buf) < full; {
		n, err := s.src.Read(buf[len(buf):full])
		buf = buf[:len(buf)+n]
		if err != nil {
			return buf, err
		}
		if n > 0 {
			empty = 0
		} else if empty++; empty == 100 {
			return buf, io.ErrNoProgress
		}
	}
	return buf, nil
}

// dropLongLine removes from buf the bytes of a line that is too long.
func (s *stream) dropLongLine(buf []byte, c *chunk) []byte {
	end := bytes.IndexByte(buf, '\n')
	if end < 0 {
		s.skipped += int64(len(buf))
		return buf[:0]
	}
	s.line++
	s.offset += s.skipped + int64(end) + 1
	s.skipped = 0
	c.tooLong = s.line
	return buf[:copy(buf, buf[end+1:])]
}

// advanceLines moves past the lines of data and applies their header lines.
func (s *stream) advanceLines(data []byte) {
	s.offset += int64(len(data))
	for len(data) > 0 {
		end := bytes.IndexByte(data, '\n')
		if data[0] == '#' {
			s.head = s.head.withLine(trimLine(data[:end]))
		}
		s.line++
		data = data[end+1:]
	}
}

// lastChunk returns the text after the last newline of a log that will not
// grow.
func (s *stream) lastChunk() chunk {
	c := chunk{data: s.rest, head: s.head, line: s.line + 1, offset: s.offset, cut: true}
	if s.skipped > 0 {
		c.tooLong = c.line
	}
	return c
}

// trimLine removes the carriage return that a copy by way of Windows adds.
func trimLine(line []byte) []byte {
	return bytes.TrimSuffix(line, []byte("\r"))
}
