//go:build linux

package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/trace/kernel"
	"dragnet/trace/record"
	"dragnet/trace/walk"
)

// ErrUnknown means that no such connection is recorded for the time asked about.
var ErrUnknown = errors.New("no such connection is recorded")

const inbound = uint8(kernel.Inbound)

// skew is by how much clocks of two hosts, and what a log calls the time of a
// connection, may differ.
const skew = 2 * time.Minute

// Past is a connection of the past.
type Past struct {
	Local, Remote  netip.AddrPort
	Started, Ended time.Time // the zero Time: not known, or not over
	UID            uint32
	Direction      kernel.Direction
	Processes      []record.ProcessRecord
	Origins        []Origin
	// Summarized says that only the user is known: he opened more connections
	// than are recorded one by one.
	Summarized bool
	// Blind says that no process was seen to hold it.
	Blind bool
}

// Origin is a connection from which a connection of the past may have come.
type Origin struct {
	walk.Inbound
	Why string
	// At is a time at which it was open.
	At time.Time
}

// Find looks up the connection between two addresses that was open at a time, or
// the one nearest to it within two minutes. Local is an address of this machine.
func (r *Recorder) Find(ctx context.Context, local, remote netip.AddrPort, at time.Time) (Past, error) {
	q := query{local: local, remote: remote, at: at.UnixMilli(), processes: map[processName]*processLine{}}
	r.mu.Lock()
	r.findInMemory(&q)
	flushed := r.log.flush()
	r.mu.Unlock()
	if flushed != nil {
		return Past{}, flushed
	}
	if q.best == nil || q.distance() > 0 {
		if err := q.findOnDisk(ctx, r.dir); err != nil {
			return Past{}, err
		}
	}
	switch {
	case q.best != nil && q.distance() <= skew.Milliseconds():
		return r.past(&q), nil
	case q.summary != nil:
		return Past{Local: local, Remote: remote, UID: q.summary.UID, Summarized: true, Started: time.UnixMilli(q.summary.From), Ended: time.UnixMilli(q.summary.To)}, nil
	}
	return Past{}, ErrUnknown
}

// Origins are the connections with which processes of the present began: those
// that they, or who started them, had then.
func (r *Recorder) Origins(pids []int32) (out []Origin) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, pid := range pids {
		p := r.table.byPID[pid]
		if p == nil {
			continue
		}
		behind := search{seen: map[*connection]bool{}}
		behind.addStarters(p, maxCrossed)
		for _, o := range behind.found {
			known := slices.ContainsFunc(out, func(have Origin) bool { return have.Local == o.c.local && have.Remote == o.c.remote })
			if known || o.c.direction == kernel.Outbound {
				continue
			}
			e := r.endingOf(o.c)
			out = append(out, Origin{r.inboundOf(e, o.p.id.PID), o.why, commonTime(&ending{Started: r.at(p.born)}, &e)})
		}
	}
	return out
}

func (r *Recorder) inboundOf(e ending, pid int32) walk.Inbound {
	in := walk.Inbound{PID: pid}
	in.Local, in.Remote, in.Direction, in.NetNS = e.Local, e.Remote, kernel.Direction(e.Direction), e.NetNS
	if e.OutLocal.IsValid() {
		in.Local, in.Remote, in.NetNS = e.OutLocal, e.OutRemote, 0
	}
	if in.NetNS == 0 {
		in.NetNS = r.finder.OwnNetNS()
	}
	return in
}

// query is a search and what it has found so far.
type query struct {
	local, remote netip.AddrPort
	at            int64
	best          *connectionLine
	processes     map[processName]*processLine // of the segment of best
	summary       *summaryLine
}

func (q *query) matches(e *ending) bool {
	if e.NetNS == 0 {
		return e.Local == q.local && e.Remote == q.remote
	}
	return e.OutLocal == q.local && e.OutRemote == q.remote
}

func distanceOf(e *ending, at int64) int64 {
	switch {
	case at < e.Started:
		return e.Started - at
	case e.Ended != 0 && at > e.Ended:
		return at - e.Ended
	}
	return 0
}

func (q *query) distance() int64 { return distanceOf(&q.best.ending, q.at) }

// take keeps a connection if it is nearer than the one before.
func (q *query) take(l *connectionLine) bool {
	if !q.matches(&l.ending) || q.best != nil && distanceOf(&l.ending, q.at) >= q.distance() {
		return false
	}
	q.best = l
	return true
}

func (q *query) takeSummary(l *summaryLine) {
	if q.at < l.From-skew.Milliseconds() || q.at > l.To+skew.Milliseconds() || l.Remote.IsValid() && l.Remote != q.remote.Addr() {
		return
	}
	// The side that opened it has the port of the user's own.
	if l.has(q.local.Port()) || l.has(q.remote.Port()) {
		q.summary = l
	}
}

