//go:build linux

// Package recorder is the flight recorder of the ident daemon: it keeps which
// processes had which TCP connections, and who started them, so that questions
// about connections that are over can be answered.
//
// Kernel programs report each process that starts, runs a program or ends, and
// each connection that opens or ends, with a process that holds it. While
// connections are open that were opened here, the processes that share pipes and
// sockets with theirs are looked up as for a question of the present. When a
// connection has ended it is written to a log bounded by bytes and age, with the
// connections from which it may have come.
//
// Not guaranteed: a process that was given a socket and passed it on or ended
// before the next look is not seen; a relay that opens its outbound connection
// long before data passes is seen as it was then.
package recorder

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dragnet/trace/diag"
	"dragnet/trace/kernel"
	"dragnet/trace/walk"

	"golang.org/x/sys/unix"
)

// Configuration bounds what is recorded.
type Configuration struct {
	// Enabled turns the recorder on. It needs eBPF.
	Enabled bool `yaml:"enabled"`
	// MaxBytes bounds what is kept on disk.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxAge is how long it is kept.
	MaxAge time.Duration `yaml:"max_age"`
	// Arguments allows the first 192 octets of command lines, which may hold
	// passwords.
	Arguments bool `yaml:"arguments"`
}

// DefaultConfiguration keeps a day in 256 MiB, without command lines.
func DefaultConfiguration() Configuration {
	return Configuration{Enabled: true, MaxBytes: 256 << 20, MaxAge: 24 * time.Hour}
}

const (
	// pollEvery is how often events are read.
	pollEvery = 100 * time.Millisecond
	// lookEvery is how often processes are looked at, at most; a look that takes
	// longer than a two-hundredth of it makes the next one later.
	lookEvery   = 500 * time.Millisecond
	lookAtLeast = 5 * time.Second // even where looks take long
	// maxWalks bounds the walks of one look.
	maxWalks   = 32
	flushEvery = 5 * time.Second
)

// Recorder records until it is closed.
type Recorder struct {
	config Configuration
	logger *slog.Logger
	kernel *kernel.EventReader
	finder *walk.Finder
	dir    string
	boot   time.Time

	mu     sync.Mutex // guards below
	table  *table
	log    *log
	shares *shares
	failed error
	lost   uint64
	looked uint64 // when the last look began, ns since boot

	quit chan struct{}
	done chan struct{}
}

// Open starts to record into a folder.
func Open(dir string, config Configuration, finder *walk.Finder, logger *slog.Logger) (*Recorder, error) {
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return nil, fmt.Errorf("read time since boot: %w", err)
	}
	r := &Recorder{
		config: config, logger: logger, finder: finder, dir: dir, boot: time.Now().Add(-time.Duration(since.Nano())),
		table: newTable(), shares: newShares(config, walk.ReadAccounts("/etc/subuid")), quit: make(chan struct{}), done: make(chan struct{}),
	}
	r.table.made = r.translate
	var err error
	if r.log, err = openLog(dir, config); err != nil {
		return nil, err
	}
	if r.kernel, err = kernel.LoadEvents(config.Arguments); err != nil {
		return nil, err
	}
	if err := r.readPresent(); err != nil {
		r.kernel.Close()
		return nil, err
	}
	go r.run()
	return r, nil
}

// Close writes what has ended and stops.
func (r *Recorder) Close() error {
	close(r.quit)
	<-r.done
	r.kernel.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeEnded(r.table.takeEnded(), time.Now())
	r.writeRest(r.shares.begin(time.Now().Add(2*slice)), time.Now())
	return r.log.close()
}

// readPresent fills the table with the processes that run, and their connections.
func (r *Recorder) readPresent() error {
	present, err := walk.ListProcesses()
	if err != nil {
		return err
	}
	for _, p := range present {
		id := kernel.ProcessID{PID: p.PID, Start: p.Start}
		q := &process{
			id: id, uid: p.UID, login: none, session: none, name: p.Name, terminal: p.Terminal, born: p.Start * (1e9 / 100),
		}
		if p.Login != nil {
			q.login = *p.Login
		}
		if p.Session != nil {
			q.session = *p.Session
		}
		r.table.processes[id], r.table.byPID[id.PID] = q, q
	}
	for _, p := range present {
		q := r.table.byPID[p.PID]
		if by := r.table.byPID[p.Parent]; by != nil && by != q {
			q.by = by
			by.kept++
		}
	}
	r.look()
	return nil
}

