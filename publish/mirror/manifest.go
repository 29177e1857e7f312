// Package mirror writes what is published as a tree of static files that any
// web, FTP or rsync server can hand on, under one signed manifest: who has a copy
// from anywhere can tell whether it is whole, unchanged and current, without a
// network (Allman et al. 2006, section 2.3: the clearinghouse's mirrors).
//
// Each publication is a separate folder that is never changed. The link
// "current" points to the newest, so that a reader never meets half of one.
package mirror

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"dragnet/flow"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
)

// Names of the two files that describe the others.
const (
	ManifestName  = "manifest.json"
	SignatureName = "manifest.sig"
)

// Head is the signed part of a manifest.
type Head struct {
	Version int `json:"version"`
	// Number counts publications; Sequence is the last change in it.
	Number   int64     `json:"number"`
	Sequence int64     `json:"sequence"`
	Time     flow.Time `json:"time"`
	// Until is when the next publication is overdue: a mirror that hands out
	// this one later is stale.
	Until flow.Time `json:"until"`
	Files int       `json:"files"`
	Bytes int64     `json:"bytes"`
	// Root is the Merkle tree hash over the files in order of their paths (RFC
	// 6962, section 2.1), each leaf its path, a zero byte, its size in eight
	// bytes, and its SHA-256.
	Root string `json:"root"`
	// Previous is the Root of the publication before, empty for the first.
	Previous string `json:"previous"`
}

// HeadVersion is the version of the form of a Head.
const HeadVersion = 1

// Manifest lists the files of one publication.
type Manifest struct {
	Head  Head       `json:"head"`
	Files []FileHash `json:"files"`
}

// FileHash is one file of a manifest.
type FileHash struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"` // hexadecimal
}

// Bounds of what is read.
const (
	maxHead     = 4096
	maxSealed   = 64 << 10
	maxManifest = 256 << 20
	maxFiles    = 1 << 20
	// MaxTree bounds the bytes of all files of a publication.
	MaxTree = 64 << 30
)

// Why a publication is not believed.
var (
	ErrForged     = errors.New("the manifest is not signed by the publisher")
	ErrStale      = errors.New("the publication is overdue: this copy is no longer kept up to date, or the publisher has stopped")
	ErrAltered    = errors.New("the files are not those that the publisher signed")
	ErrRolledBack = errors.New("the copy is older than one seen before")
	ErrForked     = errors.New("the publisher signed two different publications under one number")
)

const signedKind = "feed manifest"

// signHead packs a head into an envelope for any reader. The envelope holds for
// longer than the head, so that an old copy can still be told from a forged one.
func signHead(k *identity.Key, h *Head) ([]byte, error) {
	body, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	issued := h.Time.Time()
	return envelope.Seal(k, envelope.Header{Kind: signedKind, Issued: issued, Expires: issued.Add(envelope.MaxLife)}, body)
}

// OpenHead checks a signature file against the publisher's key. A stale head is
// returned with ErrStale.
func OpenHead(sealed []byte, publisher identity.Public, now time.Time) (Head, error) {
	e, err := envelope.Open(sealed, envelope.Expect{Kind: signedKind, Now: now, Skew: 5 * time.Minute, MaxBody: maxHead,
		Signer: func(id identity.ID) (identity.Public, bool) { return publisher, id == publisher.ID() }})
	if err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrForged, err)
	}
	var h Head
	if err := json.Unmarshal(e.Body, &h); err != nil || h.Version != HeadVersion {
		return Head{}, fmt.Errorf("%w: written in a version this program does not speak", ErrForged)
	}
	if h.Until < flow.FromTime(now) {
		return h, fmt.Errorf("%w: valid until %v", ErrStale, h.Until)
	}
	return h, nil
}

// rootOf is the Merkle tree hash of files in order of their paths.
func rootOf(files []FileHash) (string, error) {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	tree := factory.NewEmptyRange(0)
	for i := range files {
		f := &files[i]
		sum, err := hex.DecodeString(f.SHA256)
		if err != nil || len(sum) != 32 {
			return "", fmt.Errorf("%w: %q has no SHA-256", ErrAltered, f.Path)
		}
		leaf := append([]byte(f.Path), 0)
		leaf = binary.BigEndian.AppendUint64(leaf, uint64(f.Size))
		if err := tree.Append(rfc6962.DefaultHasher.HashLeaf(append(leaf, sum...)), nil); err != nil {
			return "", err
		}
	}
	root, err := tree.GetRootHash(nil)
	if root == nil {
		root = rfc6962.DefaultHasher.EmptyRoot()
	}
	return hex.EncodeToString(root), err
}

// parseManifest reads a list of files and checks it against a signed head.
func parseManifest(data []byte, head *Head) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrAltered, ManifestName, err)
	}
	if m.Head != *head || len(m.Files) != head.Files || head.Files > maxFiles {
		return nil, fmt.Errorf("%w: %s belongs to another publication", ErrAltered, ManifestName)
	}
	var total int64
	for i := range m.Files {
		f := &m.Files[i]
		if !fs.ValidPath(f.Path) || strings.ContainsAny(f.Path, "\\\x00") || strings.HasPrefix(path.Base(f.Path), ".") || f.Path == ManifestName || f.Path == SignatureName ||
			f.Size < 0 || i > 0 && m.Files[i-1].Path >= f.Path {
			return nil, fmt.Errorf("%w: %s lists %.200q", ErrAltered, ManifestName, f.Path)
		}
		if total += f.Size; total > MaxTree {
			return nil, fmt.Errorf("%w: more than %d bytes in all", ErrAltered, int64(MaxTree))
		}
	}
	if root, err := rootOf(m.Files); err != nil || root != head.Root || total != head.Bytes {
		return nil, fmt.Errorf("%w: %s does not match the signed root", ErrAltered, ManifestName)
	}
	return &m, nil
}

// Find returns a file of the manifest.
func (m *Manifest) Find(path string) (FileHash, bool) {
	i, ok := slices.BinarySearchFunc(m.Files, path, func(f FileHash, p string) int { return cmp.Compare(f.Path, p) })
	if !ok {
		return FileHash{}, false
	}
	return m.Files[i], true
}

// checkNewer compares a head with one seen before.
func checkNewer(seen, h *Head) error {
	switch {
	case h.Number < seen.Number:
		return fmt.Errorf("%w: number %d, seen %d", ErrRolledBack, h.Number, seen.Number)
	case h.Number == seen.Number && h.Root != seen.Root:
		return fmt.Errorf("%w: %d", ErrForked, h.Number)
	case h.Number == seen.Number+1 && h.Previous != seen.Root:
		return fmt.Errorf("%w: %d does not follow from the one seen", ErrForked, h.Number)
	}
	return nil
}
