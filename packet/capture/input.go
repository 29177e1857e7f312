package capture

import (
	"bufio"
	"compress/gzip"
	"errors"
	"io"
)

// input hands out consecutive pieces of a file without copying where they fit
// its buffer.
type input struct {
	r    *bufio.Reader
	used int    // of the last piece, still to be discarded from r
	long []byte // a piece larger than r's buffer
}

// errCut marks a file that ends inside a piece.
var errCut = errors.New("the file ends inside it")

// next returns the next n bytes, valid until the next call; io.EOF when the
// file ends exactly before them, errCut when it ends inside.
func (in *input) next(n int) ([]byte, error) {
	if _, err := in.r.Discard(in.used); err != nil {
		return nil, err
	}
	in.used = 0
	if n <= in.r.Size() {
		b, err := in.r.Peek(n)
		if err != nil {
			return nil, cut(err, len(b))
		}
		in.used = n
		return b, nil
	}
	if cap(in.long) < n {
		in.long = make([]byte, n)
	}
	got, err := io.ReadFull(in.r, in.long[:n])
	if err != nil {
		return nil, cut(err, got)
	}
	return in.long[:n], nil
}

// skip passes over n bytes without keeping them.
func (in *input) skip(n int64) error {
	n += int64(in.used)
	in.used = 0
	got, err := io.CopyN(io.Discard, in.r, n)
	if err != nil {
		return cut(err, int(min(got, 1)))
	}
	return nil
}

// cut tells a sound end from one inside a piece of which got bytes were there.
func cut(err error, got int) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF) && got > 0:
		return errCut
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader):
		return errors.New("the gzip data is damaged")
	}
	return err
}