func (r *Recorder) run() {
	defer close(r.done)
	poll := time.NewTicker(pollEvery)
	defer poll.Stop()
	var nextLook, nextFlush time.Time
	for {
		select {
		case <-r.quit:
			r.drain()
			r.look()
			return
		case now := <-poll.C:
			r.drain()
			if r.wantsLook() && !now.Before(nextLook) {
				started := time.Now()
				r.look()
				nextLook = now.Add(min(max(lookEvery, 200*time.Since(started)), lookAtLeast))
			}
			if now.After(nextFlush) {
				r.flush()
				nextFlush = now.Add(flushEvery)
			}
		}
	}
}

// drain takes in the events that wait.
func (r *Recorder) drain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.kernel.Drain(func(e kernel.Event) {
		// Of other pid namespaces, only what is in our network is of interest.
		if e.Kind >= kernel.Opened && e.ID.PID == 0 && e.Opener.PID == 0 && e.NetNS != r.finder.OwnNetNS() &&
			r.table.open[ends{e.NetNS, e.Local, e.Remote}.key()] == nil {
			return
		}
		r.table.add(e)
	}); err != nil {
		r.fail(err)
	}
	if lost, err := r.kernel.Lost(); err == nil && lost > r.lost {
		r.logger.Warn("recorded events were lost: they came faster than they were read", "events", lost-r.lost)
		r.lost = lost
	}
}

// translate notes how other hosts know a connection of another network namespace.
func (r *Recorder) translate(c *connection) {
	if c.netns == r.finder.OwnNetNS() || isLocal(c) {
		return
	}
	if local, remote, ok := r.finder.Outside(c.local, c.remote); ok {
		c.outside = ends{r.finder.OwnNetNS(), local, remote}
	}
}

// fail logs a failure once.
func (r *Recorder) fail(err error) {
	if err != nil && r.failed == nil {
		r.logger.Error("recording failed", "err", err)
	}
	r.failed = err
}

// flush writes what is buffered, and begins a time slice where that is due.
func (r *Recorder) flush() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.writeRest(r.shares.begin(time.Now()), time.Now())
	if err := r.log.flush(); err != nil {
		r.fail(err)
	}
}

// wantsLook reports whether connections wait to be looked at, or to be written
// after a look.
func (r *Recorder) wantsLook() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.table.ended)+len(r.table.fresh) > 0
}

// look finds the processes that hold connections, and what those opened here
// share with others; then it writes what had ended before.
func (r *Recorder) look() {
	r.mu.Lock()
	ended := r.table.takeEnded()
	r.mu.Unlock()
	started := time.Now()
	s, err := r.finder.Snapshot()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.fail(err)
	} else {
		r.noteHolders(s)
		r.looked = uint64(started.Sub(r.boot))
		r.noteOpen(s)
	}
	r.writeEnded(ended, time.Now())
}

// noteHolders adds what a snapshot shows of connections with other machines.
func (r *Recorder) noteHolders(s *walk.Snapshot) {
	seen := map[*connection]bool{}
	s.EachConnection(func(k walk.Socket, holders []walk.Process) {
		at := ends{k.NetNS, k.Local, k.Remote}
		c := r.table.open[at.key()]
		if c == nil && k.State != diag.Established && k.State != closeWait {
			return // its end was reported, it is only not gone yet
		}
		if c == nil {
			// Older than the recorder, or opened by the other side since the last
			// look; the exact time comes with its end.
			if len(r.table.open) >= maxConnections {
				r.table.forgotten++
				return
			}
			c = r.table.newConnection(at)
			c.direction, c.started, c.about = s.Direction(k, r.finder.Ephemeral()), r.looked, true
		}
		seen[c] = true
		for _, h := range holders {
			if p := r.table.byPID[h.PID]; p != nil && p.id.Start == h.Start {
				c.addHolder(p)
				if c.uid == 0 {
					c.uid = p.uid
				}
			}
		}
	})
	r.endMissing(seen)
}

// closeWait is the state in which only the other side has closed.
const closeWait = 8

// maxMissing is how many looks a connection may be missing from.
const maxMissing = 3

// endMissing ends connections that are not there any more and whose end was not
// reported.
func (r *Recorder) endMissing(seen map[*connection]bool) {
	for _, c := range r.table.open {
		if seen[c] || isLocal(c) {
			c.missing = 0
		} else if c.missing++; c.missing > maxMissing {
			r.table.end(c, r.looked)
		}
	}
}

