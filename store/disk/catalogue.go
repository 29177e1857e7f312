package disk

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"dragnet/flow"
	"dragnet/internal/durable"
	"dragnet/store"
)

// formatVersion is that of the whole data directory. A program refuses a newer
// one.
const formatVersion = 1

// catalogue lists the contents of the directory. Its file is replaced as a
// whole, and that replacement is the commit.
type catalogue struct {
	Version int `json:"version"`
	// Next is the number of the next segment.
	Next     uint64              `json:"next"`
	Segments []Segment           `json:"segments"`
	Sources  []store.ImportedLog `json:"sources"`
}

// Segment describes one segment file.
type Segment struct {
	Number uint64 `json:"number"`
	Flows  int    `json:"flows"`
	// From and To are the first and the last start of a flow.
	From flow.Time `json:"from"`
	To   flow.Time `json:"to"`
	// Sampling is the coarsest 1-in-N of its flows; see flow.Coverage.
	Sampling uint32 `json:"sampling"`
	// Bytes is the size of the segment file, RunBytes that of its run, whose
	// salts are of Epoch. Without a run both are empty.
	Bytes    int64  `json:"bytes"`
	Epoch    string `json:"epoch,omitempty"`
	RunBytes int64  `json:"run_bytes,omitempty"`
}

func (s *Store) cataloguePath() string { return filepath.Join(s.dir, "catalogue.json") }

func readCatalogue(path string) (*catalogue, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &catalogue{Version: formatVersion, Next: 1}, nil
	}
	if err != nil {
		return nil, err
	}
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, fmt.Errorf("%s is %w: %w; restore it from a backup", path, errDamaged, err)
	}
	if version.Version != formatVersion {
		return nil, fmt.Errorf("%s has format %d, but this program supports up to %d; use the program that wrote it", path, version.Version, formatVersion)
	}
	c := &catalogue{}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return nil, fmt.Errorf("%s is %w: %w; restore it from a backup", path, errDamaged, err)
	}
	for _, g := range c.Segments {
		if g.Flows < 1 || g.Flows > segmentRows || g.Number >= c.Next {
			return nil, fmt.Errorf("%s is %w: segment %d of %d flows", path, errDamaged, g.Number, g.Flows)
		}
	}
	return c, nil
}

// replaceCatalogue replaces the catalogue by a copy that change has modified.
// When it returns nil, the change is durable. The caller holds s.writing.
func (s *Store) replaceCatalogue(change func(*catalogue)) error {
	s.mu.Lock()
	next := &catalogue{Version: formatVersion, Next: s.cat.Next, Segments: slices.Clone(s.cat.Segments), Sources: slices.Clone(s.cat.Sources)}
	s.mu.Unlock()
	change(next)
	b, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(s.cataloguePath(), b, 0o640); err != nil {
		// The rename may have been done but not be durable: the state of the
		// disk is not known, so nothing more is written.
		s.broken = fmt.Errorf("write the catalogue: %w", err)
		return s.broken
	}
	s.mu.Lock()
	s.cat = next
	s.mu.Unlock()
	return nil
}
