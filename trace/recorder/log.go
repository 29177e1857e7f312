//go:build linux

package recorder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
)

const (
	extension = ".events"
	// segmentSize bounds a file in octets; a new one begins with each slice too.
	segmentSize = 2 << 20
	// maxLine bounds a line that is read.
	maxLine = 1 << 18
	// window bounds the memory of reading and writing.
	window = 1 << 20
)

// log is a folder of compressed segments, bounded by bytes and age.
type log struct {
	dir     string
	limits  Configuration
	file    *os.File
	count   *countingWriter
	zip     *zstd.Encoder
	started time.Time
	known   map[processName]bool // processes in the present segment
}

type countingWriter struct {
	w io.Writer
	n int64
}

// Write implements io.Writer.
func (c *countingWriter) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	return n, err
}

func openLog(dir string, limits Configuration) (*log, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make folder of recorded events: %w", err)
	}
	return &log{dir: dir, limits: limits}, nil
}

// closeFull ends the segment where another one is due.
func (l *log) closeFull(now time.Time) error {
	if l.file != nil && l.count.n < segmentSize && now.Sub(l.started) < slice {
		return nil
	}
	l.known = map[processName]bool{}
	return l.close()
}

// write appends lines to the segment, or to a new one.
func (l *log) write(b []byte, now time.Time) error {
	if l.file == nil {
		if err := l.begin(now); err != nil {
			return err
		}
	}
	if _, err := l.zip.Write(b); err != nil {
		return fmt.Errorf("write recorded events: %w", err)
	}
	return nil
}

func (l *log) begin(now time.Time) error {
	path := filepath.Join(l.dir, fmt.Sprintf("%016x%s", now.UnixMilli(), extension))
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("begin segment of recorded events: %w", err)
	}
	l.file, l.count, l.started = f, &countingWriter{w: f}, now
	l.zip, err = zstd.NewWriter(l.count, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return fmt.Errorf("compress recorded events: %w", err)
	}
	return l.removeOld(now)
}

// flush makes what is written readable, also after a crash of the daemon.
func (l *log) flush() error {
	if l.file == nil {
		return nil
	}
	return l.zip.Flush()
}

func (l *log) close() error {
	if l.file == nil {
		return nil
	}
	err := errors.Join(l.zip.Close(), l.file.Close())
	l.file = nil
	return err
}

// segment is one file.
type segment struct {
	path          string
	started, last time.Time // last is when the next one began; the zero Time for the newest
	size          int64
}

// listSegments lists a folder, oldest first.
func listSegments(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list recorded events: %w", err)
	}
	var out []segment
	for _, e := range entries {
		ms, err := strconv.ParseInt(strings.TrimSuffix(e.Name(), extension), 16, 64)
		if err != nil || !strings.HasSuffix(e.Name(), extension) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			continue // it was removed
		}
		out = append(out, segment{filepath.Join(dir, e.Name()), time.UnixMilli(ms), time.Time{}, info.Size()})
	}
	slices.SortFunc(out, func(a, b segment) int { return a.started.Compare(b.started) })
	for i := range max(len(out)-1, 0) {
		out[i].last = out[i+1].started
	}
	return out, nil
}

// removeOld removes the oldest segments beyond the limits.
func (l *log) removeOld(now time.Time) error {
	list, err := listSegments(l.dir)
	if err != nil {
		return err
	}
	total := int64(segmentSize) // the new one
	for _, s := range list {
		total += s.size
	}
	for _, s := range list[:max(len(list)-1, 0)] {
		if total <= l.limits.MaxBytes && now.Sub(s.last) <= l.limits.MaxAge {
			break
		}
		if err := os.Remove(s.path); err != nil {
			return fmt.Errorf("remove old events: %w", err)
		}
		total -= s.size
	}
	return nil
}

// errFound ends a reading.
var errFound = errors.New("found")

// read calls see with each line of a segment. A segment may end anywhere: it is
// being written, or the machine stopped.
func (s segment) read(ctx context.Context, see func([]byte) error) error {
	f, err := os.Open(s.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // it was removed meanwhile
	}
	if err != nil {
		return fmt.Errorf("read recorded events: %w", err)
	}
	defer f.Close()
	zip, err := zstd.NewReader(f, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(2*window))
	if err != nil {
		return fmt.Errorf("read recorded events: %w", err)
	}
	defer zip.Close()
	lines := bufio.NewScanner(zip)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	for n := 0; lines.Scan(); n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return fmt.Errorf("read recorded events: %w", ctx.Err())
		}
		if err := see(lines.Bytes()); err != nil {
			return err
		}
	}
	return nil
}
