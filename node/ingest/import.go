package ingest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"dragnet/flow"
	"dragnet/internal/hint"
	"dragnet/source/nfdump"
	"dragnet/source/packets"
	"dragnet/source/zeek"
	"dragnet/store"
)

// ImportStatus is the outcome of importing a file.
type ImportStatus string

// Outcomes of importing a file.
const (
	New       ImportStatus = "new"       // imported from its beginning
	Grown     ImportStatus = "grown"     // imported from where it ended the last time
	Unchanged ImportStatus = "unchanged" // all of it was imported before
	Refused   ImportStatus = "refused"   // see Problem
	Busy      ImportStatus = "busy"      // another node is importing it; see Problem
)

// Imported describes the outcome for one file.
type Imported struct {
	File    string       `json:"file"`
	Status  ImportStatus `json:"status"`
	Flows   uint64       `json:"flows"`
	Skipped uint64       `json:"skipped"`
	// Problem says why it was not imported.
	Problem string `json:"problem,omitempty"`
}

// commitEvery is how many flows are imported between commits; after a crash, at
// most as many are read again.
const commitEvery = 4 << 20

// Importer imports files into a store. It is not safe for concurrent use.
type Importer struct {
	writer store.Appender
	known  *known
	now    func() time.Time

	// Coverage describes what was read, with the first problems.
	Coverage flow.Coverage
	// Progress, if set, is called with the number of flows read.
	Progress func(flows int)
	// Flows, if set, is called with each batch read. After a crash it is called
	// again with what was not committed.
	Flows func([]flow.Flow)
	// Committing, if set, is called before each commit.
	Committing func()

	flows uint64              // imported since the last commit
	dirty []store.ImportedLog // whose state waits for the next commit
}

// NewImporter returns an importer that writes to a store which holds sources.
func NewImporter(sources []store.ImportedLog, writer store.Appender) *Importer {
	return &Importer{writer: writer, known: newKnown(sources), now: time.Now}
}

// Files returns the logs and captures at path that Open would read, sorted by name.
func Files(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	files, err := walkDirectory(path)
	all := slices.Concat(files[conn], files[lined], files[recorded], files[capture])
	if err == nil && len(all) == 0 {
		return nil, hint.Add(fmt.Errorf("%s holds %s (%d other files)", path, noLogs, len(files[other])), "is it the right folder? docs/how-to/keep-flows.md says what is read")
	}
	return all, err
}

// Import reads the part of a file that was not imported before. It is durable only
// after Commit, though large files are committed in parts meanwhile.
func (m *Importer) Import(ctx context.Context, path string) (Imported, error) {
	done, err := m.importFile(ctx, path)
	if err == nil && m.flows >= commitEvery {
		err = m.Commit()
	}
	return done, err
}

func (m *Importer) importFile(ctx context.Context, path string) (Imported, error) {
	k, err := recogniseFile(path)
	if err != nil {
		return Imported{}, err
	}
	switch k {
	case conn, lined:
		return m.importLog(ctx, path)
	case recorded, capture:
		return m.importWhole(ctx, path, k)
	}
	info, err := os.Stat(path)
	if err == nil && info.Size() == 0 {
		return Imported{File: path, Status: Unchanged}, nil
	}
	return m.refuseFile(path, "it %s", notRecognised), err
}

func (m *Importer) refuseFile(path, format string, args ...any) Imported {
	problem := fmt.Sprintf(format, args...)
	m.Coverage.Skip(path, "not imported: %s", problem)
	return Imported{File: path, Status: Refused, Problem: problem}
}

// Commit makes everything imported so far durable.
func (m *Importer) Commit() error {
	if m.Committing != nil {
		m.Committing()
	}
	if err := m.writer.Commit(m.dirty...); err != nil {
		return err
	}
	m.flows, m.dirty = 0, nil
	return nil
}

// Add imports flows that are not from a file. They are durable after Commit.
func (m *Importer) Add(ctx context.Context, batch []flow.Flow) error {
	m.Coverage.Saw(batch)
	m.flows += uint64(len(batch))
	return m.appendBatch(ctx, batch)
}

// AddNumbered brings in a batch of a source that is not a file, called name. Numbers
// of its batches ascend; a batch whose number is not above that of the last one
// stored was stored before, and is left out.
func (m *Importer) AddNumbered(ctx context.Context, name string, number int64, batch []flow.Flow) error {
	source := store.ImportedLog{ID: name}
	if known := m.known.sources[name]; known != nil {
		source = *known
	}
	if number <= source.Offset {
		return nil
	}
	source.Name, source.Offset, source.Imported = name, number, flow.FromTime(m.now())
	source.Flows += uint64(len(batch))
	if err := m.Add(ctx, batch); err != nil {
		return err
	}
	m.noteSource(source)
	return nil
}

