package vault

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/trap/session"
)

// blockBytes is the unit in which file systems give room to files.
const blockBytes = 4096

// onDisk is the room that a file of n bytes takes.
func onDisk(n int64) int64 { return (n + blockBytes - 1) / blockBytes * blockBytes }

// sealedBytes bounds what age makes of n bytes for a few recipients: a header, and
// 16 bytes for each 64 KiB.
func sealedBytes(n int) int64 { return int64(n) + int64(n>>12) + 2048 }

// lineBytes bounds a line of JSON: each chunk has a time, a number and a word.
func lineBytes(s *session.Session) int64 { return int64(len(s.Chunks))*96 + 2048 }

// withoutReserve is the bound for all but first copies.
func (v *Vault) withoutReserve() int64 { return v.c.Bytes / 4 * 3 }

// networkOf is the source that an address belongs to.
func networkOf(a netip.Addr) netip.Prefix { return flow.NetworkOf(a, 24, 64) }

// findRoom is the network in whose share there is room for a session: of several
// attackers the one that has used most, which is the likely source of a flood. Without room a
// first copy is an error; of others the network is not valid.
func (v *Vault) findRoom(s *session.Session, attackers []netip.Addr, isNew bool) (netip.Prefix, error) {
	need, limit := lineBytes(s), v.withoutReserve()
	if isNew {
		need, limit = need+onDisk(sealedBytes(len(s.Sent))), v.c.Bytes
	}
	if len(attackers) == 0 {
		attackers = []netip.Addr{s.Client.Addr()}
	}
	var best netip.Prefix
	for _, a := range attackers {
		n := networkOf(a)
		if v.used[n]+need <= v.c.Bytes/100*int64(v.c.SourceShare) && (!best.IsValid() || v.used[n] > v.used[best]) {
			best = n
		}
	}
	if best.IsValid() && v.makeRoom(need, limit) {
		return best, nil
	}
	if !isNew {
		v.totals.Skipped++
		return netip.Prefix{}, nil
	}
	v.totals.Refused++
	if !best.IsValid() {
		return best, fmt.Errorf("%w: the share of %s is used up (vault.source_share)", ErrNoRoom, networkOf(attackers[0]))
	}
	return netip.Prefix{}, fmt.Errorf("%w: the vault holds %d bytes of first copies and lines (vault.bytes)", ErrNoRoom, v.totals.Bytes)
}

// makeRoom removes answers, the oldest first, until n bytes fit below a limit.
func (v *Vault) makeRoom(n, limit int64) bool {
	if v.totals.Bytes+n <= limit {
		return true
	}
	if v.totals.Bytes-v.answers+n > limit {
		return false
	}
	var names []string
	for name, p := range v.kept {
		if p.answer {
			names = append(names, name)
		}
	}
	slices.SortFunc(names, func(a, b string) int {
		return cmp.Or(v.kept[a].since.Compare(v.kept[b].since), cmp.Compare(a, b))
	})
	// A tenth more than is needed, so that this is not done for each.
	for _, name := range names {
		if v.totals.Bytes+n <= limit-limit/10 {
			break
		}
		if p := v.kept[name]; v.remove(name) {
			v.answers -= p.bytes
			v.totals.Bytes -= p.bytes
			v.totals.Evicted++
			delete(v.kept, name)
		}
	}
	return v.totals.Bytes+n <= limit
}

func (v *Vault) remove(name string) bool {
	err := os.Remove(v.path(name))
	return err == nil || errors.Is(err, fs.ErrNotExist)
}

// load counts what is on disk, and removes files that a crash left in part.
func (v *Vault) load() error {
	v.kept, v.used, v.answers, v.totals.Bytes = map[string]*payload{}, map[netip.Prefix]int64{}, 0, 0
	err := filepath.WalkDir(v.c.Directory, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		name, sealed := strings.CutSuffix(e.Name(), ".age")
		switch folder := filepath.Base(filepath.Dir(path)); {
		case folder == "sessions":
			v.totals.Bytes += info.Size()
		case filepath.Dir(filepath.Dir(path)) != filepath.Join(v.c.Directory, "payloads"):
		case sealed && len(name) == 2*sha256.Size:
			v.kept[name] = &payload{bytes: onDisk(info.Size()), since: info.ModTime()}
			v.totals.Bytes += onDisk(info.Size())
		case strings.HasPrefix(name, "."):
			return os.Remove(path)
		}
		return nil
	})
	if err != nil {
		return err
	}
	sent := map[string]bool{}
	answered := map[string]bool{}
	err = eachLine(v.c.Directory, func(l *Line, n int) error {
		if !l.Network.IsValid() { // of a version before shares
			l.Network = networkOf(l.Client.Addr())
		}
		v.used[l.Network] += int64(n)
		if p := v.kept[l.Sent]; p != nil && !sent[l.Sent] {
			v.used[l.Network] += p.bytes
			sent[l.Sent] = true
		}
		if v.kept[l.Answered] != nil {
			answered[l.Answered] = true
		}
		return nil
	})
	for name := range answered { // a payload without a line is kept as a first copy
		if p := v.kept[name]; !sent[name] {
			p.answer = true
			v.answers += p.bytes
		}
	}
	return err
}

// clocks are the machine's clock, and one that is never stepped.
type clocks struct {
	wall    time.Time
	elapsed time.Duration
}

func (v *Vault) readClocks() clocks { return clocks{v.now().Round(0), v.elapsed()} }

// maxStep is how far the two clocks may differ after an hour.
const maxStep = time.Minute

func (v *Vault) expireHourly(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			v.expire()
		}
	}
}

// expire removes what is older than keep_days, unless the clock was stepped since
// it was last called.
func (v *Vault) expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	before := v.steady
	v.steady = v.readClocks()
	step := v.steady.wall.Sub(before.wall) - (v.steady.elapsed - before.elapsed)
	if v.c.KeepDays == 0 || step.Abs() > maxStep {
		return
	}
	limit, removed := v.steady.wall.AddDate(0, 0, -v.c.KeepDays), false
	for name, p := range v.kept {
		if p.since.Before(limit) && v.remove(name) {
			removed = true
		}
	}
	days, err := filepath.Glob(filepath.Join(v.c.Directory, "sessions", "*.jsonl"))
	if err != nil {
		return
	}
	for _, path := range days {
		if filepath.Base(path) < limit.UTC().Format(time.DateOnly) && os.Remove(path) == nil {
			removed = true
		}
	}
	if removed {
		_ = v.load() // what cannot be read now is counted the next time
	}
}
