// Package spool is a queue of records on disk between a program that makes them
// and a receiver, which may be unreachable for long.
//
// A record that Append acknowledged is returned by Read, in order and with its
// sequence number, until Acknowledge says that it arrived, also after a crash of
// either side. What was acknowledged just before a crash may be returned again:
// the receiver recognises it by its number. A spool is bounded in bytes and age;
// the oldest records are dropped first, and their numbers are skipped.
package spool

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"dragnet/internal/durable"
)

// Limits of a spool.
type Limits struct {
	// Bytes bounds the files of the spool. The oldest records are dropped an
	// eighth of it at a time.
	Bytes int64
	// Age bounds how long a record waits; it may be exceeded by an eighth.
	Age time.Duration
}

// Record is a record that waits.
type Record struct {
	// Sequence counts up by one from 1, over the life of the spool.
	Sequence uint64
	// Time is when the record was appended.
	Time time.Time
	Data []byte
}

// MaxRecord bounds the data of one record, in bytes.
const MaxRecord = 4 << 20

// ErrTooLarge means that a record exceeds MaxRecord or the spool's limits.
var ErrTooLarge = errors.New("the record is larger than the spool allows")

// ErrNotMade means that a record which is acknowledged was never made: the spool
// was restored from an older copy.
var ErrNotMade = errors.New("was never made here")

// position is the state that is stored beside the records.
type position struct {
	// Version of this file.
	Version int `json:"version"`
	// ID names the spool: numbers of another spool mean other records.
	ID string `json:"id"`
	// Acknowledged is the last sequence that arrived.
	Acknowledged uint64 `json:"acknowledged"`
	// Dropped counts records that were dropped to keep the limits.
	Dropped uint64 `json:"dropped"`
}

const positionFile = "position.json"

// Spool is an open spool. It is safe for concurrent use.
type Spool struct {
	dir    string
	limits Limits
	lock   *os.File
	wake   chan struct{}
	// problems are what Open could not read.
	problems []error

	mu       sync.Mutex // guards all below
	id       [16]byte
	position position
	segments []*segment // in order; the last one grows
	next     uint64     // sequence of the next record
	broken   error      // why nothing may be appended any more
}

// Open opens the spool in dir, and creates it if it does not exist. Only one
// program at a time can have it open.
func Open(dir string, limits Limits) (*Spool, error) {
	if limits.Bytes < 64<<10 || limits.Age <= 0 {
		return nil, fmt.Errorf("spool %s: want limits of at least 64 KiB and an age above 0", dir)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	s := &Spool{dir: dir, limits: limits, wake: make(chan struct{}, 1)}
	var err error
	if s.lock, err = os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(s.lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s is in use by another program; stop it first", dir), s.lock.Close())
	}
	if err := s.loadSegments(); err != nil {
		return nil, errors.Join(fmt.Errorf("spool %s: %w", dir, err), s.Close())
	}
	if len(s.segments) > 0 {
		s.wakeReader()
	}
	return s, nil
}

func (s *Spool) loadSegments() error {
	if err := s.loadPosition(); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+extension))
	if err != nil {
		return err
	}
	slices.Sort(names) // by first sequence, since names have a fixed width
	s.next = s.position.Acknowledged + 1
	for i, name := range names {
		g, problem, err := openSegment(name, i == len(names)-1)
		if err != nil {
			return err
		}
		if problem != nil {
			s.problems = append(s.problems, problem)
		}
		s.segments = append(s.segments, g)
		s.next = max(s.next, g.nextSequence())
	}
	return s.removeArrived()
}

func (s *Spool) loadPosition() error {
	path := filepath.Join(s.dir, positionFile)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := rand.Read(s.id[:]); err != nil {
			return err
		}
		s.position = position{Version: 1, ID: hex.EncodeToString(s.id[:])}
		return s.savePosition(s.position)
	}
	if err == nil {
		err = json.Unmarshal(data, &s.position)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	id, err := hex.DecodeString(s.position.ID)
	if err != nil || len(id) != len(s.id) || s.position.Version != 1 {
		return fmt.Errorf("%s: unknown version of the spool's format; use the program that wrote it", path)
	}
	copy(s.id[:], id)
	return nil
}

func (s *Spool) savePosition(p position) error {
	data, err := json.Marshal(p)
	if err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(s.dir, positionFile), data, 0o600); err != nil {
		return err
	}
	s.position = p
	return nil
}

// ID names the spool.
func (s *Spool) ID() [16]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// NewID gives the spool another identifier, for use after it was restored from a
// copy: its numbers mean other records by now.
func (s *Spool) NewID() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return err
	}
	p := s.position
	p.ID = hex.EncodeToString(id[:])
	if err := s.savePosition(p); err != nil {
		return err
	}
	s.id = id
	return nil
}

// Problems are what could not be read when the spool was opened: damage, or the
// record that was being written at a crash.
func (s *Spool) Problems() []error { return s.problems }

// Wake receives a value when there is something new to read.
func (s *Spool) Wake() <-chan struct{} { return s.wake }

func (s *Spool) wakeReader() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Waiting returns the size of what waits, in bytes of its files, and how many
// records were dropped so far.
func (s *Spool) Waiting() (bytes int64, dropped uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.totalSize(), s.position.Dropped
}

