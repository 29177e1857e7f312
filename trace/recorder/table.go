//go:build linux

package recorder

import (
	"net/netip"
	"slices"

	"dragnet/trace/kernel"
)

// Bounds of the table. What is beyond them is forgotten, oldest first, and
// counted.
const (
	maxProcesses   = 1 << 17
	maxConnections = 1 << 17
	maxHeld        = 256 // connections of one process
	maxHolders     = 16  // processes of one connection
	maxAncestors   = 64
	maxFresh       = 1024
)

// none is an audit number that is not set.
const none = 1<<32 - 1

// process is one process, kept as long as it, or one that descends from it, may
// still open connections.
type process struct {
	id       kernel.ProcessID // Start in clock ticks
	by       *process         // who started it, even if that has ended since
	kept     int              // processes in the table that it started
	uid      uint32
	login    uint32
	session  uint32
	name     string
	terminal string
	cgroup   string
	argument []string
	born     uint64 // ns since boot
	ended    uint64 // 0 while it runs
	open     int    // connections among held that have not ended
	held     []*connection
}

// ends identifies a connection while it is open.
type ends struct {
	netns         uint32
	local, remote netip.AddrPort
}

// endsKey is ends without pointers, so that a map of many is cheap to hash and to
// collect.
type endsKey struct {
	netns         uint32
	localPort     uint16
	remotePort    uint16
	local, remote [16]byte
}

func (e ends) key() endsKey {
	return endsKey{e.netns, e.local.Port(), e.remote.Port(), e.local.Addr().As16(), e.remote.Addr().As16()}
}

// connection is one TCP connection.
type connection struct {
	ends
	direction kernel.Direction
	uid       uint32
	started   uint64 // ns since boot
	about     bool   // started is when it was first seen
	ended     uint64 // 0 while it is open
	holders   []*process
	peer      *connection // its other end, if that is on this machine
	outside   ends        // as other hosts know it, if its addresses are translated
	missing   int         // looks in a row that did not see it
	// path are processes with which a holder shared pipes or sockets when they
	// were looked for.
	path []member
}

// member is a process on the path of the data.
type member struct {
	p    *process
	via  string
	from int32
}

// table is what is known of the present and of what the present descends from.
type table struct {
	processes map[kernel.ProcessID]*process
	byPID     map[int32]*process // of those that run
	open      map[endsKey]*connection
	ended     []*connection // to be written
	fresh     []*connection // not looked at yet
	// justEnded are connections within this machine, whose other end may be
	// reported later: those since the last look, and those before.
	justEnded [2]map[endsKey]*connection
	forgotten uint64
	made      func(*connection) // is told each new connection; may be nil
}

func newTable() *table {
	return &table{processes: map[kernel.ProcessID]*process{}, byPID: map[int32]*process{}, open: map[endsKey]*connection{}}
}

// ticks turns the start of a process into /proc's unit, in which it is known of
// those that started earlier than the recorder.
func ticks(id kernel.ProcessID) kernel.ProcessID {
	id.Start /= 1e9 / 100
	return id
}

// add takes an event in.
func (t *table) add(e kernel.Event) {
	switch e.Kind {
	case kernel.Forked, kernel.Executed:
		t.addProcess(e)
	case kernel.Exited:
		if p := t.processes[ticks(e.ID)]; p != nil {
			p.ended = e.Time
			if t.byPID[p.id.PID] == p {
				delete(t.byPID, p.id.PID)
			}
			t.release(p)
		}
	case kernel.Opened, kernel.Closed:
		t.addConnection(e)
	}
}

func (t *table) addProcess(e kernel.Event) {
	id := ticks(e.ID)
	p := t.processes[id]
	if p == nil {
		if len(t.processes) >= maxProcesses {
			t.forgotten++
			return
		}
		p = &process{id: id, born: e.Time, login: none, session: none}
		if by := t.processes[ticks(e.Parent)]; by != nil {
			p.by, p.terminal, p.cgroup, p.argument = by, by.terminal, by.cgroup, by.argument
			by.kept++
		}
		t.processes[id] = p
		t.byPID[id.PID] = p
	}
	p.uid, p.login, p.session, p.name = e.UID, e.Login, e.Session, e.Name
	if e.Kind == kernel.Executed {
		p.terminal, p.cgroup, p.argument = e.Terminal, e.Cgroup, e.Arguments
	}
}

