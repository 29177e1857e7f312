package ingest

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"dragnet/internal/unpack"
	"dragnet/store"
)

// identityBytes is how many bytes of the beginning and of the end of the imported
// part identify a log. Zeek writes times and unique connection identifiers there,
// so two logs that agree in them are the same.
const identityBytes = 64 << 10

// known finds a log among the imported ones, by its content.
type known struct {
	sources map[string]*store.ImportedLog // by ID
	// heads holds the IDs of sources by Head, for each length of the bytes
	// that Head is of; lengths is sorted.
	heads   map[int64]map[string][]string
	lengths []int64
}

func newKnown(sources []store.ImportedLog) *known {
	k := &known{sources: map[string]*store.ImportedLog{}, heads: map[int64]map[string][]string{}}
	for _, s := range sources {
		k.addSource(s)
	}
	return k
}

// addSource adds a source, or updates its state.
func (k *known) addSource(s store.ImportedLog) {
	if old := k.sources[s.ID]; old != nil {
		ids := k.heads[headLength(old.Offset)]
		ids[old.Head] = slices.DeleteFunc(ids[old.Head], func(id string) bool { return id == s.ID })
	}
	k.sources[s.ID] = &s
	n := headLength(s.Offset)
	if k.heads[n] == nil {
		k.heads[n] = map[string][]string{}
		at, _ := slices.BinarySearch(k.lengths, n)
		k.lengths = slices.Insert(k.lengths, at, n)
	}
	k.heads[n][s.Head] = append(k.heads[n][s.Head], s.ID)
}

func headLength(offset int64) int64 { return min(offset, identityBytes) }

// beginningLike returns the sources whose imported part begins like prefix, the
// longest first. Prefix is the first identityBytes of a log, or all of it.
func (k *known) beginningLike(prefix []byte) []*store.ImportedLog {
	var found []*store.ImportedLog
	h, done := sha256.New(), int64(0)
	for _, n := range k.lengths {
		if n > int64(len(prefix)) {
			break
		}
		h.Write(prefix[done:n])
		done = n
		for _, id := range k.heads[n][hex.EncodeToString(h.Sum(nil))] {
			found = append(found, k.sources[id])
		}
	}
	slices.SortFunc(found, func(a, b *store.ImportedLog) int { return int(b.Offset - a.Offset) })
	return found
}

// addCommitted adds what others committed, unless our state is newer.
func (k *known) addCommitted(news []store.ImportedLog) {
	for _, s := range news {
		if old := k.sources[s.ID]; old == nil || s.Offset > old.Offset {
			k.addSource(s)
		}
	}
}

// claimName names a log by the hash of all bytes up to its first record, which
// does not change while the log grows. In a Zeek log that record follows lines
// that begin with #. Until the record is complete, started is false.
func claimName(prefix []byte) (name string, started bool) {
	end := 0
	for rest := prefix; len(rest) > 0 && !started; {
		line, after, whole := bytes.Cut(rest, []byte{'\n'})
		if !whole {
			break
		}
		end += len(line) + 1
		started = len(line) > 0 && line[0] != '#'
		rest = after
	}
	// Prefix has its full length, so the record will not become longer.
	return hashHex(prefix[:end]), started || len(prefix) == identityBytes
}

func hashHex(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// stream is an open log, decompressed, with access to any position. It keeps the
// first and the last bytes read, which identify the log: a compressed log cannot be
// read backwards, and any log may be truncated, and written again, while it is read.
type stream struct {
	file       *os.File
	format     unpack.Format
	compressed bool
	src        io.Reader
	at         int64  // bytes read
	window     []byte // the last bytes before at
	first      []byte // the first bytes, as far as at or identityBytes
}

// windowBytes covers what a reader may read ahead (a line of 1 MiB and a chunk)
// and the tail before it.
const windowBytes = 2 << 20

func openStream(path string) (*stream, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	magic := make([]byte, unpack.MagicBytes)
	n, err := f.ReadAt(magic, 0)
	if err != nil && err != io.EOF {
		return nil, errors.Join(err, f.Close())
	}
	format := unpack.Detect(magic[:n])
	s := &stream{file: f, format: format, compressed: format != unpack.Plain}
	return s, s.rewind()
}

// rewind goes back to the beginning.
func (s *stream) rewind() error {
	s.at, s.window, s.first, s.src = 0, s.window[:0], nil, s.file
	if _, err := s.file.Seek(0, io.SeekStart); err != nil || !s.compressed {
		return err
	}
	s.src = unpack.NewReaderOf(bufio.NewReaderSize(s.file, 64<<10), s.format)
	return nil
}

// Read implements io.Reader. A log that was truncated and written again, in the place
// where it was read, ends there: what came before is in its copy, and the log is another.
func (s *stream) Read(p []byte) (int, error) {
	n, err := s.src.Read(p)
	if n > 0 && !s.compressed && !s.isUnchanged() {
		return 0, io.EOF
	}
	s.at += int64(n)
	if len(s.window)+n > 2*windowBytes {
		s.window = s.window[:copy(s.window, s.window[max(0, len(s.window)-windowBytes):])]
	}
	s.window = append(s.window, p[:n]...)
	s.first = append(s.first, p[:min(n, identityBytes-len(s.first))]...)
	return n, err
}

// isUnchanged reports whether the last bytes read are still where they were.
func (s *stream) isUnchanged() bool {
	var now [256]byte
	n := min(len(s.window), len(now))
	if _, err := s.file.ReadAt(now[:n], s.at-int64(n)); err != nil {
		return false
	}
	return bytes.Equal(now[:n], s.window[len(s.window)-n:])
}

// seek moves to offset in a log that begins with prefix, which is as long as the log,
// or identityBytes; ok is false if the log is shorter.
func (s *stream) seek(offset int64, prefix []byte) (ok bool, err error) {
	if s.compressed {
		if err := s.rewind(); err != nil {
			return false, err
		}
		n, err := io.CopyN(io.Discard, struct{ io.Reader }{s}, offset)
		if n < offset {
			return false, nil // offset is beyond the end, or beyond the damage
		}
		return true, err
	}
	n := headLength(offset)
	tail := make([]byte, n)
	if _, err := s.file.ReadAt(tail, offset-n); err == io.EOF {
		return false, nil
	} else if err != nil {
		return false, err
	}
	s.window, s.first = tail, bytes.Clone(prefix[:n])
	s.at, err = s.file.Seek(offset, io.SeekStart)
	return true, err
}

// bytesBefore returns the last bytes before offset, as they were read.
func (s *stream) bytesBefore(offset int64) ([]byte, error) {
	end, n := len(s.window)-int(s.at-offset), int(headLength(offset))
	if end < n {
		return nil, fmt.Errorf("%s: byte %d is no longer buffered", s.file.Name(), offset)
	}
	return s.window[end-n : end], nil
}

// readPrefix reads the first identityBytes and goes back to the beginning.
func (s *stream) readPrefix() ([]byte, error) {
	b := make([]byte, identityBytes)
	n, err := io.ReadFull(s, b)
	if err != nil && n == 0 && err != io.EOF {
		return nil, fmt.Errorf("read %s: %w", s.file.Name(), err)
	}
	return b[:n], s.rewind()
}
