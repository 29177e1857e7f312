package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"dragnet/flow"
)

// Fault is damage in a data directory.
type Fault struct {
	File    string `json:"file"`
	Problem string `json:"problem"`
	// Flows is the number that cannot be read because of it.
	Flows int `json:"flows"`
	// Advice is what can be done.
	Advice string `json:"advice"`
}

const (
	restore = "copy the file from a backup; everything else stays readable"
	repair  = "'dragnet store repair' mends it"
	reindex = "'dragnet store index --again' rebuilds it; until then questions take longer"
)

// Check reads everything in dir and reports what is wrong, by file. An error
// means that the check could not run.
func Check(ctx context.Context, dir string, progress func(flows int)) ([]Fault, error) {
	// Read before the catalogue, since a writer replaces it first.
	second, copyErr := readCatalogue(filepath.Join(dir, copyName))
	s, err := Open(dir)
	if errors.Is(err, errDamaged) {
		file := catalogueName
		if !Is(dir) {
			file = marker
		}
		return []Fault{{File: filepath.Join(dir, file), Problem: err.Error(), Advice: repair}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer s.Close()
	faults := s.checkCopy(second, copyErr)
	view := s.beginReading()
	defer s.endReading()
	var mu sync.Mutex
	found := faults
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, g := range view.segments {
		group.Go(func() error {
			wrong, err := g.checkSegment(ctx)
			mu.Lock()
			defer mu.Unlock()
			found = append(found, wrong...)
			if progress != nil {
				progress(g.Flows)
			}
			return err
		})
	}
	err = group.Wait()
	slices.SortFunc(found, func(a, b Fault) int { return strings.Compare(a.File, b.File) })
	return found, err
}

// checkCopy reports what is wrong with the copy of the catalogue, or with the
// catalogue beside it.
func (s *Store) checkCopy(second *catalogue, err error) []Fault {
	switch {
	case s.cat.Commit == 0 && errors.Is(err, fs.ErrNotExist):
		return nil // format 1, or new
	case err != nil:
		return []Fault{{File: s.copyPath(), Problem: problemOf(err), Advice: repair}}
	case second.Commit > s.cat.Commit+1:
		return []Fault{{File: s.cataloguePath(), Problem: staleError(s, second).Error(), Advice: repair}}
	}
	return nil
}

// checkSegment reads a whole segment, computes its run again and compares.
func (g *segment) checkSegment(ctx context.Context) ([]Fault, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	x, err := newIndexer(g.Epoch)
	if err != nil {
		return nil, err
	}
	if err := g.verifyRows(x); err != nil {
		return []Fault{{File: g.path, Problem: err.Error(), Flows: g.Flows, Advice: restore}}, nil
	}
	if g.Epoch == "" {
		return nil, nil
	}
	want := x.finishRun()
	got, err := os.ReadFile(g.runPath)
	switch {
	case err != nil:
		return []Fault{{File: g.runPath, Problem: err.Error(), Advice: reindex}}, nil
	case bytes.HasPrefix(got, []byte(oldRunMagic)) && bytes.HasSuffix(got, []byte(oldRunMagic)):
		return nil, nil
	case !bytes.Equal(got, want):
		return []Fault{{File: g.runPath, Problem: fmt.Sprintf("%v: it is not the run of its segment", errDamaged), Advice: reindex}}, nil
	}
	return nil, nil
}

// verifyRows reads every column of every row.
func (g *segment) verifyRows(x *indexer) error {
	if err := g.openFile(); err != nil {
		return err
	}
	if info, err := g.file.Stat(); err != nil || info.Size() != g.Bytes {
		return damagedError("it has %d bytes, the catalogue says %d", info.Size(), g.Bytes)
	}
	r, err := newBlockReader()
	if err != nil {
		return err
	}
	defer r.dec.zstd.Close()
	r.openSegment(g.file, g.footer)
	for i, b := range g.footer.blocks {
		if err := r.readBlock(i, flow.AllColumns); err != nil {
			return err
		}
		t := r.rows
		if !slices.IsSorted(t.start) || t.start[0] != b.first || t.start[t.n-1] != b.last {
			return damagedError("the flows of block %d are out of order", i)
		}
		if flow.Time(b.first) < g.From || flow.Time(b.last) > g.To {
			return damagedError("block %d lies outside the time that the catalogue gives", i)
		}
		if g.Epoch != "" {
			x.addBlock(i, t)
		}
	}
	return nil
}

// Backup copies the directory, as it is now, to a new directory; the copy is a
// data directory. Progress, if not nil, is called with the bytes copied.
func (s *Store) Backup(ctx context.Context, to string, progress func(bytes int)) error {
	view := s.beginReading()
	defer s.endReading()
	if Is(to) {
		return fmt.Errorf("%s is a data directory already; name a new one", to)
	}
	if err := createDirectory(to); err != nil {
		return err
	}
	copied, err := openDirectory(to, true)
	if err != nil {
		return err
	}
	defer copied.Close()
	for _, g := range view.cat.Segments {
		from, dest := s.segmentFiles(g), copied.segmentFiles(g)
		for i := range from {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			n, err := copyFile(from[i], dest[i])
			if err != nil {
				return err
			}
			if progress != nil {
				progress(n)
			}
		}
	}
	if err := syncDirectory(filepath.Join(to, "segments")); err != nil {
		return err
	}
	return copied.replaceCatalogue(func(c *catalogue) { *c = *view.cat })
}

func copyFile(from, to string) (int, error) {
	src, err := os.Open(from)
	if err != nil {
		return 0, err
	}
	defer src.Close()
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(dst, src)
	if err == nil {
		err = dst.Sync()
	}
	return int(n), errors.Join(err, dst.Close())
}

func syncDirectory(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
