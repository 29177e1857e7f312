package mirror

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/publish"
	"dragnet/wire/identity"
)

// Current is the link to the newest publication.
const Current = "current"

// Tree is a folder with publications. Publish is for one goroutine at a time.
type Tree struct {
	dir     string
	key     *identity.Key
	every   time.Duration
	history time.Duration
	formats []publish.Files

	last atomic.Pointer[Manifest]
	// view is the number of the view that this process published last, 0 for
	// none.
	view int64
}

// Configuration of a tree.
type Configuration struct {
	// Directory is the folder; its subfolder "current" is what a web or rsync
	// server serves. Empty writes none.
	Directory string `yaml:"directory"`
	// Deltas is how long the changes of each publication are kept as files.
	Deltas time.Duration `yaml:"deltas"`
}

// DefaultConfiguration writes no files.
func DefaultConfiguration() Configuration { return Configuration{Deltas: 48 * time.Hour} }

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Deltas >= 0, "deltas", "is %v; want 0s or more", c.Deltas)
	return p.Join()
}

// NewTree goes on from what is in the folder. A publication is overdue after
// three intervals.
func NewTree(c Configuration, key *identity.Key, every time.Duration, formats ...publish.Files) (*Tree, error) {
	if err := os.MkdirAll(c.Directory, 0o755); err != nil {
		return nil, err
	}
	t := &Tree{dir: c.Directory, key: key, every: every, history: c.Deltas, formats: append([]publish.Files{Lines, Table, Hosts, Groups}, formats...)}
	m, err := Verify(filepath.Join(c.Directory, Current), key.Public(), time.Now(), nil)
	switch {
	case m != nil && (err == nil || errors.Is(err, ErrStale)):
		t.last.Store(m)
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		// A damaged or foreign publication is not gone on from, but its number
		// is not used a second time.
		if n := newestNumber(c.Directory); n > 0 {
			t.last.Store(&Manifest{Head: Head{Number: n}})
		}
	}
	return t, nil
}

func newestNumber(dir string) (newest int64) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if n, err := strconv.ParseInt(e.Name(), 10, 64); err == nil {
			newest = max(newest, n)
		}
	}
	return newest
}

// Last is the newest manifest, nil before the first.
func (t *Tree) Last() *Manifest { return t.last.Load() }

// Path is the folder of a publication.
func (t *Tree) folderOf(number int64) string {
	return filepath.Join(t.dir, fmt.Sprintf("%012d", number))
}

func (t *Tree) fileIn(number int64, path string) string {
	return filepath.Join(t.folderOf(number), filepath.FromSlash(path))
}

// Publish writes a view as the next publication.
func (t *Tree) Publish(v *publish.View) (*Manifest, error) {
	last := t.last.Load()
	if last == nil {
		last = &Manifest{}
	}
	w := &writer{dir: filepath.Join(t.dir, ".next")}
	if err := os.RemoveAll(w.dir); err != nil {
		return nil, err
	}
	if err := os.Mkdir(w.dir, 0o755); err != nil {
		return nil, err
	}
	head := Head{Version: HeadVersion, Number: last.Head.Number + 1, Sequence: v.Sequence, Time: v.Time, Until: v.Time + flow.Time(3*t.every), Previous: last.Head.Root}
	err := t.writeFiles(w, v, last, head.Number)
	if err = errors.Join(err, w.finishFile()); err != nil {
		return nil, fmt.Errorf("write the publication: %w", err)
	}
	m, err := t.sealManifest(w, head)
	if err != nil {
		return nil, err
	}
	if err := t.swapCurrent(w.dir, head.Number); err != nil {
		return nil, err
	}
	t.last.Store(m)
	t.view = v.Number
	return m, nil
}

// writeFiles runs the formats beside each other, as many as there are
// processors; each writes its own files.
func (t *Tree) writeFiles(w *writer, v *publish.View, last *Manifest, number int64) error {
	writers := make([]writer, len(t.formats))
	keep := func(w *writer) func(string, int64) bool {
		return func(path string, number int64) bool {
			f, ok := last.Find(path)
			return ok && number <= t.view && w.linkFormer(t.fileIn(last.Head.Number, path), f) == nil
		}
	}
	var work errgroup.Group
	work.SetLimit(runtime.NumCPU())
	for i, format := range t.formats {
		writers[i].dir = w.dir
		work.Go(func() error {
			return errors.Join(format(v, publish.Out{Create: writers[i].createFile, Keep: keep(&writers[i])}), writers[i].finishFile())
		})
	}
	if err := work.Wait(); err != nil {
		return err
	}
	for i := range writers {
		w.files = append(w.files, writers[i].files...)
	}
	return t.writeDeltas(w, v, last, number)
}

