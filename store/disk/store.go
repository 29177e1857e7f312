package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"dragnet/flow"
	"dragnet/internal/durable"
	"dragnet/internal/hint"
	"dragnet/store"
)

// marker is the file that makes a directory a data directory.
const marker = "dragnet-data"

const markerText = "This is a data directory of dragnet. See 'dragnet store --help'.\n"

// Is reports whether dir is a data directory.
func Is(dir string) bool {
	info, err := os.Stat(filepath.Join(dir, marker))
	return err == nil && info.Mode().IsRegular()
}

// Owns reports whether a name at the top of a data directory is a file or
// directory of this package; other files there belong to others.
func Owns(name string) bool {
	switch name {
	case marker, "lock", "readers", catalogueName, copyName, "segments":
		return true
	}
	return false
}

// Store is an open data directory. It is safe for concurrent use.
type Store struct {
	dir    string
	lock   *os.File
	writer bool

	writing sync.Mutex // held while the directory is changed
	broken  error      // guarded by writing: the error after which nothing is written

	mu        sync.Mutex // guards all below
	cat       *catalogue // replaced, never changed
	open      map[uint64]*segment
	readers   int
	removable []string // files to remove when there are no readers
}

// Open opens a data directory for reading, as it is now. Several programs may
// read at once, also while another writes.
func Open(dir string) (*Store, error) {
	if _, err := os.Stat(filepath.Join(dir, marker)); errors.Is(err, fs.ErrPermission) {
		return nil, hint.Add(fmt.Errorf("%s: %w", dir, fs.ErrPermission), "use it as the node's user, or have the node answer with --node")
	}
	if !Is(dir) {
		if info, err := os.Stat(dir); err == nil && !info.IsDir() {
			return nil, hint.Add(fmt.Errorf("%s is a file, not a data directory", dir), "name the folder that 'dragnet flow import --data DIR FILE...' made")
		}
		if looksLikeStore(dir) {
			return nil, markerError(dir)
		}
		return nil, hint.Add(fmt.Errorf("%s is not a data directory: it has no file %s", dir, marker), "is the name right? 'dragnet flow import --data %s FILE...' makes one", dir)
	}
	return openDirectory(dir, false)
}

func markerError(dir string) error {
	return hint.Add(fmt.Errorf("%s: %w: it is missing, but there are flows", filepath.Join(dir, marker), errDamaged), "%s", repairHint(dir))
}

// OpenWriter opens a data directory for reading and writing, and creates it if
// it does not exist. Only one program at a time may write.
func OpenWriter(dir string) (*Store, error) {
	if err := createDirectory(dir); err != nil {
		return nil, err
	}
	s, err := openDirectory(dir, true)
	if err != nil {
		return nil, err
	}
	if err := s.settleCatalogue(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	if _, err := s.removeAlone(s.removeDebris); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// createDirectory makes dir a data directory unless it is one. It must be empty
// in that case: a mistyped path should not be filled with files.
func createDirectory(dir string) error {
	if Is(dir) {
		return nil
	}
	if looksLikeStore(dir) {
		return markerError(dir)
	}
	if err := os.MkdirAll(filepath.Join(dir), 0o750); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		// Left by a crash in the lines below.
		if e.Name() != "segments" && !strings.HasPrefix(e.Name(), "."+marker) {
			return fmt.Errorf("%s is neither empty nor a data directory: it contains %s; name another", dir, e.Name())
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "segments"), 0o750); err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, marker), []byte(markerText), 0o640)
}

func openDirectory(dir string, writer bool) (*Store, error) {
	s := &Store{dir: dir, writer: writer, open: map[uint64]*segment{}}
	if err := s.takeLock(); err != nil {
		return nil, err
	}
	cat, err := s.readCurrent()
	if err != nil {
		return nil, errors.Join(err, s.lock.Close())
	}
	s.cat = cat
	return s, nil
}

// takeLock takes the lock of the single writer, or the shared lock of the
// readers, whose files the writer keeps. Both are released when the process
// ends in any way.
func (s *Store) takeLock() (err error) {
	if !s.writer {
		s.lock, err = lockFile(filepath.Join(s.dir, "readers"), syscall.LOCK_SH)
		return err
	}
	path := filepath.Join(s.dir, "lock")
	s.lock, err = lockFile(path, syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		holder, _ := os.ReadFile(path)
		return fmt.Errorf("%s is in use by another program that writes to it, process %.20s; stop it first", s.dir, strings.TrimSpace(string(holder)))
	}
	if err == nil {
		// The process ID is only a hint for the error above.
		_, err = s.lock.WriteAt([]byte(fmt.Sprintf("%-19d\n", os.Getpid())), 0)
	}
	return err
}

