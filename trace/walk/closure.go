//go:build linux

package walk

import (
	"slices"

	"dragnet/trace/kernel"
)

// Relation is why a process belongs to a closure.
type Relation string

// The relations of the paper's walk.
const (
	Owner     Relation = "holds the socket"
	ParentOf  Relation = "parent"
	PipeWith  Relation = "pipe"
	UnixWith  Relation = "unix"
	LocalWith Relation = "tcp"
	// RingWith holds a socket as a registered file of io_uring, FlightWith may
	// receive it by a message of a UNIX socket (SCM_RIGHTS) that waits for it.
	RingWith   Relation = "holds the socket in io_uring"
	FlightWith Relation = "may receive the socket"
)

// Step is one process of a closure and how it was reached.
type Step struct {
	PID int32
	Via Relation
	// From is the process it was reached from; 0 for an owner.
	From int32
	// Inode is what the two share; 0 for a parent.
	Inode uint64
}

// Closure is the set of processes behind a socket, in the order found.
type Closure struct {
	Steps []Step
	// Truncated says that more than the limit was found: evidence of a fork
	// bomb or of a hub that is not on the list, and a warning that steps are
	// missing.
	Truncated bool
	members   map[int32]flows
	ends      []int32
}

// Has reports whether a process is in the closure.
func (c *Closure) Has(pid int32) bool { return c.members[pid] != 0 }

// flows are the directions in which data may pass between a process and the
// connection. Pipes have one: what writes into a pipe from which a process
// reads may have caused what that process sends, and what reads from a pipe
// into which it writes may take away what it receives. Two processes that only
// write into the same log are joined by neither.
type flows uint8

const (
	toSocket   flows = 1 << iota // from the process to the connection
	fromSocket                   // from the connection to the process
)

// source answers what a snapshot does not hold.
type source interface {
	// parentOf is the parent of a process without sockets and pipes; 0 if it
	// has none or has ended.
	parentOf(pid int32) int32
	// unixPeer is the inode at the other end of a UNIX socket. Whether that end
	// belongs to a hub, to which every process is connected, is decided here.
	unixPeer(pid int32, inode uint64) (peer uint64, ok bool)
	// awaitsLogin reports whether two processes are an SSH server and its child
	// that serves a connection nobody has logged in on yet.
	awaitsLogin(server, child int32) bool
}

// closing is a closure while it is computed.
type closing struct {
	*Closure
	s        *Snapshot
	src      source
	limit    int
	queue    []reached
	resolved map[resolved]bool
}

// reached is a process whose neighbours are still to be found.
type reached struct {
	pid int32
	way flows
}

// resolved is an object whose other end was found for one direction.
type resolved struct {
	object Object
	way    flows
}

// computeClosure starts at the holders of one object. It follows parents up to
// PID 1, and every pipe, UNIX socket and local TCP connection of every process
// found. Processes in ends are not followed, but for the parents of a holder: PID
// 1 is connected to all it started, and the daemon to all it asks, which does not
// show who passes data to whom.
func (s *Snapshot) computeClosure(start Object, src source, limit int, ends ...int32) Closure {
	c := closing{Closure: &Closure{members: map[int32]flows{}, ends: ends}, s: s, src: src, limit: limit, resolved: map[resolved]bool{}}
	owners := s.Holders(start)
	for _, pid := range owners {
		via := s.ownerRelation(pid, start)
		c.add(Step{PID: pid, Via: via, Inode: start.Inode}, toSocket)
		c.add(Step{PID: pid, Via: via, Inode: start.Inode}, fromSocket)
	}
	for len(c.queue) > 0 {
		next := c.queue[0]
		c.queue = c.queue[1:]
		end := slices.Contains(ends, next.pid)
		if end && !slices.Contains(owners, next.pid) {
			continue
		}
		p, ok := s.processes[next.pid]
		if !ok {
			p.Parent = src.parentOf(next.pid)
		}
		c.add(Step{PID: p.Parent, Via: ParentOf, From: next.pid}, next.way)
		if end {
			continue
		}
		for _, d := range s.objectsOf(next.pid) {
			c.addSharers(d, next.way)
		}
	}
	return *c.Closure
}

// add adds a process, or another direction to one that is known.
func (c *closing) add(st Step, way flows) {
	known := c.members[st.PID]
	switch {
	case st.PID <= 0 || known&way != 0:
		return
	case known == 0 && len(c.Steps) >= c.limit:
		c.Truncated = true
		return
	case known == 0:
		c.Steps = append(c.Steps, st)
	}
	c.members[st.PID] |= way
	c.queue = append(c.queue, reached{st.PID, way})
}

// addSharers adds the processes at the other end of what a process holds, in
// the direction in which it was reached itself.
func (c *closing) addSharers(d descriptor, way flows) {
	mine, theirs := uint8(kernel.AccessRead), uint8(kernel.AccessWrite)
	if way == fromSocket {
		mine, theirs = theirs, mine
	}
	this := resolved{d.object, way}
	if d.access&mine == 0 || c.resolved[this] {
		return
	}
	c.resolved[this] = true
	via, other := PipeWith, d.object
	if !d.object.Pipe {
		if via, other.Inode = c.otherEnd(d); other.Inode == 0 {
			return
		}
	}
	for _, holder := range c.s.holders(other, theirs) {
		if holder != d.pid && !(d.object.Pipe && c.src.awaitsLogin(d.pid, holder)) {
			c.add(Step{PID: holder, Via: via, From: d.pid, Inode: other.Inode}, way)
		}
	}
}

// otherEnd is the other end of a socket on this machine; 0 if there is none.
func (c *closing) otherEnd(d descriptor) (Relation, uint64) {
	if k, isTCP := c.s.sockets[d.object.Inode]; isTCP {
		peer, _ := c.s.findPeer(k)
		return LocalWith, peer.Inode
	}
	if peer, ok := c.src.unixPeer(d.pid, d.object.Inode); ok {
		return UnixWith, peer
	}
	return UnixWith, 0
}