func (r *Recorder) findInMemory(q *query) {
	see := func(c *connection) {
		asked := ends{r.finder.OwnNetNS(), q.local, q.remote}
		if c.ends != asked && c.outside != asked {
			return
		}
		l := r.lineOf(c)
		if !q.take(&l) {
			return
		}
		clear(q.processes)
		for _, p := range mentioned(c) {
			q.processes[nameOf(p.id)] = r.lineOfProcess(p)
		}
	}
	for _, c := range r.table.open {
		see(c)
	}
	for _, c := range r.table.ended {
		see(c)
	}
	for _, l := range r.shares.rest {
		q.takeSummary(l)
	}
}

// findOnDisk reads the segments in which the connection may be. It was written
// when it had ended, so in one that was written to after the time asked about.
func (q *query) findOnDisk(ctx context.Context, dir string) error {
	list, err := listSegments(dir)
	if err != nil {
		return err
	}
	port := fmt.Appendf(nil, ":%d\"", q.remote.Port())
	for _, s := range list {
		if !s.last.IsZero() && s.last.UnixMilli() < q.at-skew.Milliseconds() {
			continue
		}
		processes := map[processName]*processLine{}
		err := s.read(ctx, func(b []byte) error {
			switch {
			case bytes.HasPrefix(b, []byte(`{"p":`)):
				l, err := parseLine(b)
				if err == nil && l.Process != nil {
					processes[l.Process.ID] = l.Process
				}
			case bytes.HasPrefix(b, []byte(`{"s":`)):
				if l, err := parseLine(b); err == nil && l.Summary != nil {
					q.takeSummary(l.Summary)
				}
			case bytes.Contains(b, port):
				if l, err := parseLine(b); err == nil && l.Connection != nil && q.take(l.Connection) {
					q.processes = processes
					if q.distance() == 0 {
						return errFound
					}
				}
			}
			return nil
		})
		if errors.Is(err, errFound) {
			return nil
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// past turns what was found into what a record holds.
func (r *Recorder) past(q *query) Past {
	l := q.best
	p := Past{Local: l.Local, Remote: l.Remote, UID: l.UID, Direction: kernel.Direction(l.Direction), Blind: l.Blind, Started: asTime(l.Started), Ended: asTime(l.Ended)}
	add := func(name processName, via string, from int32) {
		if !slices.ContainsFunc(p.Processes, func(have record.ProcessRecord) bool { return have.PID == name.pid() }) {
			p.Processes = append(p.Processes, r.recorded(q, name, via, from))
		}
	}
	for _, h := range l.Holders {
		add(h, "held the socket", 0)
	}
	for _, m := range l.Path {
		add(m.ID, m.Via, m.From)
	}
	for _, h := range l.Holders {
		for n := 0; n < maxAncestors; n++ {
			known := q.processes[h]
			if known == nil || known.By == "" {
				break
			}
			add(known.By, "started", h.pid())
			h = known.By
		}
	}
	for _, o := range l.Origins {
		add(o.ID, o.Why, 0)
		p.Origins = append(p.Origins, Origin{r.inboundOf(o.ending, o.ID.pid()), o.Why, commonTime(&l.ending, &o.ending)})
		p.addSocket(o)
	}
	return p
}

// addSocket lists an origin with the process that held it.
func (p *Past) addSocket(o originLine) {
	for i := range p.Processes {
		if p.Processes[i].PID == o.ID.pid() {
			p.Processes[i].Sockets = append(p.Processes[i].Sockets,
				record.SocketRecord{Local: o.Local, Remote: o.Remote, State: "recorded", Direction: kernel.Direction(o.Direction).String()})
		}
	}
}

func (r *Recorder) recorded(q *query, name processName, via string, from int32) record.ProcessRecord {
	p := record.ProcessRecord{PID: name.pid(), Via: via, From: from, Gone: true}
	l := q.processes[name]
	if l == nil {
		return p
	}
	p.Parent, p.Name, p.UID, p.EUID, p.Started = l.By.pid(), l.Name, l.UID, l.UID, asTime(l.Born)
	p.Terminal, p.Cgroup, p.Arguments, p.LoginUID, p.SessionID = l.Terminal, l.Cgroup, l.Argument, l.Login, l.Session
	p.Ended, p.Gone = asTime(l.Ended), l.Ended != 0
	p.Container, p.Unit = walk.ContainerAndUnit(l.Cgroup)
	return p
}

// commonTime is a time at which the origin was open, the last one that does not
// follow the end of what came from it.
func commonTime(of, origin *ending) time.Time {
	at := of.Started
	if origin.Ended != 0 && origin.Ended < at {
		at = origin.Ended
	}
	return asTime(max(at, origin.Started))
}

func asTime(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}
