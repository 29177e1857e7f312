package capture

import (
	"bufio"
	"errors"
	"io"

	"dragnet/internal/unpack"
)

// pieceReader returns consecutive pieces of a file, without copying if they fit
// its buffer.
type pieceReader struct {
	r    *bufio.Reader
	used int    // of the last piece, still to be discarded from r
	long []byte // a piece larger than r's buffer
}

// errCut marks a file that ends inside a piece.
var errCut = errors.New("the file ends inside it")

// nextPiece returns the next n bytes, valid until the next call; io.EOF when the
// file ends exactly before them, errCut when it ends inside.
func (in *pieceReader) nextPiece(n int) ([]byte, error) {
	if _, err := in.r.Discard(in.used); err != nil {
		return nil, err
	}
	in.used = 0
	if n <= in.r.Size() {
		b, err := in.r.Peek(n)
		if err != nil {
			return nil, cutError(err, len(b))
		}
		in.used = n
		return b, nil
	}
	if cap(in.long) < n {
		in.long = make([]byte, n)
	}
	got, err := io.ReadFull(in.r, in.long[:n])
	if err != nil {
		return nil, cutError(err, got)
	}
	return in.long[:n], nil
}

// skipBytes skips n bytes.
func (in *pieceReader) skipBytes(n int64) error {
	n += int64(in.used)
	in.used = 0
	got, err := io.CopyN(io.Discard, in.r, n)
	if err != nil {
		return cutError(err, int(min(got, 1)))
	}
	return nil
}

// cutError distinguishes a regular end from one inside a piece of which got
// bytes were read.
func cutError(err error, got int) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF) && got > 0:
		return errCut
	case unpack.IsDamage(err):
		return errors.New("the compressed data is damaged")
	}
	return err
}