// Number is that of the last batch stored of a source that is not a file; 0 if there
// was none.
func (m *Importer) Number(name string) int64 {
	if s := m.known.sources[name]; s != nil {
		return s.Offset
	}
	return 0
}

func (m *Importer) appendBatch(ctx context.Context, batch []flow.Flow) error {
	if m.Progress != nil {
		m.Progress(len(batch))
	}
	if m.Flows != nil {
		m.Flows(batch)
	}
	return m.writer.Append(ctx, batch)
}

// importLog imports what is new in a log with one flow per line.
func (m *Importer) importLog(ctx context.Context, path string) (Imported, error) {
	s, err := openStream(path)
	if err != nil {
		return Imported{}, err
	}
	defer s.file.Close()
	prefix, err := s.readPrefix()
	if err != nil {
		return Imported{}, err
	}
	name, started := claimName(prefix)
	if free, err := m.claimLog(ctx, name, started); err != nil || !free {
		return Imported{File: path, Status: Busy, Problem: busy}, err
	}
	if !started && m.isShared() {
		return Imported{File: path, Status: Unchanged}, nil
	}
	source, refused, err := m.identifyLog(s, prefix)
	if err != nil || refused != "" {
		return m.refuseFile(path, "%s", refused), err
	}
	done := Imported{File: path, Status: Grown}
	if source.ID == "" {
		done.Status, source.ID = New, newID()
	}
	source.Name = path
	r := newReader(s, path, prefix)
	r.Resume(zeek.Mark{Offset: source.Offset, Line: source.Line, Header: source.Header})
	before := source
	if err := m.readToEnd(ctx, s, r, &source); err != nil {
		return done, err
	}
	done.Flows, done.Skipped = source.Flows-before.Flows, source.Skipped-before.Skipped
	if source.Offset == before.Offset && done.Status == Grown {
		done.Status = Unchanged
	}
	cov := r.Coverage()
	m.Coverage.Merge(cov)
	return done, nil
}

// identifyLog finds the position from which to import a log, and seeks to it. A
// source without an ID is new.
func (m *Importer) identifyLog(s *stream, prefix []byte) (source store.ImportedLog, refused string, err error) {
	like := m.known.beginningLike(prefix)
	for _, k := range like {
		if k.Whole {
			continue
		}
		there, err := s.seek(k.Offset, prefix)
		if err != nil {
			return source, "", err
		}
		if !there {
			continue
		}
		tail, err := s.bytesBefore(k.Offset)
		if err != nil {
			return source, "", err
		}
		if hashHex(tail) == k.Tail {
			return *k, "", nil
		}
	}
	if len(like) > 0 && like[0].Offset > identityBytes {
		k := like[0]
		return source, fmt.Sprintf("it begins like %s, of which %d bytes were imported, but then differs: it was truncated or changed", k.Name, k.Offset), nil
	}
	return source, "", s.rewind()
}

const busy = "another node is importing it, or stopped doing so less than a minute ago"

func (m *Importer) isShared() bool {
	_, ok := m.writer.(store.Claimer)
	return ok
}

// claimLog reserves a log in a store that nodes share, and reads what the others
// have imported of it. A log without a complete record has no name yet.
func (m *Importer) claimLog(ctx context.Context, name string, started bool) (free bool, err error) {
	shared, ok := m.writer.(store.Claimer)
	if !ok || !started {
		return true, nil
	}
	free, news, err := shared.Claim(ctx, name)
	m.known.addCommitted(news)
	return free, err
}

// readToEnd reads a log to its current end.
func (m *Importer) readToEnd(ctx context.Context, s *stream, r reader, source *store.ImportedLog) error {
	skipped, flows := source.Skipped, source.Flows
	for {
		batch, err := r.Next()
		if err == nil {
			flows += uint64(len(batch))
			m.flows += uint64(len(batch))
			if err := m.appendBatch(ctx, batch); err != nil {
				return err
			}
			if m.flows < commitEvery || s.compressed {
				continue
			}
		}
		var broken *fs.PathError
		if errors.As(err, &broken) {
			return fmt.Errorf("read %s: %w", source.Name, err)
		}
		cov := r.Coverage()
		source.Flows, source.Skipped = flows, skipped+cov.Skipped
		if marked := m.noteProgress(s, r, source); marked != nil {
			return marked
		}
		switch {
		case err == nil:
			if err := m.Commit(); err != nil {
				return err
			}
		case err == io.EOF:
			return nil
		default:
			// Damaged compression: what was read before it counts.
			m.Coverage.Skip(fmt.Sprintf("%s:%d", source.Name, source.Line+1), "%v: nothing from this line on could be read", err)
			return nil
		}
	}
}

