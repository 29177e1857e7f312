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

// reading is a view of the directory that does not change while it is held.
type reading struct {
	cat      *catalogue
	segments []*segment
}

// begin holds the present segments; end must follow.
func (s *Store) begin() *reading {
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

func (s *Store) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readers--
	s.sweep()
}

// doom removes files as soon as nobody reads, here or elsewhere. The caller does not hold s.mu.
func (s *Store) doom(paths []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.doomed = append(s.doomed, paths...)
	s.sweep()
}

func (s *Store) sweep() {
	if s.readers > 0 || len(s.doomed) == 0 {
		return
	}
	// What stays is debris, which the next writer removes.
	done, err := s.alone(s.removeDoomed)
	if done || err != nil {
		s.doomed = nil
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
	for _, path := range s.doomed {
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// load opens the segment's file on first use.
func (g *segment) load() error {
	g.once.Do(func() {
		var size int64
		if g.file, size, g.err = openSized(g.path); g.err == nil {
			g.footer, g.err = readFooter(g.file, size)
		}
		if g.err == nil && g.footer.rows != g.Flows {
			g.err = damaged("it holds %d flows, the catalogue says %d", g.footer.rows, g.Flows)
		}
	})
	return g.err
}

// loadRun opens the segment's run on first use; it has one.
func (g *segment) loadRun() error {
	g.runOnce.Do(func() {
		var size int64
		if g.runFile, size, g.runErr = openSized(g.runPath); g.runErr == nil {
			g.run, g.runErr = readRun(g.runFile, size)
		}
		if g.runErr == nil && g.run.epoch != g.Epoch {
			g.runErr = damaged("it is of epoch %q", g.run.epoch)
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
