package protocol

import (
	"bufio"
	"errors"
	"io"
)

// ErrLineTooLong means that no end of line followed within MaxLine characters.
var ErrLineTooLong = errors.New("line is longer than 1000 characters")

// NewReader makes the buffer ReadLine needs, and no more: a peer that never
// ends its line occupies MaxLine octets.
func NewReader(r io.Reader) *bufio.Reader { return bufio.NewReaderSize(r, MaxLine+2) }

// ReadLine reads a line and removes its end: CR LF, LF alone, or the end of
// the stream after at least one character (peers that close their half instead
// of ending the line are common).
func ReadLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
		line = line[:len(line)-1]
		if n := len(line); n > 0 && line[n-1] == '\r' {
			line = line[:n-1]
		}
	case errors.Is(err, bufio.ErrBufferFull):
		return "", ErrLineTooLong
	case errors.Is(err, io.EOF) && len(line) > 0:
	default:
		return "", err
	}
	if len(line) > MaxLine {
		return "", ErrLineTooLong
	}
	return string(line), nil
}
