//go:build linux

// Package recording keeps every packet on the honeypots' link, both ways, as
// pcap files that are encrypted by age as they are written:
//
//	20261126T170000.000000000Z.pcap.age
//
// A new file is started at intervals of time and bytes, and the oldest are removed
// for the bounds. A file that a crash cut can be read up to there, less the last 64
// KiB.
package recording

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"dragnet/internal/conf"
	"dragnet/internal/run"
	"dragnet/packet/capture"
	"dragnet/packet/live"
)

// Configuration of a recording.
type Configuration struct {
	// Record keeps every packet on the honeypots' link; it needs CAP_NET_RAW.
	Record bool `yaml:"record"`
	// FileBytes and FileTime bound one file.
	FileBytes int64 `yaml:"file_bytes"`
	// FileTime is how long one file is written to.
	FileTime time.Duration `yaml:"file_time"`
	// Bytes bounds all files; the oldest are removed.
	Bytes int64 `yaml:"bytes"`
	// KeepDays is how long they are kept; 0 keeps them until the bound.
	KeepDays int `yaml:"keep_days"`
}

// DefaultConfiguration keeps 1 GiB for 90 days, in files of ten minutes.
func DefaultConfiguration() Configuration {
	return Configuration{Record: true, FileBytes: 64 << 20, FileTime: 10 * time.Minute, Bytes: 1 << 30, KeepDays: 90}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.FileBytes >= 1<<16, "file_bytes", "is %d; want at least 65536", c.FileBytes)
	p.Check(c.FileTime >= time.Second && c.FileTime <= 24*time.Hour, "file_time", "is %v; want 1s to 24h", c.FileTime)
	p.Check(c.Bytes >= 2*c.FileBytes, "bytes", "is %d; want at least twice file_bytes, %d", c.Bytes, c.FileBytes)
	p.Check(c.KeepDays >= 0 && c.KeepDays <= 36500, "keep_days", "is %d; want 0 to 36500", c.KeepDays)
	return p.Join()
}

// Totals count packets since the start.
type Totals struct {
	// Kept were written; Lost could not be, since the kernel had no room for
	// copies, or the disk was full.
	Kept, Lost uint64
	// Removed files made room for others.
	Removed uint64
}

// Recording is a part of a trap. Start and Stop are called once.
type Recording struct {
	c          Configuration
	dir        string
	link       string
	recipients func() []age.Recipient
	log        *slog.Logger
	now        func() time.Time
	group      *run.Group

	reader *live.Reader
	file   *file // nil between files
	failed time.Time
	kept   atomic.Uint64
	lost   atomic.Uint64
	gone   atomic.Uint64
	missed uint64 // that the kernel reported so far
}

// Dependencies of a recording.
type Dependencies struct {
	// Directory is where the files go, Link the interface that is recorded.
	Directory, Link string
	// Recipients returns who can decrypt them, and is called by Start.
	Recipients func() []age.Recipient
	Log        *slog.Logger
}

// New makes a recording; Start starts it.
func New(c Configuration, d Dependencies) (*Recording, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Recording{c: c, dir: d.Directory, link: d.Link, recipients: d.Recipients, log: d.Log, now: time.Now, group: run.NewGroup()}, nil
}

// Start records in the calling thread's network namespace.
func (r *Recording) Start(context.Context) (err error) {
	if err := os.MkdirAll(r.dir, 0o700); err != nil {
		return fmt.Errorf("recording: %w", err)
	}
	c := live.DefaultConfiguration()
	c.Interface, c.Snap = r.link, 1<<16
	if r.reader, err = live.Open(c); err != nil {
		return fmt.Errorf("recording: %w; 'recording: {record: false}' does without", err)
	}
	r.group.Go(r.run)
	return nil
}

// Failed receives the error that ended the recording.
func (r *Recording) Failed() <-chan error { return r.group.Failed() }

// Stop ends the last file.
func (r *Recording) Stop(ctx context.Context) error {
	err := r.group.Stop(ctx)
	return errors.Join(err, r.endFile(), r.reader.Close())
}

// Totals counts packets.
func (r *Recording) Totals() Totals { return Totals{r.kept.Load(), r.lost.Load(), r.gone.Load()} }

// pause is how long to wait for a packet, and before the disk is tried again.
const (
	pause = 100 * time.Millisecond
	retry = 10 * time.Second
)

func (r *Recording) run(ctx context.Context) error {
	for ctx.Err() == nil {
		rec, err := r.reader.Next(pause)
		now := r.now()
		if r.file != nil && r.file.isOver(&r.c, now) {
			if err := r.endFile(); err != nil {
				r.fail(now, err)
			}
		}
		switch {
		case errors.Is(err, live.ErrIdle):
			if err := r.countMissed(); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			if err := r.add(now, &rec); err != nil {
				r.fail(now, err)
			}
		}
	}
	return nil
}

