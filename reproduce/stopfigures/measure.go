//go:build linux

package stopfigures

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"dragnet/trace/record"
	"dragnet/trace/token"
	"dragnet/trace/walk"

	"golang.org/x/sys/unix"
)

// bench processes requests as the daemon does.
type bench struct {
	finder *walk.Finder
	disk   *token.Store // on an ordinary file system, in diskDir
	memory *token.Store // on a file system where fsync is free

	diskDir string
	// effort scales the number and length of measurements; 1 for a report.
	effort float64
}

func newBench(dir, memory string) (*bench, error) {
	b := &bench{diskDir: dir, effort: 1}
	var err error
	if b.finder, err = walk.New(walk.DefaultConfiguration()); err != nil {
		return nil, err
	}
	for _, s := range []struct {
		dir   string
		store **token.Store
	}{{dir, &b.disk}, {memory, &b.memory}} {
		key, err := token.LoadKey(filepath.Join(s.dir, "key"))
		if err != nil {
			return nil, err
		}
		if *s.store, err = token.Open(filepath.Join(s.dir, "records"), key, token.DefaultLimits()); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func (b *bench) close() {
	b.disk.Close()
	b.memory.Close()
	b.finder.Close()
}

// serveID processes an ID request.
func (b *bench) serveID(s *structure) error {
	found, err := b.finder.Find(s.local, s.remote)
	if err != nil {
		return err
	}
	r := record.Record{Version: record.Version, Time: time.Now().UTC(), Kind: "ID", Local: s.local, Remote: s.remote,
		UID: &found.UID, User: b.finder.UserName(found.UID), Inode: found.Inode, Cookie: found.Cookie}
	body, err := json.Marshal(r)
	if err == nil {
		_, err = b.memory.Put(body, token.Account{User: found.UID}, false)
	}
	return err
}

// serveSave processes an SV request and stores the record, unless store is nil.
func (b *bench) serveSave(s *structure, store *token.Store) error {
	found, err := b.finder.Find(s.local, s.remote)
	if err != nil {
		return err
	}
	w, err := b.finder.Walk(found)
	if err != nil {
		return err
	}
	host := b.finder.Host()
	r := record.Record{Version: record.Version, Time: time.Now().UTC(), Asker: s.remote.Addr(), Kind: "SV", Local: s.local, Remote: s.remote,
		UID: &found.UID, User: b.finder.UserName(found.UID), Inode: found.Inode, Cookie: found.Cookie, Direction: found.Direction.String(),
		Host: &host, Processes: w.Record(), Truncated: w.Truncated}
	r.Logins = b.finder.Logins(r.Processes)
	if store == nil {
		return nil
	}
	body, err := json.Marshal(r)
	if err == nil {
		_, err = store.Put(body, token.Account{User: found.UID}, true)
	}
	return err
}

// medianTime runs do and returns the median of its times.
func (b *bench) medianTime(ctx context.Context, times int, do func() error) (time.Duration, error) {
	times = max(1, int(float64(times)*b.effort))
	all := make([]time.Duration, 0, times)
	for range times {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		from := time.Now()
		if err := do(); err != nil {
			return 0, err
		}
		all = append(all, time.Since(from))
	}
	slices.Sort(all)
	return all[len(all)/2], nil
}

// loadOf is the share of one processor that requests at a rate use, in percent.
func (b *bench) loadOf(ctx context.Context, perMinute int, lasting time.Duration, do func() error) (float64, error) {
	lasting = time.Duration(float64(lasting) * b.effort)
	before, err := processorTime()
	if err != nil {
		return 0, err
	}
	from := time.Now()
	every := time.NewTicker(time.Minute / time.Duration(perMinute))
	defer every.Stop()
	end := time.After(lasting)
	for {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-every.C:
			if err := do(); err != nil {
				return 0, err
			}
		case <-end:
			after, err := processorTime()
			return 100 * (after - before).Seconds() / time.Since(from).Seconds(), err
		}
	}
}

// processorTime is the processor time this process has used so far.
func processorTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("read processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// memoryDir makes a folder on a file system in memory, or an ordinary one if
// there is none.
func memoryDir() (string, error) {
	if dir, err := os.MkdirTemp("/dev/shm", "dragnet-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "dragnet-")
}
