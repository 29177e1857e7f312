package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"dragnet/wire/identity"
)

// Copier keeps a copy of a publication up to date: another mirror, or what a
// subscriber reads.
type Copier struct {
	// URL is where the files are, such as https://feed.example.org/mirror/.
	URL string
	// Directory gets the same layout as the publisher's.
	Directory string
	// Publisher is the key that must have signed.
	Publisher identity.Public
	// Client is used for requests; nil is one with sensible limits.
	Client *http.Client
	// Now is the clock; nil is the machine's.
	Now func() time.Time
	// Seen, if not nil, is a head that the publisher signed: an older
	// publication is not copied.
	Seen *Head
}

// Copied says what a copy brought.
type Copied struct {
	Manifest *Manifest
	// Fetched counts files and bytes that were transferred; the others were
	// there already.
	Fetched int
	Bytes   int64
	// Unchanged is set if the copy was up to date.
	Unchanged bool
}

// errChanged says that the publisher went on while we were reading.
var errChanged = errors.New("the publication changed while it was copied")

// Copy brings the directory up to date. What is in it stays as it is unless the
// whole new publication was fetched and is right. One Copy runs at a time.
func (c *Copier) Copy(ctx context.Context) (Copied, error) {
	if c.Client == nil {
		c.Client = &http.Client{Timeout: 10 * time.Minute}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	for attempt := 0; ; attempt++ {
		done, err := c.copyOnce(ctx)
		if !errors.Is(err, errChanged) || attempt == 3 {
			return done, err
		}
	}
}

func (c *Copier) copyOnce(ctx context.Context) (Copied, error) {
	if err := os.MkdirAll(c.Directory, 0o755); err != nil {
		return Copied{}, err
	}
	sealed, err := c.getBounded(ctx, SignatureName, maxSealed)
	if err != nil {
		return Copied{}, err
	}
	head, err := OpenHead(sealed, c.Publisher, c.Now())
	if err != nil {
		return Copied{}, err
	}
	if c.Seen != nil {
		if err := checkNewer(c.Seen, &head); err != nil {
			return Copied{}, err
		}
	}
	have, err := c.heldManifest()
	if err != nil {
		return Copied{}, err
	}
	if have != nil {
		if err := checkNewer(&have.Head, &head); err != nil {
			return Copied{}, err
		}
		if have.Head == head {
			return Copied{Manifest: have, Unchanged: true}, nil
		}
	}
	listed, err := c.getBounded(ctx, ManifestName, maxManifest)
	if err != nil {
		return Copied{}, err
	}
	m, err := parseManifest(listed, &head)
	if err != nil {
		return Copied{}, errors.Join(errChanged, err)
	}
	return c.fetchPublication(ctx, m, have, listed, sealed)
}

// heldManifest returns the manifest of the copy there is. Its signature was checked when it
// was fetched; its files are checked as they are taken over.
func (c *Copier) heldManifest() (*Manifest, error) {
	data, err := os.ReadFile(filepath.Join(c.Directory, Current, ManifestName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m Manifest
	if json.Unmarshal(data, &m) != nil {
		return nil, fmt.Errorf("%s in %s is damaged; remove the folder and copy again", ManifestName, c.Directory)
	}
	return &m, nil
}

func (c *Copier) fetchPublication(ctx context.Context, m, have *Manifest, listed, sealed []byte) (Copied, error) {
	done := Copied{Manifest: m}
	next := filepath.Join(c.Directory, ".next")
	if err := errors.Join(os.RemoveAll(next), os.Mkdir(next, 0o755)); err != nil {
		return done, err
	}
	for i := range m.Files {
		f := &m.Files[i]
		to := filepath.Join(next, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return done, err
		}
		if c.takeOver(f, have, to) {
			continue
		}
		if err := c.downloadFile(ctx, f, to); err != nil {
			return done, err
		}
		done.Fetched++
		done.Bytes += f.Size
	}
	err := errors.Join(os.WriteFile(filepath.Join(next, ManifestName), listed, 0o644), os.WriteFile(filepath.Join(next, SignatureName), sealed, 0o644))
	if err != nil {
		return done, err
	}
	return done, (&Tree{dir: c.Directory}).swapCurrent(next, m.Head.Number)
}

// takeOver links a file that the copy has, if it is still what it was.
func (c *Copier) takeOver(f *FileHash, have *Manifest, to string) bool {
	if have == nil {
		return false
	}
	old, ok := have.Find(f.Path)
	if !ok || old != *f {
		return false
	}
	root, err := os.OpenRoot(filepath.Join(c.Directory, Current))
	if err != nil {
		return false
	}
	defer root.Close()
	return checkFile(root, f) == nil && os.Link(filepath.Join(c.Directory, Current, filepath.FromSlash(f.Path)), to) == nil
}

func (c *Copier) downloadFile(ctx context.Context, f *FileHash, to string) error {
	body, err := c.openRemote(ctx, f.Path)
	if err != nil {
		return err
	}
	defer body.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	h := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, h), io.LimitReader(body, f.Size+1))
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("fetch %s: %w", f.Path, err)
	}
	if n != f.Size || hex.EncodeToString(h.Sum(nil)) != f.SHA256 {
		return errors.Join(errChanged, fmt.Errorf("%w: %s differs", ErrAltered, f.Path))
	}
	return nil
}

func (c *Copier) getBounded(ctx context.Context, name string, limit int64) ([]byte, error) {
	body, err := c.openRemote(ctx, name)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return readBounded(body, name, limit)
}

func (c *Copier) openRemote(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+"/"+name, nil)
	if err != nil {
		return nil, err
	}
	answer, err := c.Client.Do(r)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		answer.Body.Close()
		err := fmt.Errorf("fetch %s: %s", r.URL, answer.Status)
		if answer.StatusCode == http.StatusNotFound && name != SignatureName {
			err = errors.Join(errChanged, err)
		}
		return nil, err
	}
	return answer.Body, nil
}