// sealManifest writes the manifest and its signature.
func (t *Tree) sealManifest(w *writer, head Head) (*Manifest, error) {
	slices.SortFunc(w.files, func(a, b FileHash) int { return cmp.Compare(a.Path, b.Path) })
	var err error
	if head.Root, err = rootOf(w.files); err != nil {
		return nil, err
	}
	head.Files = len(w.files)
	for i := range w.files {
		head.Bytes += w.files[i].Size
	}
	m := &Manifest{head, w.files}
	listed, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, err
	}
	sealed, err := signHead(t.key, &head)
	if err != nil {
		return nil, err
	}
	return m, errors.Join(os.WriteFile(filepath.Join(w.dir, ManifestName), append(listed, '\n'), 0o644), os.WriteFile(filepath.Join(w.dir, SignatureName), sealed, 0o644))
}

// swapCurrent makes a finished folder the current one and removes those that no
// reader can have open any more. Nothing is flushed: hundreds of megabytes would take
// many seconds. After a crash of the machine the current folder may be damaged;
// readers notice, and NewTree does and publishes again.
func (t *Tree) swapCurrent(from string, number int64) error {
	to := t.folderOf(number)
	if err := errors.Join(os.RemoveAll(to), os.Rename(from, to)); err != nil {
		return err
	}
	link := filepath.Join(t.dir, ".current")
	if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(os.Symlink(filepath.Base(to), link), os.Rename(link, filepath.Join(t.dir, Current))); err != nil {
		return err
	}
	entries, err := os.ReadDir(t.dir)
	for _, e := range entries {
		if n, notNumber := strconv.ParseInt(e.Name(), 10, 64); notNumber == nil && (n < number-1 || n > number) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(t.dir, e.Name())))
		}
	}
	return err
}

// writeDeltas keeps the changes of former publications, and adds this one's.
func (t *Tree) writeDeltas(w *writer, v *publish.View, last *Manifest, number int64) error {
	if last.Head.Number == 0 || last.Head.Sequence < v.Reaches || last.Head.Root == "" {
		return nil // who followed so far begins again with the whole list
	}
	oldest := number - int64(t.history/t.every)
	for _, f := range last.Files {
		n, err := strconv.ParseInt(strings.TrimSuffix(path.Base(f.Path), ".jsonl"), 10, 64)
		if path.Dir(f.Path) == "delta" && err == nil && n > oldest {
			if err := w.linkFormer(t.fileIn(last.Head.Number, f.Path), f); err != nil {
				return err
			}
		}
	}
	out, err := w.createFile(fmt.Sprintf("delta/%012d.jsonl", number))
	if err != nil {
		return err
	}
	enc := json.NewEncoder(out)
	for i := range v.Changes {
		if c := &v.Changes[i]; c.Sequence > last.Head.Sequence {
			if err := enc.Encode(c); err != nil {
				return err
			}
		}
	}
	return nil
}

// writer writes files below dir and remembers their hashes.
type writer struct {
	dir   string
	files []FileHash

	path string
	file *os.File
	buf  *bufio.Writer
	hash hash.Hash
	size int64
}

func (w *writer) createFile(name string) (io.Writer, error) {
	if err := w.finishFile(); err != nil {
		return nil, err
	}
	if !fs.ValidPath(name) {
		return nil, fmt.Errorf("%q is not the path of a file", name)
	}
	at := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(at, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, err
	}
	w.path, w.file, w.hash, w.size = name, f, sha256.New(), 0
	w.buf = bufio.NewWriterSize(w, 64<<10)
	return w.buf, nil
}

// Write is for the buffer alone.
func (w *writer) Write(b []byte) (int, error) {
	w.hash.Write(b)
	w.size += int64(len(b))
	return w.file.Write(b)
}

// finishFile ends the file that is being written, if any.
func (w *writer) finishFile() error {
	if w.file == nil {
		return nil
	}
	err := errors.Join(w.buf.Flush(), w.file.Close())
	w.file = nil
	w.files = append(w.files, FileHash{w.path, w.size, hex.EncodeToString(w.hash.Sum(nil))})
	return err
}

// linkFormer takes over a file of a former publication.
func (w *writer) linkFormer(from string, f FileHash) error {
	if err := w.finishFile(); err != nil {
		return err
	}
	if have, err := os.Lstat(from); err != nil || have.Size() != f.Size {
		return errors.Join(err, fmt.Errorf("%w: %s", ErrAltered, from))
	}
	to := filepath.Join(w.dir, filepath.FromSlash(f.Path))
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	if err := os.Link(from, to); err != nil {
		return err
	}
	w.files = append(w.files, f)
	return nil
}
