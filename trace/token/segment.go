package token

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A segment is a file: a header of magic, the number of its first frame and
// the link before it, then frames.
const (
	magic      = "STOPlog1"
	headerSize = len(magic) + 8 + Size
	extension  = ".stop"
)

type segment struct {
	path   string
	first  uint64 // the number the first record has or had
	before Hash
	// Known after scanning.
	size int64 // of whole frames; the rest is torn
	next uint64
	link Hash
	// oldest is the time of the oldest record; 0 if none.
	oldest int64
}

func segmentName(first uint64) string { return fmt.Sprintf("%016x%s", first, extension) }

func (s *segment) encodeHeader() []byte {
	b := binary.BigEndian.AppendUint64([]byte(magic), s.first)
	return append(b, s.before[:]...)
}

// scanFrames reads all frames and calls see for each with the link before it.
// It stops at a torn end without an error; size is its offset.
func (s *segment) scanFrames(see func(f *frame, before Hash) error) error {
	file, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 64<<10)
	head := make([]byte, headerSize)
	if _, err := io.ReadFull(r, head); err != nil || !bytes.HasPrefix(head, []byte(magic)) {
		return fmt.Errorf("%s is not a segment of a token store", s.path)
	}
	s.first = binary.BigEndian.Uint64(head[len(magic):])
	copy(s.before[:], head[len(magic)+8:])
	s.size, s.next, s.link, s.oldest = int64(headerSize), s.first, s.before, 0
	for {
		f, err := readFrame(r)
		if err == io.EOF || errors.Is(err, errTorn) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s at byte %d: %w", s.path, s.size, err)
		}
		before := s.link
		s.link = f.nextLink(before)
		switch f.kind {
		case recordFrame, previousFrame:
			s.next = f.number + 1
			if s.oldest == 0 || f.time < s.oldest {
				s.oldest = f.time
			}
		case gapFrame:
			s.next = f.last + 1
		}
		s.size += int64(f.size)
		if see != nil {
			if err := see(f, before); err != nil {
				return err
			}
		}
	}
}

// listSegments lists a folder in order and drops segments that a merge made
// redundant but could not remove before a crash.
func listSegments(dir string) (list []*segment, needless []string, err error) {
	entries, err := os.ReadDir(dir) // sorted by name, and so by first number
	if err != nil {
		return nil, nil, err
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), extension) {
			continue
		}
		s := &segment{path: filepath.Join(dir, e.Name())}
		if err := s.scanFrames(nil); err != nil {
			return nil, nil, err
		}
		if n := len(list); n > 0 && s.first < list[n-1].next {
			needless = append(needless, s.path)
			continue
		}
		list = append(list, s)
	}
	return list, needless, nil
}

// writeFile replaces a file so that a crash leaves the old or the new one.
func writeFile(path string, parts ...[]byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	_, err = f.Write(slices.Concat(parts...))
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes names in a folder durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