// noteOpen walks for connections that were not looked at: first for those that
// were opened here.
func (r *Recorder) noteOpen(s *walk.Snapshot) {
	fresh := r.table.fresh
	r.table.fresh = nil
	slices.SortFunc(fresh, func(a, b *connection) int { return int(a.direction) - int(b.direction) })
	walks := 0
	for _, c := range fresh {
		k, ok := s.Connection(c.netns, c.local, c.remote)
		if !ok || walks >= maxWalks {
			continue // it has ended, or its holders alone are known
		}
		walks++
		for _, st := range r.finder.Behind(s, k) {
			p := r.table.byPID[st.PID]
			if p != nil && st.Via != walk.Owner && st.Via != walk.ParentOf {
				c.path = append(c.path, member{p, string(st.Via), st.From})
			}
		}
	}
}

func (r *Recorder) at(ns uint64) int64 {
	if ns == 0 {
		return 0
	}
	return r.boot.Add(time.Duration(ns)).UnixMilli()
}

// writeEnded writes connections that have ended; the caller holds the lock.
func (r *Recorder) writeEnded(ended []*connection, now time.Time) {
	r.writeRest(r.shares.begin(now), now)
	for _, c := range ended {
		if !isLocal(c) {
			r.writeConnection(c, now)
		}
		r.table.written(c)
	}
}

func (r *Recorder) writeConnection(c *connection, now time.Time) {
	if e := r.endingOf(c); !r.shares.allow(c.uid, e) {
		r.shares.summarize(c.uid, e)
		return
	}
	if err := r.log.closeFull(now); err != nil {
		r.fail(err)
	}
	var lines []byte // of one segment
	for _, p := range mentioned(c) {
		if name := nameOf(p.id); !r.log.known[name] {
			lines = append(lines, line{Process: r.lineOfProcess(p)}.encode()...)
			r.log.known[name] = true
		}
	}
	l := r.lineOf(c)
	lines = append(lines, line{Connection: &l}.encode()...)
	if err := r.log.write(lines, now); err != nil {
		r.fail(err)
	}
	r.shares.charge(c.uid, len(lines))
}

func (r *Recorder) writeRest(rest []*summaryLine, now time.Time) {
	for _, l := range rest {
		if err := errors.Join(r.log.closeFull(now), r.log.write(line{Summary: l}.encode(), now)); err != nil {
			r.fail(err)
		}
	}
}

// mentioned are the processes of a connection's line, and their ancestors first.
func mentioned(c *connection) []*process {
	var out []*process
	seen := map[*process]bool{}
	add := func(p *process) {
		from := len(out)
		for n := 0; p != nil && !seen[p] && n < maxAncestors; n++ {
			seen[p] = true
			out = append(out, p)
			p = p.by
		}
		for i, j := from, len(out)-1; i < j; i, j = i+1, j-1 {
			out[i], out[j] = out[j], out[i]
		}
	}
	for _, p := range c.holders {
		add(p)
	}
	for _, m := range c.path {
		add(m.p)
	}
	for _, o := range originsOf(c) {
		add(o.p)
	}
	return out
}

func (r *Recorder) endingOf(c *connection) ending {
	e := ending{Local: c.local, Remote: c.remote, Started: r.at(c.started), Ended: r.at(c.ended), Direction: uint8(c.direction)}
	if c.netns != r.finder.OwnNetNS() {
		e.NetNS = c.netns
	}
	e.OutLocal, e.OutRemote = c.outside.local, c.outside.remote
	return e
}

func (r *Recorder) lineOf(c *connection) connectionLine {
	l := connectionLine{ending: r.endingOf(c), UID: c.uid, Blind: len(c.holders) == 0}
	for _, p := range c.holders {
		l.Holders = append(l.Holders, nameOf(p.id))
	}
	for _, m := range c.path {
		l.Path = append(l.Path, pathLine{nameOf(m.p.id), m.via, m.from})
	}
	for _, o := range originsOf(c) {
		l.Origins = append(l.Origins, originLine{r.endingOf(o.c), nameOf(o.p.id), o.why})
	}
	return l
}

func (r *Recorder) lineOfProcess(p *process) *processLine {
	l := &processLine{
		ID: nameOf(p.id), Born: r.at(p.born), Ended: r.at(p.ended), UID: p.uid, Name: p.name,
		Terminal: p.terminal, Cgroup: p.cgroup, Argument: p.argument,
	}
	if p.by != nil {
		l.By = nameOf(p.by.id)
	}
	if p.login != none {
		l.Login = &p.login
	}
	if p.session != none {
		l.Session = &p.session
	}
	return l
}
