package token

import (
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Limits bound a store.
//
// Space is shared by account, that is, by the user a record is about: when the
// store is full, the account that uses most loses its oldest records except the
// first ones, which are reserved: together at most half the store, divided
// among the accounts. So a user who causes a flood of requests loses middle
// parts of the flood, never the record of what came before it, and no other
// user loses anything. Within an account, what one asker caused in one hour is a
// group, and the largest group loses: a flood of questions from one host does not
// push out the record of what another host asked in its midst.
type Limits struct {
	// MaxBytes bounds the folder in bytes.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxAge is how long a record is kept.
	MaxAge time.Duration `yaml:"max_age"`
}

// DefaultLimits keep 64 MiB for 90 days.
func DefaultLimits() Limits { return Limits{MaxBytes: 64 << 20, MaxAge: 90 * 24 * time.Hour} }

// Store is the writer of a folder of records. It is safe for concurrent use.
type Store struct {
	dir    string
	key    ed25519.PrivateKey
	limits Limits
	now    func() time.Time
	lock   *os.File

	mu       sync.Mutex // guards all below
	sealed   []*segment
	active   *segment
	file     *os.File
	total    int64 // bytes of all segments
	unsigned bool  // records since the last checkpoint
	written  uint64
	oldest   int64  // time of the oldest record, for expiry; 0 when unknown
	failed   error  // a write that failed: nothing after it would be reliable
	anchored Anchor // as written last
	stuck    error  // why the last compaction did not make room
	// compacting is closed at the end of the compaction that runs; nil if none.
	compacting chan struct{}
	buf        []byte

	syncing sync.Mutex // one fsync at a time; guards synced
	synced  uint64
}

// Open opens a folder for writing, makes it if needed, and repairs it after a
// crash: it removes a torn last frame, for which no token was given.
func Open(dir string, key ed25519.PrivateKey, limits Limits) (*Store, error) {
	return openAt(dir, key, limits, time.Now)
}

func openAt(dir string, key ed25519.PrivateKey, limits Limits, now func() time.Time) (*Store, error) {
	if limits.MaxBytes < 256<<10 {
		return nil, fmt.Errorf("token store of %d bytes: at least 262144 are needed", limits.MaxBytes)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make token store: %w", err)
	}
	s := &Store{dir: dir, key: key, limits: limits, now: now}
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return nil, fmt.Errorf("lock token store: %w", err)
	}
	if err := unix.Flock(int(s.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		s.lock.Close()
		return nil, fmt.Errorf("token store %s is in use by another daemon: %w", dir, err)
	}
	if err := s.repairAfterCrash(); err != nil {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) repairAfterCrash() error {
	list, needless, err := listSegments(s.dir)
	if err != nil {
		return fmt.Errorf("open token store: %w", err)
	}
	for _, path := range needless {
		if err := os.Remove(path); err != nil {
			return fmt.Errorf("open token store: %w", err)
		}
	}
	var first uint64 = 1
	var before Hash
	for _, g := range list {
		// A frame torn by a crash is truncated; it is the last one written.
		if err := os.Truncate(g.path, g.size); err != nil {
			return fmt.Errorf("open token store: %w", err)
		}
		s.total += g.size
		first, before = g.next, g.link
		if g.oldest != 0 && (s.oldest == 0 || g.oldest < s.oldest) {
			s.oldest = g.oldest
		}
	}
	s.sealed = list
	s.written = first - 1
	if n := len(list); n > 0 && list[n-1].size == int64(headerSize) {
		// The last start wrote nothing; its name would be taken.
		s.sealed, s.total = list[:n-1], s.total-list[n-1].size
	}
	if err := s.startSegment(first, before); err != nil {
		return err
	}
	// Records from before a crash are signed now.
	s.unsigned = true
	return s.Sync()
}

// startSegment starts a new active segment.
func (s *Store) startSegment(first uint64, before Hash) error {
	g := &segment{path: filepath.Join(s.dir, segmentName(first)), first: first, before: before, next: first, link: before}
	if err := writeFile(g.path, g.encodeHeader()); err != nil {
		return fmt.Errorf("start segment: %w", err)
	}
	f, err := os.OpenFile(g.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("start segment: %w", err)
	}
	g.size = int64(headerSize)
	s.total += g.size
	s.active, s.file = g, f
	return nil
}

// Close signs what is not signed and closes the files.
func (s *Store) Close() error {
	err := s.Sync()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.compacting != nil {
		done := s.compacting
		s.mu.Unlock()
		<-done
		s.mu.Lock()
	}
	return errors.Join(err, s.file.Close(), s.lock.Close())
}

// Account is to whom the space of a record is charged.
type Account struct {
	User uint32
	// Asker identifies the asker, such as by a hash of the address; 0 if unknown.
	Asker uint32
}

// Put stores a record about a user and returns its token. With durable it
// returns once the record is signed and on the disk; else it will be at the
// next Sync.
func (s *Store) Put(record []byte, account Account, durable bool) (string, error) {
	f := &frame{kind: recordFrame, account: account.User, group: account.Asker}
	if err := s.putFrame(f, record, durable); err != nil {
		return "", err
	}
	return f.commit.String(), nil
}

// PutPrevious stores the answers of previous hosts, with the token of the
// request that asked them; they are kept as long as that record.
func (s *Store) PutPrevious(of string, answers []byte, account Account) error {
	h, err := ParseToken(of)
	if err != nil {
		return err
	}
	return s.putFrame(&frame{kind: previousFrame, account: account.User, group: account.Asker, of: h}, answers, true)
}

func (s *Store) putFrame(f *frame, record []byte, durable bool) error {
	if len(record) > maxRecord {
		return fmt.Errorf("record of %d bytes; at most %d are stored", len(record), maxRecord)
	}
	rand.Read(f.salt[:])
	f.commit = Commit(f.salt, record)
	f.coding, f.data = compressRecord(record)
	if err := s.waitForRoom(); err != nil {
		return fmt.Errorf("store record: %w", err)
	}
	number, err := s.appendFrame(f, durable)
	if err != nil {
		return fmt.Errorf("store record: %w", err)
	}
	if durable {
		return s.syncTo(number)
	}
	return nil
}

func (s *Store) appendFrame(f *frame, sign bool) (number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return 0, s.failed
	}
	f.number, f.time = s.active.next, s.now().UnixNano()
	s.buf = f.appendTo(s.buf[:0])
	link := f.nextLink(s.active.link)
	if sign {
		s.buf = s.makeCheckpoint(f.number, f.time, link).appendTo(s.buf)
	}
	if err := s.writeBuffer(); err != nil {
		return 0, err
	}
	s.active.link, s.active.next = link, f.number+1
	s.written, s.unsigned = f.number, !sign
	if s.oldest == 0 {
		s.oldest = f.time
	}
	return f.number, s.enforceLimits()
}

// writeBuffer appends the buffer to the active segment.
func (s *Store) writeBuffer() error {
	n, err := s.file.Write(s.buf)
	s.active.size += int64(n)
	s.total += int64(n)
	if err != nil {
		// A part of a frame may be in the file: truncate it, or give up, since
		// nothing after a torn frame can be read.
		good := s.active.size - int64(n)
		if cut := s.file.Truncate(good); cut != nil {
			s.failed = errors.Join(err, cut)
		}
		s.total -= int64(n)
		s.active.size = good
	}
	return err
}

func (s *Store) makeCheckpoint(number uint64, at int64, link Hash) *frame {
	c := &frame{kind: checkpointFrame, number: number, time: at, after: link}
	c.signature = ed25519.Sign(s.key, c.signedBytes())
	return c
}

// Sync signs the chain and waits until everything is on the disk.
func (s *Store) Sync() error {
	s.mu.Lock()
	if s.unsigned && s.failed == nil {
		s.buf = s.makeCheckpoint(s.active.next-1, s.now().UnixNano(), s.active.link).appendTo(s.buf[:0])
		if err := s.writeBuffer(); err != nil {
			s.mu.Unlock()
			return fmt.Errorf("sign records: %w", err)
		}
		s.unsigned = false
	}
	number := s.written
	anchor := s.makeAnchor()
	changed := anchor.Number != s.anchored.Number || anchor.First != s.anchored.First
	s.anchored = anchor
	s.mu.Unlock()
	if err := s.syncTo(number); err != nil || !changed {
		return err
	}
	// After the records: an anchor must not state what a crash may take.
	if err := writeFile(filepath.Join(s.dir, anchorFile), []byte(anchor.String()+"\n")); err != nil {
		return fmt.Errorf("write anchor: %w", err)
	}
	return nil
}

// syncTo waits until record number is on the disk. Those who wait at the same
// time share one fsync.
func (s *Store) syncTo(number uint64) error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	if s.synced >= number {
		return nil
	}
	s.mu.Lock()
	covered, f := s.written, s.file
	s.mu.Unlock()
	if err := f.Sync(); err != nil {
		s.mu.Lock()
		s.failed = err // pages may be lost: fsync(2)
		s.mu.Unlock()
		return fmt.Errorf("write records to disk: %w", err)
	}
	s.synced = covered
	return nil
}
