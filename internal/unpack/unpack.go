// Package unpack opens files that may be compressed, by their content: gzip and
// zstd. The content is hostile: memory is bounded, and damage is told from a source that
// cannot be read.
package unpack

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Format is how a file is compressed.
type Format uint8

// The formats.
const (
	Plain Format = iota
	Gzip         // RFC 1952
	Zstd         // RFC 8878
)

// String is the format's usual name.
func (f Format) String() string { return [...]string{"plain", "gzip", "zstd"}[f] }

var magics = [...]string{Gzip: "\x1f\x8b", Zstd: "\x28\xb5\x2f\xfd"}

// MagicBytes is how many first bytes of a file suffice to tell its format.
const MagicBytes = 4

// Detect detects the format of a file by its first bytes.
func Detect(first []byte) Format {
	for f := Gzip; f <= Zstd; f++ {
		if bytes.HasPrefix(first, []byte(magics[f])) {
			return f
		}
	}
	return Plain
}

// Suffixes are those of the names of compressed files.
var Suffixes = []string{".gz", ".zst"}

// MaxWindow bounds the memory that a compressed file may demand, in bytes: what is
// compressed with zstd --long=27 or --ultra -22 is refused as damaged.
const MaxWindow = 64 << 20

// DamageError says that compressed data is damaged, cut off, or demands too much memory.
type DamageError struct {
	Format Format
	Err    error
}

// Error is the decompressor's.
func (e *DamageError) Error() string {
	if errors.Is(e.Err, io.ErrUnexpectedEOF) {
		return fmt.Sprintf("the %s data is cut off", e.Format)
	}
	return e.Err.Error()
}

// Unwrap is the decompressor's error.
func (e *DamageError) Unwrap() error { return e.Err }

// IsDamage reports whether err is of damaged data, not of its source.
func IsDamage(err error) bool {
	var damage *DamageError
	return errors.As(err, &damage)
}

// Reader decompresses. All errors, also of the header, are those of Read. Members of gzip and
// frames of zstd one after the other are one content.
type Reader struct {
	format Format
	src    *source
	in     io.Reader
	err    error
}

// source keeps the error of what is decompressed, which is not damage.
type source struct {
	io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.Reader.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// NewReader reads src, whose format it detects by its content.
func NewReader(src io.Reader) *Reader {
	b, ok := src.(*bufio.Reader)
	if !ok || b.Size() < MagicBytes {
		b = bufio.NewReaderSize(src, 64<<10)
	}
	first, _ := b.Peek(MagicBytes) // Read will meet the error again
	return NewReaderOf(b, Detect(first))
}

// NewReaderOf reads src, which is of a format that is known.
func NewReaderOf(src io.Reader, f Format) *Reader {
	return &Reader{format: f, src: &source{Reader: src}}
}

// Format is that of the source.
func (r *Reader) Format() Format { return r.format }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.format == Plain {
		return r.src.Read(p)
	}
	if r.in == nil && r.err == nil {
		r.err = r.start()
	}
	if r.err != nil {
		return 0, r.err
	}
	n, err := r.in.Read(p)
	if err != nil {
		err = r.explain(err)
		r.err = err
	}
	return n, err
}

func (r *Reader) start() (err error) {
	switch r.format {
	case Gzip:
		r.in, err = gzip.NewReader(r.src)
	case Zstd:
		// With a concurrency of one it starts no goroutine, and need not be closed.
		r.in, err = zstd.NewReader(r.src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(MaxWindow), zstd.WithDecoderLowmem(true))
	}
	if err != nil {
		return r.explain(err)
	}
	return nil
}

func (r *Reader) explain(err error) error {
	switch {
	case r.src.err != nil:
		return r.src.err
	case err == io.EOF && r.in != nil:
		return err
	case err == io.EOF:
		err = io.ErrUnexpectedEOF // inside the header
	}
	return &DamageError{r.format, err}
}
