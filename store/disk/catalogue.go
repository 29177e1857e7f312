package disk

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
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
// one. Format 1 had a catalogue without checksum, commit number and copy.
const formatVersion = 2

// The catalogue and its copy have the same content, except between the two
// writes of a commit.
const (
	catalogueName = "catalogue.json"
	copyName      = "catalogue.copy.json"
)

// catalogue lists the contents of the directory. Its file is replaced as a
// whole, and that replacement is the commit.
type catalogue struct {
	// Commit counts the catalogues written, from 1; 0 in format 1.
	Commit uint64 `json:"commit"`
	// Next is the number of the next segment.
	Next     uint64              `json:"next"`
	Segments []Segment           `json:"segments"`
	Sources  []store.ImportedLog `json:"sources"`

	version int // of the file it was read from
}

// catalogueFile is the content of a catalogue's file. Sum is over the version
// and the bytes of Catalogue, in hexadecimal.
type catalogueFile struct {
	Version   int             `json:"version"`
	Sum       string          `json:"sha256"`
	Catalogue json.RawMessage `json:"catalogue"`
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

func (s *Store) cataloguePath() string { return filepath.Join(s.dir, catalogueName) }
func (s *Store) copyPath() string      { return filepath.Join(s.dir, copyName) }

// readCatalogue reads a catalogue of format 1 or 2. A missing file is
// fs.ErrNotExist, a damaged one errDamaged.
func readCatalogue(path string) (*catalogue, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := parseCatalogue(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func parseCatalogue(b []byte) (*catalogue, error) {
	var version struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(b, &version); err != nil {
		return nil, damagedError("it is not JSON: %v", err)
	}
	c := &catalogue{version: version.Version}
	if version.Version == 1 {
		old := struct {
			Version int `json:"version"`
			*catalogue
		}{catalogue: c}
		if err := decodeStrict(b, &old); err != nil {
			return nil, err
		}
		return c, c.validate()
	}
	var file catalogueFile
	err := decodeStrict(b, &file)
	// What this program wrote, but for the version, is damaged rather than newer.
	if version.Version > formatVersion && (err != nil || file.Sum != sumCatalogue(file.Catalogue)) {
		return nil, fmt.Errorf("it has format %d, but this program supports up to %d; use the program that wrote it", version.Version, formatVersion)
	}
	if err != nil {
		return nil, err
	}
	// Names of fields and white space are not in the sum, but are always alike.
	if canonical, err := json.Marshal(file); err != nil || !bytes.Equal(b, canonical) || file.Version != formatVersion || file.Sum != sumCatalogue(file.Catalogue) {
		return nil, damagedError("its checksum is wrong")
	}
	if err := decodeStrict(file.Catalogue, c); err != nil {
		return nil, err
	}
	return c, c.validate()
}

func decodeStrict(b []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return damagedError("%v", err)
	}
	return nil
}

func (c *catalogue) validate() error {
	for _, g := range c.Segments {
		if g.Flows < 1 || g.Flows > segmentRows || g.Number >= c.Next {
			return damagedError("it has segment %d of %d flows", g.Number, g.Flows)
		}
	}
	return nil
}

func sumCatalogue(content []byte) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "dragnet catalogue %d\n%s", formatVersion, content))
	return hex.EncodeToString(sum[:])
}

func (c *catalogue) encode() ([]byte, error) {
	content, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	return json.Marshal(catalogueFile{Version: formatVersion, Sum: sumCatalogue(content), Catalogue: content})
}

// repairHint ends an error that 'dragnet store repair' mends.
func repairHint(dir string) string {
	return fmt.Sprintf("'dragnet store repair --data %s' mends it", dir)
}

// readCurrent returns the catalogue in force. A directory without any catalogue
// and without segments is new. Everything else that is not whole is refused:
// taken as empty, its segments would be removed as left from a crash.
func (s *Store) readCurrent() (*catalogue, error) {
	c, err := readCatalogue(s.cataloguePath())
	if err == nil {
		return c, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		if errors.Is(err, errDamaged) {
			return nil, fmt.Errorf("%w; %s", err, repairHint(s.dir))
		}
		return nil, err
	}
	left, globErr := listSegmentFiles(s.dir)
	if globErr != nil {
		return nil, globErr
	}
	if _, err := os.Stat(s.copyPath()); errors.Is(err, fs.ErrNotExist) && len(left) == 0 {
		return &catalogue{Next: 1}, nil
	}
	return nil, fmt.Errorf("%s: %w: it is missing, but there are %d segments; %s", s.cataloguePath(), errDamaged, len(left), repairHint(s.dir))
}

// settleCatalogue makes the copy agree with the catalogue before the first write,
// and converts format 1. A copy that is one commit ahead is from a commit that was
// interrupted; it is taken back.
func (s *Store) settleCatalogue() error {
	c, err := readCatalogue(s.copyPath())
	if err == nil && c.Commit > s.cat.Commit+1 {
		return staleError(s, c)
	}
	if err == nil && c.Commit == s.cat.Commit && s.cat.version == formatVersion {
		return nil
	}
	return s.replaceCatalogue(func(*catalogue) {})
}

func staleError(s *Store, newer *catalogue) error {
	return fmt.Errorf("%s: %w: it is older than its copy (commit %d, the copy has %d); %s", s.cataloguePath(), errDamaged, s.cat.Commit, newer.Commit, repairHint(s.dir))
}

// replaceCatalogue replaces the catalogue by a copy that change has modified.
// When it returns nil, the change is durable. The caller holds s.writing, or has
// the store for itself.
//
// The copy is written first: whichever of the two files is lost, the other lists
// everything acknowledged, and every file that it lists exists.
func (s *Store) replaceCatalogue(change func(*catalogue)) error {
	s.mu.Lock()
	next := &catalogue{Next: s.cat.Next, Segments: slices.Clone(s.cat.Segments), Sources: slices.Clone(s.cat.Sources)}
	commit := s.cat.Commit + 1
	s.mu.Unlock()
	change(next)
	next.Commit, next.version = commit, formatVersion
	b, err := next.encode()
	if err != nil {
		return err
	}
	for _, path := range []string{s.copyPath(), s.cataloguePath()} {
		if err := durable.WriteFile(path, b, 0o640); err != nil {
			// The rename may have been done but not be durable: the state of the
			// disk is not known, so nothing more is written.
			s.broken = fmt.Errorf("write the catalogue: %w", err)
			return s.broken
		}
	}
	s.mu.Lock()
	s.cat = next
	s.mu.Unlock()
	return nil
}
