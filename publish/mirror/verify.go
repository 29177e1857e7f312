package mirror

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"dragnet/wire/identity"
)

// Verify checks a copy of a publication in a folder: the signature, every file,
// that none is missing or added. seen, if not nil, is the last head known, so
// that an old or a second publication is noticed. A stale copy that is otherwise
// right is returned with ErrStale.
func Verify(dir string, publisher identity.Public, now time.Time, seen *Head) (*Manifest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	m, stale := readManifest(root, publisher, now)
	if m == nil {
		return nil, stale
	}
	if seen != nil {
		if err := checkNewer(seen, &m.Head); err != nil {
			return nil, err
		}
	}
	if err := checkFiles(root, m); err != nil {
		return nil, err
	}
	if err := findAdded(dir, m); err != nil {
		return nil, err
	}
	return m, stale
}

// Read opens the manifest of a copy and checks its signature, not the files.
func Read(dir string, publisher identity.Public, now time.Time) (*Manifest, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return readManifest(root, publisher, now)
}

func readManifest(root *os.Root, publisher identity.Public, now time.Time) (*Manifest, error) {
	sealed, err := readFile(root, SignatureName, maxSealed)
	if err != nil {
		return nil, err
	}
	head, stale := OpenHead(sealed, publisher, now)
	if stale != nil && !errors.Is(stale, ErrStale) {
		return nil, stale
	}
	listed, err := readFile(root, ManifestName, maxManifest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(listed, &head)
	if err != nil {
		return nil, err
	}
	return m, stale
}

func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readBounded(f, name, limit)
}

func readBounded(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is longer than %d bytes", name, limit)
	}
	return data, err
}

func checkFiles(root *os.Root, m *Manifest) error {
	var work errgroup.Group
	work.SetLimit(runtime.NumCPU())
	for i := range m.Files {
		work.Go(func() error { return checkFile(root, &m.Files[i]) })
	}
	return work.Wait()
}

func checkFile(root *os.Root, want *FileHash) error {
	f, err := root.Open(filepath.FromSlash(want.Path))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAltered, err)
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, io.LimitReader(f, want.Size+1))
	if err != nil {
		return err
	}
	if n != want.Size || hex.EncodeToString(h.Sum(nil)) != want.SHA256 {
		return fmt.Errorf("%w: %s differs", ErrAltered, want.Path)
	}
	return nil
}

// findAdded looks for files that the manifest does not list: who takes all files
// of a folder would take those too.
func findAdded(dir string, m *Manifest) error {
	return fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || path == ManifestName || path == SignatureName {
			return err
		}
		if _, listed := m.Find(path); !listed {
			return fmt.Errorf("%w: %s is not among them", ErrAltered, path)
		}
		return nil
	})
}
