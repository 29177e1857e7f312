package disk

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"dragnet/flow"
	"dragnet/internal/durable"
)

// Repaired is something that Repair found and what it did about it.
type Repaired struct {
	File    string `json:"file"`
	Problem string `json:"problem"`
	Done    string `json:"done"`
}

// setAside ends the name of a segment that could not be read; no writer removes
// such files.
const setAside = ".damaged"

// Repair restores the marker and the catalogue of a data directory that no
// program writes to. A lost or damaged catalogue is written again from its copy,
// with nothing lost. Without a usable copy it is made again from the segments:
// all flows that can be read are kept, but which logs they came from is lost.
// Progress, if not nil, is called with the number of flows read for that.
func Repair(ctx context.Context, dir string, progress func(flows int)) (repaired []Repaired, err error) {
	if !Is(dir) {
		if !looksLikeStore(dir) {
			return nil, fmt.Errorf("%s is not a data directory, nor the remains of one: it has no file %s, no catalogue and no segments", dir, marker)
		}
		path := filepath.Join(dir, marker)
		if err := durable.WriteFile(path, []byte(markerText), 0o640); err != nil {
			return nil, err
		}
		repaired = append(repaired, Repaired{path, "it was missing", "written again"})
	}
	if err := os.MkdirAll(filepath.Join(dir, "segments"), 0o750); err != nil {
		return repaired, err
	}
	s := &Store{dir: dir, writer: true, open: map[uint64]*segment{}}
	if err := s.takeLock(); err != nil {
		return repaired, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	more, err := s.repairCatalogue(ctx, progress)
	return append(repaired, more...), err
}

// looksLikeStore reports whether dir has what a data directory without its
// marker has.
func looksLikeStore(dir string) bool {
	for _, name := range []string{catalogueName, copyName} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	left, err := listSegmentFiles(dir)
	return err != nil || len(left) > 0 // what cannot be listed is not called empty
}

func (s *Store) repairCatalogue(ctx context.Context, progress func(int)) ([]Repaired, error) {
	current, currentErr := readCatalogue(s.cataloguePath())
	second, copyErr := readCatalogue(s.copyPath())
	for _, err := range []error{currentErr, copyErr} {
		if err != nil && !errors.Is(err, errDamaged) && !errors.Is(err, fs.ErrNotExist) {
			return nil, err // a newer format, or not readable
		}
	}
	switch {
	case currentErr == nil && (copyErr != nil || second.Commit <= current.Commit+1):
		s.cat = current
		if copyErr == nil || current.version < formatVersion && errors.Is(copyErr, fs.ErrNotExist) {
			return nil, s.settleCatalogue() // nothing was wrong
		}
		return []Repaired{{s.copyPath(), problemOf(copyErr), "written again from the catalogue; nothing is lost"}}, s.settleCatalogue()
	case copyErr == nil:
		s.cat = second
		problem := "it is older than its copy"
		if currentErr != nil {
			problem = problemOf(currentErr)
		}
		done := fmt.Sprintf("written again from its copy: %d segments, %d imported logs; nothing is lost", len(second.Segments), len(second.Sources))
		return []Repaired{{s.cataloguePath(), problem, done}}, s.replaceCatalogue(func(*catalogue) {})
	case errors.Is(currentErr, fs.ErrNotExist) && errors.Is(copyErr, fs.ErrNotExist) && !looksLikeStore(s.dir):
		return nil, nil // new and empty
	}
	return s.rebuildCatalogue(ctx, problemOf(currentErr), progress)
}

func problemOf(err error) string {
	if errors.Is(err, fs.ErrNotExist) {
		return "it was missing"
	}
	return err.Error()
}

// rebuildCatalogue lists the segments that are in the directory. Those that cannot
// be read whole are set aside under another name.
func (s *Store) rebuildCatalogue(ctx context.Context, problem string, progress func(int)) ([]Repaired, error) {
	paths, err := listSegmentFiles(s.dir)
	if err != nil {
		return nil, err
	}
	var repaired []Repaired
	c := &catalogue{Next: 1}
	flows := 0
	for _, path := range paths {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		g, err := s.describeSegment(ctx, path)
		switch {
		case errors.Is(err, errDamaged):
			if err := os.Rename(path, path+setAside); err != nil {
				return repaired, err
			}
			repaired = append(repaired, Repaired{path, err.Error(), "set aside as " + filepath.Base(path) + setAside + "; its flows are lost unless a backup has the file"})
			continue
		case err != nil:
			return repaired, err
		}
		c.Segments = append(c.Segments, g)
		c.Next = max(c.Next, g.Number+1)
		if flows += g.Flows; progress != nil {
			progress(g.Flows)
		}
	}
	s.cat = c
	repaired = append(repaired, Repaired{s.cataloguePath(), problem + ", and no copy of it could be used",
		fmt.Sprintf("made again from the segments: %d segments, %d flows. Which logs they came from is lost: a log imported again is stored twice, so move imported logs out of the directories that a node follows. Flows that were being merged when the catalogue was lost may occur twice", len(c.Segments), flows)})
	return repaired, s.replaceCatalogue(func(*catalogue) {})
}

var runName = regexp.MustCompile(`^\d{12}\.(.+)\.run$`)

// describeSegment reads a segment whole and describes it, with its latest run if
// that is right.
func (s *Store) describeSegment(ctx context.Context, path string) (g Segment, err error) {
	g.Number, err = strconv.ParseUint(strings.TrimSuffix(filepath.Base(path), ".seg"), 10, 64)
	if err != nil || s.segmentPath(g.Number) != path {
		return g, damagedError("its name is not the number of a segment")
	}
	f, size, err := openSized(path)
	if err != nil {
		return g, err
	}
	defer f.Close()
	foot, err := readFooter(f, size)
	if err != nil {
		return g, err
	}
	g.Bytes, g.Flows = size, foot.rows
	g.From, g.To = flow.Time(foot.blocks[0].first), flow.Time(foot.blocks[len(foot.blocks)-1].last)
	if g.Sampling, err = readSampling(f, foot); err != nil {
		return g, err
	}
	runs, err := listFiles(s.dir, fmt.Sprintf("%012d.", g.Number), ".run")
	if err != nil {
		return g, err
	}
	if len(runs) > 0 {
		last := runs[len(runs)-1]
		g.Epoch = runName.FindStringSubmatch(filepath.Base(last))[1]
		if info, err := os.Stat(last); err == nil {
			g.RunBytes = info.Size()
		}
	}
	o := &segment{Segment: g, path: path, runPath: s.runPath(g.Number, g.Epoch)}
	faults, err := o.checkSegment(ctx)
	if err := errors.Join(err, o.close()); err != nil {
		return g, err
	}
	for _, fault := range faults {
		if fault.File == path {
			return g, damagedError("%s", fault.Problem)
		}
		g.Epoch, g.RunBytes = "", 0 // 'store index' makes it again
	}
	return g, nil
}

// readSampling returns the coarsest sampling of a segment's flows.
func readSampling(f *os.File, foot *footer) (coarsest uint32, err error) {
	r, err := newBlockReader()
	if err != nil {
		return 0, err
	}
	defer r.dec.zstd.Close()
	r.openSegment(f, foot)
	for i := range foot.blocks {
		if err := r.readBlock(i, flow.AllColumns); err != nil {
			return 0, err
		}
		for _, n := range r.rows.u32[sampling][:r.rows.n] {
			coarsest = max(coarsest, n)
		}
	}
	return coarsest, nil
}
