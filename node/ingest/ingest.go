// Package ingest opens what a user names as the log of a witness: a data
// directory, the address of a ClickHouse database, or a file or a directory of
// logs, flow files or packet captures of the formats in source/, recognised by
// content. It also imports such files into a store, each line once however often
// and under whatever name it is offered.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"dragnet/flow"
	"dragnet/internal/hint"
	"dragnet/internal/unpack"
	"dragnet/source/packets"
	"dragnet/source/zeek"
	"dragnet/store/clickhouse"
	"dragnet/store/disk"
)

// LogFiles is all logs and captures under one path.
type LogFiles struct {
	zeek    *zeek.ConnLog
	packets *packets.Recording
	lines   []string // files of other logs with one flow per line
	records []string // files of records that are read as a whole
	// Passed counts the other files of a directory.
	Passed int
	// damaged are files that cannot be decompressed at all.
	damaged []string
	// unnamed, if not nil, is the file that a pipe was copied to: it is gone when closed.
	unnamed *os.File
}

// kind is the type of a file.
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

const damage = "the compressed data is damaged from its start: nothing could be read"

// Open opens a data directory, the database at a clickhouse:// address, or the logs
// and captures at path. In a directory it takes all files that it recognises, at
// any depth; a file that is named must be recognised. What it opened stays open
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
	if path == Stdin {
		return openPipe(os.Stdin)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode()&fs.ModeNamedPipe != 0 {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return openPipe(f)
	}
	files := map[kind][]string{}
	switch {
	case info.IsDir():
		files, err = walkDirectory(path)
	case info.Mode().IsRegular():
		err = classifyFile(path, files)
	default:
		err = fmt.Errorf("%s is neither a file, a directory nor a pipe", path)
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
		return nil, hint.Add(fmt.Errorf("%s holds %s (%d other files)", path, noLogs, l.Passed), "is it the right folder? docs/how-to/keep-flows.md says what is read")
	}
	return l, nil
}

// Stdin is the path of standard input.
const Stdin = "-"

// openPipe copies a pipe to a file without a name, since a log is read more than once:
// to recognise it, and for every question.
func openPipe(in io.Reader) (*LogFiles, error) {
	f, err := os.CreateTemp("", "dragnet-input-*")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, in)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("copy a pipe to a file in %s: %w", os.TempDir(), err), f.Close())
	}
	l, err := openFiles(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	l.unnamed = f
	return l, nil
}

// classifyFile adds one file, which must be a log; an empty file is the conn log of
// an hour without traffic.
func classifyFile(path string, files map[kind][]string) error {
	k, err := recogniseFile(path)
	switch {
	case err != nil:
		return err
	case k == damaged:
		return fmt.Errorf("%s: %s", path, damage)
	case k == other:
		return hint.Add(fmt.Errorf("%s %s", path, notRecognised), "is it the right file, and does it begin with its header? docs/how-to/keep-flows.md says what is read")
	case k == empty:
		k = conn
	}
	files[k] = []string{path}
	return nil
}

func walkDirectory(dir string) (map[kind][]string, error) {
	files := map[kind][]string{}
	// os.DirFS follows dir itself if it is a link, as Zeek's logs/current is.
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err != nil {
			return fmt.Errorf("read %s: %w", path, err)
		}
		if !isRegular(path, entry) {
			return nil
		}
		k, err := recogniseFile(path)
		files[k] = append(files[k], path)
		return err
	})
	return files, err
}

// isRegular reports whether entry is a file, or a link to a file.
func isRegular(path string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// recogniseFile reads the first bytes of a file, after decompression.
func recogniseFile(path string) (kind, error) {
	f, err := os.Open(path)
	if err != nil {
		return other, err
	}
	defer f.Close()
	src := unpack.NewReader(f)
	prefix := make([]byte, 64<<10)
	n, err := io.ReadFull(src, prefix)
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		return other, fmt.Errorf("read %s: %w", path, err)
	}
	switch prefix = prefix[:n]; {
	case packets.Is(prefix):
		return capture, nil
	case recordingOf(prefix) != nil && src.Format() == unpack.Plain: // none of them is read decompressed
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

// Scan reads all files; see flow.Log.
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