// noteProgress records how far a log was read.
func (m *Importer) noteProgress(s *stream, r reader, source *store.ImportedLog) error {
	at := r.Mark()
	if at.Offset == 0 {
		return nil
	}
	tail, err := s.bytesBefore(at.Offset)
	if err != nil {
		return err
	}
	if headLength(source.Offset) < identityBytes {
		source.Head = hashHex(s.first[:headLength(at.Offset)])
	}
	source.Offset, source.Line, source.Header = at.Offset, at.Line, at.Header
	source.Tail, source.Imported = hashHex(tail), flow.FromTime(m.now())
	m.noteSource(*source)
	return nil
}

func (m *Importer) noteSource(source store.ImportedLog) {
	m.known.addSource(source)
	for i := range m.dirty {
		if m.dirty[i].ID == source.ID {
			m.dirty[i] = source
			return
		}
	}
	m.dirty = append(m.dirty, source)
}

// importWhole imports a capture or a file of records. Its flows depend on all of
// it, so it is imported as a whole or not at all.
func (m *Importer) importWhole(ctx context.Context, path string, k kind) (Imported, error) {
	source, err := fingerprintFile(path)
	if err != nil {
		return Imported{}, err
	}
	if free, err := m.claimLog(ctx, source.Tail, true); err != nil || !free {
		return Imported{File: path, Status: Busy, Problem: busy}, err
	}
	for _, known := range m.known.sources {
		if known.Whole && known.Tail == source.Tail {
			return Imported{File: path, Status: Unchanged}, nil
		}
		if known.Whole && known.Head == source.Head && known.Offset >= identityBytes {
			return m.refuseFile(path, "it begins like %s, which was imported; importing a file that grew would store the same flows twice", known.Name), nil
		}
	}
	cov, err := m.scanWhole(ctx, path, k)
	if reason, ok := errors.AsType[unreadable](err); ok && !errors.Is(err, nfdump.ErrOpen) {
		if cov.Flows == 0 {
			return m.refuseFile(path, "%v", reason), nil
		}
		cov.Skip(path, "%v", reason)
		err = nil
	}
	switch {
	case errors.Is(err, nfdump.ErrOpen):
		return Imported{File: path, Status: Busy, Problem: err.Error()}, nil
	case err != nil:
		return Imported{}, err
	}
	m.Coverage.Merge(cov)
	m.flows += cov.Flows
	source.ID, source.Flows, source.Skipped, source.Imported = newID(), cov.Flows, cov.Skipped, flow.FromTime(m.now())
	m.noteSource(source)
	return Imported{File: path, Status: New, Flows: cov.Flows, Skipped: cov.Skipped}, nil
}

func (m *Importer) scanWhole(ctx context.Context, path string, k kind) (flow.Coverage, error) {
	take := func(batch []flow.Flow) error { return m.appendBatch(ctx, batch) }
	if k == recorded {
		return scanRecording(ctx, path, flow.AllTime, take)
	}
	log, err := packets.Open(path)
	if err != nil {
		return flow.Coverage{}, err
	}
	return log.Scan(ctx, flow.AllTime, flow.AllColumns, take)
}

// fingerprintFile identifies a file that is imported whole: Tail is the hash of
// all of it.
func fingerprintFile(path string) (source store.ImportedLog, err error) {
	s, err := openStream(path)
	if err != nil {
		return source, err
	}
	defer s.file.Close()
	prefix, err := s.readPrefix()
	if err != nil {
		return source, err
	}
	all := sha256.New()
	// A damaged end of the compression is part of the file's identity.
	_, err = io.Copy(all, struct{ io.Reader }{s})
	var broken *fs.PathError
	if errors.As(err, &broken) {
		return source, err
	}
	return store.ImportedLog{Name: path, Whole: true, Offset: s.at, Head: hashHex(prefix), Tail: hex.EncodeToString(all.Sum(nil))}, nil
}
