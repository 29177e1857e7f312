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
// Room is shared by account, that is, by the user a record is about: when the
// store is full, the account that uses most loses its oldest records except
// the first ones, which are reserved: together at most half the store, divided
// among the accounts. So a user who causes a flood of requests loses middle
// parts of his flood, never the record of what he did before it, and nobody
// else loses anything.
type Limits struct {
	MaxBytes int64         `yaml:"max_bytes"`
	MaxAge   time.Duration `yaml:"max_age"`
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
	oldest   int64 // time of the oldest record, for expiry; 0 when unknown
	failed   error // a write that failed: nothing after it would be reliable
	buf      []byte

	syncing sync.Mutex // one fsync at a time; guards synced
	synced  uint64
}

// Open opens a folder for writing, makes it if needed, and repairs what a
// crash left: a torn last frame, which no token was given for.
func Open(dir string, key ed25519.PrivateKey, limits Limits) (*Store, error) {
	return open(dir, key, limits, time.Now)
}

func open(dir string, key ed25519.PrivateKey, limits Limits, now func() time.Time) (*Store, error) {
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
	if err := s.recover(); err != nil {
		s.lock.Close()
		return nil, err
	}
	return s, nil
}

func (s *Store) recover() error {
	list, needless, err := segments(s.dir)
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
		// A frame torn by a crash is cut off; it is the last one written.
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
	if err := s.start(first, before); err != nil {
		return err
	}
	// Records of the time before a crash are signed now.
	s.unsigned = true
	return s.Sync()
}

// start begins a new active segment.
func (s *Store) start(first uint64, before Hash) error {
	g := &segment{path: filepath.Join(s.dir, segmentName(first)), first: first, before: before, next: first, link: before}
	if err := writeFile(g.path, g.header()); err != nil {
		return fmt.Errorf("begin segment: %w", err)
	}
	f, err := os.OpenFile(g.path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return fmt.Errorf("begin segment: %w", err)
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
	return errors.Join(err, s.file.Close(), s.lock.Close())
}

// Put stores a record about a user and returns its token. With durable it
// returns once the record is signed and on the disk; else it will be at the
// next Sync.
func (s *Store) Put(record []byte, account uint32, durable bool) (string, error) {
	f := &frame{kind: recordFrame, account: account}
	if err := s.put(f, record, durable); err != nil {
		return "", err
	}
	return f.commit.String(), nil
}

// PutPrevious stores what hosts before answered, with the token of the request
// that made us ask them; it lives as long as that record.
func (s *Store) PutPrevious(of string, answers []byte, account uint32) error {
	h, err := ParseToken(of)
	if err != nil {
		return err
	}
	return s.put(&frame{kind: previousFrame, account: account, of: h}, answers, true)
}

func (s *Store) put(f *frame, record []byte, durable bool) error {
	if len(record) > maxRecord {
		return fmt.Errorf("record of %d bytes; at most %d are stored", len(record), maxRecord)
	}
	rand.Read(f.salt[:])
	f.commit = Commit(f.salt, record)
	f.coding, f.data = compress(record)
	number, err := s.append(f, durable)
	if err != nil {
		return fmt.Errorf("store record: %w", err)
	}
	if durable {
		return s.syncTo(number)
	}
	return nil
}

func (s *Store) append(f *frame, sign bool) (number uint64, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed != nil {
		return 0, s.failed
	}
	f.number, f.time = s.active.next, s.now().UnixNano()
	s.buf = f.encode(s.buf[:0])
	link := f.link(s.active.link)
	if sign {
		s.buf = s.checkpoint(f.number, f.time, link).encode(s.buf)
	}
	if err := s.write(); err != nil {
		return 0, err
	}
	s.active.link, s.active.next = link, f.number+1
	s.written, s.unsigned = f.number, !sign
	if s.oldest == 0 {
		s.oldest = f.time
	}
	return f.number, s.bound()
}

// write appends the buffer to the active segment.
func (s *Store) write() error {
	n, err := s.file.Write(s.buf)
	s.active.size += int64(n)
	s.total += int64(n)
	if err != nil {
		// A part of a frame may be in the file: cut it off, or give up, since
		// what follows a torn frame cannot be read.
		good := s.active.size - int64(n)
		if cut := s.file.Truncate(good); cut != nil {
			s.failed = errors.Join(err, cut)
		}
		s.total -= int64(n)
		s.active.size = good
	}
	return err
}

func (s *Store) checkpoint(number uint64, at int64, link Hash) *frame {
	c := &frame{kind: checkpointFrame, number: number, time: at, after: link}
	c.signature = ed25519.Sign(s.key, c.statement())
	return c
}

// Sync signs the chain and waits until everything is on the disk.
func (s *Store) Sync() error {
	s.mu.Lock()
	if s.unsigned && s.failed == nil {
		s.buf = s.checkpoint(s.active.next-1, s.now().UnixNano(), s.active.link).encode(s.buf[:0])
		if err := s.write(); err != nil {
			s.mu.Unlock()
			return fmt.Errorf("sign records: %w", err)
		}
		s.unsigned = false
	}
	number := s.written
	s.mu.Unlock()
	return s.syncTo(number)
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
