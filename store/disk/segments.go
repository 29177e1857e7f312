package disk

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync"
)

// segment is an open segment, with its run if it has one. Its files stay open
// until the store is closed or the segment removed.
type segment struct {
	Segment
	path, runPath string

	once   sync.Once
	err    error // of opening; it names the file
	file   *os.File
	footer *footer

	runOnce sync.Once
	runErr  error
	runFile *os.File
	run     *run
}

// reading is a view of the directory, unchanged until released.
type reading struct {
	cat      *catalogue
	segments []*segment
}

// beginReading holds the current segments; call endReading afterwards.
func (s *Store) beginReading() *reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers++
	r := &reading{cat: s.cat}
	for _, g := range s.cat.Segments {
		o := s.open[g.Number]
		if o == nil || o.Epoch != g.Epoch {
			o = &segment{Segment: g, path: s.segmentPath(g.Number), runPath: s.runPath(g.Number, g.Epoch)}
			s.open[g.Number] = o
		}
		r.segments = append(r.segments, o)
	}
	return r
}

func (s *Store) endReading() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers--
	s.removeUnread()
}

// removeWhenUnread removes files as soon as there are no readers, here or in
// other programs. The caller does not hold s.mu.
func (s *Store) removeWhenUnread(paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removable = append(s.removable, paths...)
	s.removeUnread()
}

func (s *Store) removeUnread() {
	if s.readers > 0 || len(s.removable) == 0 {
		return
	}
	// Files that remain are removed by the next writer.
	done, err := s.removeAlone(s.removeDoomed)
	if done || err != nil {
		s.removable = nil
	}
}

func (s *Store) removeDoomed() error {
	for number, o := range s.open {
		i := slices.IndexFunc(s.cat.Segments, func(g Segment) bool { return g.Number == number })
		if i < 0 || s.cat.Segments[i].Epoch != o.Epoch {
			o.close()
			delete(s.open, number)
		}
	}
	var errs []error
	for _, path := range s.removable {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// openFile opens the segment's file on first use.
func (g *segment) openFile() error {
	g.once.Do(func() {
		var size int64
		if g.file, size, g.err = openSized(g.path); g.err == nil {
			g.footer, g.err = readFooter(g.file, size)
		}
		if g.err == nil && g.footer.rows != g.Flows {
			g.err = damagedError("it has %d flows, the catalogue says %d", g.footer.rows, g.Flows)
		}
	})
	return g.err
}

// openRun opens the segment's run on first use; it has one.
func (g *segment) openRun() error {
	g.runOnce.Do(func() {
		var size int64
		if g.runFile, size, g.runErr = openSized(g.runPath); g.runErr == nil {
			g.run, g.runErr = readRun(g.runFile, size)
		}
		if g.runErr == nil && g.run.epoch != g.Epoch {
			g.runErr = damagedError("it is of epoch %q", g.run.epoch)
		}
	})
	return g.runErr
}

func openSized(path string) (*os.File, int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func (g *segment) close() error {
	var errs []error
	for _, f := range []*os.File{g.file, g.runFile} {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}
