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

// Finding is something wrong in a data directory.
type Finding struct {
	File    string `json:"file"`
	Problem string `json:"problem"`
	// Flows is how many cannot be read because of it.
	Flows int `json:"flows"`
	// Advice says what can be done.
	Advice string `json:"advice"`
}

const (
	restore = "copy the file from a backup; everything else stays readable"
	reindex = "'dragnet store index --again' makes it anew; until then questions take longer"
)

// Check reads everything in dir and reports what is wrong, by file. An error
// means that it could not look.
func Check(ctx context.Context, dir string, progress func(flows int)) ([]Finding, error) {
	s, err := Open(dir)
	if errors.Is(err, errDamaged) {
		return []Finding{{File: filepath.Join(dir, "catalogue.json"), Problem: err.Error(), Advice: restore}}, nil
	}
	if err != nil {
		return nil, err
	}
	defer s.Close()
	view := s.begin()
	defer s.end()
	var mu sync.Mutex
	var found []Finding
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, g := range view.segments {
		group.Go(func() error {
			wrong, err := g.check(ctx)
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
	slices.SortFunc(found, func(a, b Finding) int { return strings.Compare(a.File, b.File) })
	return found, err
}

// check reads a segment whole, makes its run again and compares.
func (g *segment) check(ctx context.Context) ([]Finding, error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	x, err := newIndexer(g.Epoch)
	if err != nil {
		return nil, err
	}
	if err := g.verify(x); err != nil {
		return []Finding{{File: g.path, Problem: err.Error(), Flows: g.Flows, Advice: restore}}, nil
	}
	if g.Epoch == "" {
		return nil, nil
	}
	want := x.finish()
	got, err := os.ReadFile(g.runPath)
	switch {
	case err != nil:
		return []Finding{{File: g.runPath, Problem: err.Error(), Advice: reindex}}, nil
	case !bytes.Equal(got, want):
		return []Finding{{File: g.runPath, Problem: fmt.Sprintf("%v: it is not the run of its segment", errDamaged), Advice: reindex}}, nil
	}
	return nil, nil
}

// verify reads every column of every row.
func (g *segment) verify(x *indexer) error {
	if err := g.load(); err != nil {
		return err
	}
	if info, err := g.file.Stat(); err != nil || info.Size() != g.Bytes {
		return damaged("it has %d bytes, the catalogue says %d", info.Size(), g.Bytes)
	}
	r, err := newBlockReader()
	if err != nil {
		return err
	}
	defer r.dec.zstd.Close()
	r.open(g.file, g.footer)
	for i, b := range g.footer.blocks {
		if err := r.block(i, flow.AllColumns); err != nil {
			return err
		}
		t := r.rows
		if !slices.IsSorted(t.start) || t.start[0] != b.first || t.start[t.n-1] != b.last {
			return damaged("the flows of block %d are out of order", i)
		}
		if flow.Time(b.first) < g.From || flow.Time(b.last) > g.To {
			return damaged("block %d lies outside the time that the catalogue gives", i)
		}
		if g.Epoch != "" {
			x.add(i, t)
		}
	}
	return nil
}

// Backup copies the directory, as it is now, to a new directory; the copy is a
// data directory. Progress, if not nil, is told the bytes copied.
func (s *Store) Backup(ctx context.Context, to string, progress func(bytes int)) error {
	view := s.begin()
	defer s.end()
	if _, err := os.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists; name a directory that does not", to)
	}
	if err := create(to); err != nil {
		return err
	}
	copied, err := open(to, true)
	if err != nil {
		return err
	}
	defer copied.Close()
	for _, g := range view.cat.Segments {
		from, dest := s.files(g), copied.files(g)
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
	return copied.commit(func(c *catalogue) { *c = *view.cat })
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