func (s *Spool) totalSize() (n int64) {
	for _, g := range s.segments {
		n += g.size
	}
	return n
}

// Close closes the spool; what waits stays on disk.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, g := range s.segments {
		errs = append(errs, g.file.Close())
	}
	s.segments, s.broken = nil, fs.ErrClosed
	return errors.Join(append(errs, s.lock.Close())...)
}

// Append adds records, and returns when they are on the disk.
func (s *Spool) Append(now time.Time, data ...[]byte) error {
	for _, d := range data {
		if len(d) > MaxRecord || int64(len(d)+headerSize) > s.limits.Bytes/8 {
			return fmt.Errorf("%w: %d bytes", ErrTooLarge, len(d))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return fmt.Errorf("spool %s: %w", s.dir, s.broken)
	}
	for len(data) > 0 {
		n, err := s.appendSome(now, data)
		if err != nil {
			return fmt.Errorf("spool %s: %w", s.dir, err)
		}
		data = data[n:]
	}
	s.wakeReader()
	return nil
}

// appendSome appends as many of data, at least one, as one segment takes.
func (s *Spool) appendSome(now time.Time, data [][]byte) (int, error) {
	if err := s.makeRoom(now, int64(len(data[0])+headerSize)); err != nil {
		return 0, err
	}
	g := s.segments[len(s.segments)-1]
	n, block := 0, []byte(nil)
	for ; n < len(data); n++ {
		if n > 0 && g.size+int64(len(block)+len(data[n])+headerSize) > s.limits.Bytes/8 {
			break
		}
		block = appendRecord(block, Record{Sequence: s.next + uint64(n), Time: now, Data: data[n]})
	}
	if err := g.writeBlock(block, n, now); err != nil {
		s.broken = g.broken
		return 0, err
	}
	s.next += uint64(n)
	return n, nil
}

// makeRoom begins a new segment if the last one is full or old, and drops the
// oldest ones beyond the limits.
func (s *Spool) makeRoom(now time.Time, size int64) error {
	last := len(s.segments) - 1
	if last < 0 || s.segments[last].count > 0 && (s.segments[last].size+size > s.limits.Bytes/8 || now.Sub(s.segments[last].from).Abs() > s.limits.Age/8) {
		g, err := newSegment(s.dir, s.next)
		if err != nil {
			return err
		}
		s.segments = append(s.segments, g)
	}
	return s.dropSegments(func(g *segment) bool {
		return s.totalSize()+size > s.limits.Bytes || now.Sub(g.to) > s.limits.Age
	})
}

// dropSegments removes the oldest segments while goes reports true, but never the
// last. The position is written first: a crash in between counts too many records
// as dropped, and loses no others.
func (s *Spool) dropSegments(goes func(*segment) bool) error {
	for len(s.segments) > 1 && goes(s.segments[0]) {
		g, p := s.segments[0], s.position
		if lost := g.nextSequence() - max(g.first, p.Acknowledged+1); g.nextSequence() > p.Acknowledged+1 {
			p.Dropped += lost
			if err := s.savePosition(p); err != nil {
				return err
			}
		}
		if err := s.removeFirst(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Spool) removeFirst() error {
	g := s.segments[0]
	s.segments = s.segments[1:]
	return errors.Join(g.file.Close(), os.Remove(g.file.Name()))
}

// Read returns records that wait, the oldest first: up to count of them and up to
// bytes of data, and at least one if there is any. They stay in the spool.
func (s *Spool) Read(now time.Time, count, bytes int) ([]Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return nil, fmt.Errorf("spool %s: %w", s.dir, s.broken)
	}
	if err := s.dropSegments(func(g *segment) bool { return now.Sub(g.to) > s.limits.Age }); err != nil {
		return nil, err
	}
	var out []Record
	for _, g := range s.segments {
		full, err := g.readRecords(s.position.Acknowledged, func(r Record) bool {
			if len(out) == count || len(out) > 0 && bytes < len(r.Data) {
				return false
			}
			bytes -= len(r.Data)
			out = append(out, r)
			return true
		})
		if err != nil {
			return nil, err
		}
		if full {
			break
		}
	}
	return out, nil
}

// Acknowledge says that all records up to sequence have arrived.
func (s *Spool) Acknowledge(sequence uint64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return fmt.Errorf("spool %s: %w", s.dir, s.broken)
	}
	if sequence <= s.position.Acknowledged {
		return nil
	}
	if sequence >= s.next {
		return fmt.Errorf("spool %s: record %d %w; the last one made is %d", s.dir, sequence, ErrNotMade, s.next-1)
	}
	p := s.position
	p.Acknowledged = sequence
	if err := s.savePosition(p); err != nil {
		return err
	}
	return s.removeArrived()
}

// removeArrived removes the segments whose records have all arrived. Their numbers
// are not used again, since the position has the last one.
func (s *Spool) removeArrived() error {
	for len(s.segments) > 0 && s.segments[0].nextSequence() <= s.position.Acknowledged+1 {
		if err := s.removeFirst(); err != nil {
			return err
		}
	}
	return nil
}