func (r *Recording) countMissed() error {
	s, err := r.reader.Stats()
	if err == nil && s.Dropped > r.missed {
		r.lost.Add(s.Dropped - r.missed)
		r.missed = s.Dropped
	}
	return err
}

// fail notes that packets cannot be written. The trap goes on: what sessions sent
// is kept by its vault, as far as there is room.
func (r *Recording) fail(now time.Time, err error) {
	r.log.Error("packets are not recorded; trying again soon", "err", err, "lost", r.lost.Load())
	r.failed = now
	if r.file != nil {
		_ = r.file.f.Close() // what could be written stays
		r.file = nil
	}
}

func (r *Recording) add(now time.Time, rec *capture.Record) error {
	if r.file == nil {
		if since := now.Sub(r.failed); since >= 0 && since < retry {
			r.lost.Add(1)
			return nil
		}
		if err := r.makeRoom(now); err != nil {
			r.lost.Add(1)
			return err
		}
		f, err := openFile(r.dir, now, rec, r.recipients())
		if err != nil {
			r.lost.Add(1)
			return err
		}
		r.file = f
	}
	if err := r.file.pcap.Write(rec); err != nil {
		r.lost.Add(1)
		return err
	}
	r.kept.Add(1)
	return nil
}

func (r *Recording) endFile() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.close()
}

// makeRoom removes the oldest files until another one fits, and those that are too
// old by their name.
func (r *Recording) makeRoom(now time.Time) error {
	names, err := listFiles(r.dir)
	if err != nil {
		return err
	}
	sizes, total := make([]int64, len(names)), int64(0)
	for i, name := range names {
		if info, err := os.Stat(filepath.Join(r.dir, name)); err == nil {
			sizes[i] = info.Size()
			total += info.Size()
		}
	}
	before := ""
	if r.c.KeepDays > 0 {
		before = now.AddDate(0, 0, -r.c.KeepDays).UTC().Format(nameLayout)
	}
	for i, name := range names {
		if total+r.c.FileBytes <= r.c.Bytes && name >= before {
			return nil
		}
		if err := os.Remove(filepath.Join(r.dir, name)); err != nil {
			return err
		}
		total -= sizes[i]
		r.gone.Add(1)
	}
	return nil
}

const (
	nameLayout = "20060102T150405.000000000Z"
	extension  = ".pcap.age"
)

// listFiles lists the files of a directory, the oldest first.
func listFiles(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), extension) {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, err
}

// file is one that is written.
type file struct {
	f      *os.File
	sealed io.WriteCloser
	pcap   *capture.Writer
	began  time.Time
	bytes  int64
}

func openFile(dir string, now time.Time, first *capture.Record, recipients []age.Recipient) (*file, error) {
	f, err := os.OpenFile(filepath.Join(dir, now.UTC().Format(nameLayout)+extension), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	x := &file{f: f, began: now}
	if x.sealed, err = age.Encrypt(f, recipients...); err == nil {
		x.pcap, err = capture.NewWriter(x, first.Link)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return x, nil
}

// Write implements io.Writer for the pcap writer.
func (x *file) Write(b []byte) (int, error) {
	n, err := x.sealed.Write(b)
	x.bytes += int64(n)
	return n, err
}

// isOver reports whether a new file is to be started, also after the clock was set
// back.
func (x *file) isOver(c *Configuration, now time.Time) bool {
	return x.bytes >= c.FileBytes || now.Sub(x.began) >= c.FileTime || now.Before(x.began.Add(-time.Second))
}

func (x *file) close() error { return errors.Join(x.sealed.Close(), x.f.Sync(), x.f.Close()) }

// Each calls do with each packet kept in a directory, file by file, the oldest
// first. Files that cannot be read, or were cut, are named in cut; the packets before
// the damage are still passed.
func Each(dir string, keys []age.Identity, do func(*capture.Record) error) (cut []string, err error) {
	names, err := listFiles(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		stopped := error(nil)
		err := eachOf(filepath.Join(dir, name), keys, func(rec *capture.Record) error { stopped = do(rec); return stopped })
		switch {
		case stopped != nil:
			return cut, stopped
		case err != nil:
			cut = append(cut, fmt.Sprintf("%s: %v", name, err))
		}
	}
	return cut, nil
}

func eachOf(path string, keys []age.Identity, do func(*capture.Record) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	plain, err := age.Decrypt(bufio.NewReader(f), keys...)
	if err != nil {
		return err
	}
	r, err := capture.NewReader(plain)
	if err != nil {
		return err
	}
	for {
		rec, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := do(&rec); err != nil {
			return err
		}
	}
}