// lockFile opens a file, if need be for reading only, and locks it.
func lockFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.EROFS) {
		f, err = os.Open(path)
	}
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
	}
	return f, nil
}

// removeAlone runs remove unless another program reads; in that case the
// removal is left for the next time. A reader that starts meanwhile waits.
func (s *Store) removeAlone(remove func() error) (done bool, err error) {
	f, err := lockFile(filepath.Join(s.dir, "readers"), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, errors.Join(remove(), f.Close())
}

// Close releases the directory. Everything committed is on the disk already.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, g := range s.open {
		errs = append(errs, g.close())
	}
	s.open = map[uint64]*segment{}
	return errors.Join(append(errs, s.lock.Close())...)
}

// Dir is the directory's path.
func (s *Store) Dir() string { return s.dir }

// Segments lists the segments.
func (s *Store) Segments() []Segment { return slices.Clone(s.currentCatalogue().Segments) }

// Sources lists the imported logs.
func (s *Store) Sources(context.Context) ([]store.ImportedLog, error) {
	return slices.Clone(s.currentCatalogue().Sources), nil
}

// Bytes is the size of all segments and runs.
func (s *Store) Bytes(context.Context) (n int64, err error) {
	for _, g := range s.currentCatalogue().Segments {
		n += g.Bytes + g.RunBytes
	}
	return n, nil
}

// Coverage describes what is stored. Lines that could not be used were listed
// when they were imported; here they are only counted.
func (s *Store) Coverage(context.Context) (flow.Coverage, error) {
	return s.currentCatalogue().coverage(), nil
}

func (s *Store) currentCatalogue() *catalogue {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cat
}

func (c *catalogue) coverage() (cov flow.Coverage) {
	for _, g := range c.Segments {
		cov.Merge(flow.Coverage{Flows: uint64(g.Flows), From: g.From, To: g.To, Sampling: g.Sampling})
	}
	for _, f := range c.Sources {
		cov.Skipped += f.Skipped
	}
	return cov
}

func (s *Store) segmentPath(n uint64) string {
	return filepath.Join(s.dir, "segments", fmt.Sprintf("%012d.seg", n))
}

func (s *Store) runPath(n uint64, epoch string) string {
	return filepath.Join(s.dir, "segments", fmt.Sprintf("%012d.%s.run", n, epoch))
}

// listFiles lists the files in a directory's folder of segments that begin and end
// as given, in order of their names, whether the catalogue lists them or not. The
// directory's own name may hold anything, so this is not a pattern.
func listFiles(dir, begin, end string) (paths []string, err error) {
	entries, err := os.ReadDir(filepath.Join(dir, "segments"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), begin) && strings.HasSuffix(e.Name(), end) {
			paths = append(paths, filepath.Join(dir, "segments", e.Name()))
		}
	}
	return paths, err
}

// listSegmentFiles lists the segments' files, by number.
func listSegmentFiles(dir string) ([]string, error) { return listFiles(dir, "", ".seg") }

// segmentFiles are the paths of a segment's files.
func (s *Store) segmentFiles(g Segment) []string {
	paths := []string{s.segmentPath(g.Number)}
	if g.Epoch != "" {
		paths = append(paths, s.runPath(g.Number, g.Epoch))
	}
	return paths
}

// removeDebris removes the files that the catalogue does not list.
func (s *Store) removeDebris() error {
	keep := map[string]bool{}
	for _, g := range s.cat.Segments {
		for _, path := range s.segmentFiles(g) {
			keep[filepath.Base(path)] = true
		}
	}
	dir := filepath.Join(s.dir, "segments")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !keep[e.Name()] && !strings.HasSuffix(e.Name(), setAside) {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	// A catalogue whose write was interrupted.
	left, err := filepath.Glob(filepath.Join(s.dir, ".catalogue.*"))
	for _, path := range left {
		err = errors.Join(err, os.Remove(path))
	}
	return err
}
