package zeek

import (
	"bufio"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"dragnet/flow"
	"dragnet/internal/unpack"
)

// ConnLog is one witness's conn logs: a file, several files, or a directory.
type ConnLog struct {
	files []string
	// foreign are files of a directory named like a conn log but with other
	// contents.
	foreign []flow.Problem
}

// Open finds the files of a log. A path is a conn log, plain or compressed, or a
// directory, which means every file below it named *conn*.log, *conn*.log.gz or *conn*.log.zst,
// in order of their names; symbolic links to directories below it are not
// followed. Zeek's own summaries (conn-summary*.log) are skipped. A file named
// here must be a conn log; one found in a directory that is not is reported by
// Scan as a problem.
func Open(paths ...string) (*ConnLog, error) {
	l := &ConnLog{}
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, err
		case info.IsDir():
			err = l.addDirectory(path)
		case info.Mode().IsRegular():
			err = l.addFile(path)
		default:
			err = fmt.Errorf("%s is neither a regular file nor a directory; copy it to a file first", path)
		}
		if err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Files are the files that Scan reads, in order.
func (l *ConnLog) Files() []string { return l.files }

func (l *ConnLog) addFile(path string) error {
	foreign, err := examineFile(path)
	if err != nil {
		return err
	}
	if foreign != nil {
		return fmt.Errorf("%s is not a Zeek conn log: %w", path, foreign)
	}
	l.files = append(l.files, path)
	return nil
}

func (l *ConnLog) addDirectory(dir string) error {
	found := 0
	// os.DirFS follows dir itself if it is a link, as Zeek's logs/current is.
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("read %s: %w", filepath.Join(dir, name), err)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if !isConnLogName(entry.Name()) || !isRegular(path, entry) {
			return nil
		}
		found++
		foreign, err := examineFile(path)
		if err != nil {
			return err
		}
		if foreign != nil {
			l.foreign = append(l.foreign, flow.Problem{Place: path, Reason: "not a conn log: " + foreign.Error()})
			return nil
		}
		l.files = append(l.files, path)
		return nil
	})
	if err == nil && found == 0 {
		err = fmt.Errorf("%s holds no conn log: no file below it is named *conn*.log, *conn*.log.gz or *conn*.log.zst", dir)
	}
	return err
}

func isConnLogName(base string) bool {
	for _, suffix := range unpack.Suffixes {
		base = strings.TrimSuffix(base, suffix)
	}
	return strings.HasSuffix(base, ".log") && strings.Contains(base, "conn") &&
		!strings.HasPrefix(base, "conn-summary") && !strings.HasPrefix(base, "conn_summary")
}

func isRegular(path string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.Type().IsRegular()
	}
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// examineFile returns why a file is not a conn log; an empty one is a conn log
// without connections.
func examineFile(path string) (foreign, err error) {
	f, err := openFile(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	prefix := make([]byte, sniffLength)
	n, err := io.ReadFull(f, prefix)
	switch {
	case n > 0:
		return sniffPrefix(prefix[:n]), nil
	case err == io.EOF || unpack.IsDamage(err):
		return nil, nil
	}
	return nil, fmt.Errorf("read %s: %w", path, err)
}

// file is an open log, decompressed.
type file struct {
	io.Reader
	io.Closer
}

// openFile opens a file, which is taken for compressed by its content, not its name.
func openFile(path string) (*file, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	magic := make([]byte, unpack.MagicBytes)
	n, err := f.ReadAt(magic, 0)
	if err != nil && err != io.EOF {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	format := unpack.Detect(magic[:n])
	if format == unpack.Plain {
		return &file{f, f}, nil
	}
	return &file{unpack.NewReaderOf(bufio.NewReaderSize(f, 64<<10), format), f}, nil
}
