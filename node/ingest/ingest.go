// Package ingest opens whatever a user names as the log of a witness: a data
// directory, the address of a ClickHouse database, or a file or a directory of
// logs, flow files or packet captures of the formats in source/, told apart by
// content. It also brings such
// files into a store, each line once however often and under whatever name it is
// offered.
package ingest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/klauspost/compress/gzip"

	"dragnet/flow"
	"dragnet/source/packets"
	"dragnet/source/zeek"
	"dragnet/store/clickhouse"
	"dragnet/store/disk"
)

// LogFiles is everything readable under one path.
type LogFiles struct {
	zeek    *zeek.ConnLog
	packets *packets.Recording
	lines   []string // files of other logs with a flow a line
	records []string // files of records that are read whole
	// Passed counts files of a directory that are none of these.
	Passed int
	// damaged are files of which nothing can be decompressed.
	damaged []string
}

// kind is what a file holds.
type kind int

const (
	other kind = iota
	conn
	lined
	recorded
	capture
	empty
	damaged
)

const damage = "the gzip data is damaged from its start: nothing could be read"

// Open opens a data directory, the database at a clickhouse:// address, or the logs and captures at path. Of a directory
// it takes all that it recognises, at any depth; a file it must recognise. What it opened stays open
// until the program ends.
func Open(path string) (flow.Log, error) {
	switch {
	case clickhouse.Is(path):
		return clickhouse.Open(context.Background(), path)
	case disk.Is(path):
		return disk.Open(path)
	}
	return openFiles(path)
}

func openFiles(path string) (*LogFiles, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	files := map[kind][]string{}
	switch {
	case info.IsDir():
		files, err = walk(path)
	case info.Mode().IsRegular():
		err = named(path, files)
	default: // to recognise a pipe would eat the head of its content
		err = fmt.Errorf("%s is neither a regular file nor a directory; copy it to a file first", path)
	}
	if err != nil {
		return nil, err
	}
	l := &LogFiles{Passed: len(files[other]) + len(files[empty]), damaged: files[damaged]}
	if len(files[conn]) > 0 {
		if l.zeek, err = zeek.Open(files[conn]...); err != nil {
			return nil, err
		}
	}
	if len(files[capture]) > 0 {
		if l.packets, err = packets.Open(files[capture]...); err != nil {
			return nil, err
		}
	}
	l.lines, l.records = files[lined], files[recorded]
	if l.zeek == nil && l.packets == nil && len(l.lines)+len(l.records) == 0 {
		return nil, fmt.Errorf("%s holds %s (%d other files)", path, nothing, l.Passed)
	}
	return l, nil
}

// named takes one file, which must be a log; an empty one is the conn log of a
// quiet hour.
func named(path string, files map[kind][]string) error {
	k, err := recognise(path)
	switch {
	case err != nil:
		return err
	case k == damaged:
		return fmt.Errorf("%s: %s", path, damage)
	case k == other:
		return fmt.Errorf("%s %s", path, unlike)
	case k == empty:
		k = conn
	}
	files[k] = []string{path}
	return nil
}

func walk(dir string) (map[kind][]string, error) {
	files := map[kind][]string{}
	// os.DirFS follows dir itself if it is a link, as Zeek's logs/current is.
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if !regular(path, entry) {
			return nil
		}
		k, err := recognise(path)
		files[k] = append(files[k], path)
		return err
	})
	return files, err
}

// regular follows a link to a file, but not one to a directory.
func regular(path string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// recognise looks at the first bytes of a file, after decompression.
func recognise(path string) (kind, error) {
	f, err := os.Open(path)
	if err != nil {
		return other, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	var src io.Reader = r
	if magic, _ := r.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return damaged, nil
		}
		src = z
	}
	prefix := make([]byte, 64<<10)
	n, err := io.ReadFull(src, prefix)
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return other, fmt.Errorf("read %s: %w", path, err)
	}
	switch prefix = prefix[:n]; {
	case packets.Is(prefix):
		return capture, nil
	case recordingOf(prefix) != nil && src == r: // none of them is read through gzip
		return recorded, nil
	case formatOf(prefix) != nil:
		return lined, nil
	case zeek.Is(prefix):
		return conn, nil
	case n == 0 && err == io.EOF:
		return empty, nil
	case n == 0:
		return damaged, nil
	}
	return other, nil
}

// Scan reads everything; see flow.Log.
func (l *LogFiles) Scan(ctx context.Context, w flow.Window, cols flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	for _, path := range l.damaged {
		cov.Skip(path, damage)
	}
	if l.zeek != nil {
		c, err := l.zeek.Scan(ctx, w, cols, fn)
		cov.Merge(c)
		if err != nil {
			return cov, err
		}
	}
	for _, path := range l.lines {
		c, err := scanLines(ctx, path, w, fn)
		cov.Merge(c)
		if err != nil {
			return cov, err
		}
	}
	for _, path := range l.records {
		c, err := scanRecording(ctx, path, w, fn)
		if reason, ok := errors.AsType[unreadable](err); ok {
			c.Skip(path, "%v", reason)
			err = nil
		}
		cov.Merge(c)
		if err != nil {
			return cov, err
		}
	}
	if l.packets != nil {
		c, err := l.packets.Scan(ctx, w, cols, fn)
		cov.Merge(c)
		if err != nil {
			return cov, err
		}
	}
	return cov, nil
}