func (t *table) addConnection(e kernel.Event) {
	k := ends{e.NetNS, e.Local, e.Remote}
	c := t.open[k.key()]
	if c != nil && c.started != e.Started && !c.about {
		t.end(c, e.Time) // its end was lost
		c = nil
	}
	if c == nil {
		if len(t.open) >= maxConnections {
			t.forgotten++
			return
		}
		c = t.newConnection(k)
	}
	c.direction, c.uid, c.started, c.about = e.Direction, e.UID, e.Started, false
	for _, id := range []kernel.ProcessID{e.Opener, e.ID} {
		if p := t.processes[ticks(id)]; p != nil && id.PID != 0 {
			c.addHolder(p)
		}
	}
	if e.Kind == kernel.Closed {
		t.end(c, e.Time)
	}
}

// newConnection adds a connection and joins it with its other end.
func (t *table) newConnection(k ends) *connection {
	c := &connection{ends: k}
	t.open[k.key()] = c
	if t.made != nil {
		t.made(c)
	}
	if !isLocal(c) && len(t.fresh) < maxFresh {
		t.fresh = append(t.fresh, c)
	}
	other := ends{k.netns, k.remote, k.local}
	if c.outside.local.IsValid() {
		other = ends{c.outside.netns, c.outside.remote, c.outside.local}
	}
	at := other.key()
	for _, known := range []map[endsKey]*connection{t.open, t.justEnded[0], t.justEnded[1]} {
		if p := known[at]; p != nil && p != c && p.peer == nil {
			c.peer, p.peer = p, c
			break
		}
	}
	return c
}

func (c *connection) addHolder(p *process) {
	if len(c.holders) >= maxHolders || slices.Contains(c.holders, p) {
		return
	}
	c.holders = append(c.holders, p)
	if len(p.held) >= maxHeld {
		p.forgetHeld()
	}
	p.held = append(p.held, c)
	if c.ended == 0 {
		p.open++
	}
}

// forgetHeld drops a quarter of the connections, of those that have ended and the
// oldest first; where none has, the oldest one. Dropping one for each new one would
// move all others every time.
func (p *process) forgetHeld() {
	drop, kept := maxHeld/4, p.held[:0]
	for _, h := range p.held {
		if drop > 0 && h.ended != 0 {
			drop--
			continue
		}
		kept = append(kept, h)
	}
	if drop == maxHeld/4 {
		kept = slices.Delete(kept, 0, 1)
		p.open--
	}
	clear(p.held[len(kept):])
	p.held = kept
}

// end notes that a connection has ended; it is written after the next look at the
// processes.
func (t *table) end(c *connection, at uint64) {
	c.ended = at
	delete(t.open, c.ends.key())
	for _, p := range c.holders {
		for _, h := range slices.Backward(p.held) {
			if h == c {
				p.open--
				break
			}
		}
	}
	t.ended = append(t.ended, c)
	if isLocal(c) {
		if t.justEnded[0] == nil {
			t.justEnded[0] = map[endsKey]*connection{}
		}
		t.justEnded[0][c.ends.key()] = c
	}
}

// release forgets a process that has ended, and started none that is kept.
func (t *table) release(p *process) {
	for p != nil && p.ended != 0 && p.kept == 0 && p.open <= 0 {
		if t.processes[p.id] != p {
			return
		}
		delete(t.processes, p.id)
		if p = p.by; p != nil {
			p.kept--
		}
	}
}

// takeEnded removes the connections that have ended, oldest first.
func (t *table) takeEnded() []*connection {
	out := t.ended
	t.ended = nil
	t.justEnded = [2]map[endsKey]*connection{nil, t.justEnded[0]}
	return out
}

// written releases what was kept for the connection only.
func (t *table) written(c *connection) {
	for _, p := range c.holders {
		t.release(p)
	}
}
