//go:build linux

package walk

import "slices"

// Relation is why a process belongs to a closure.
type Relation string

// The relations of the paper's walk.
const (
	Owner     Relation = "holds the socket"
	ParentOf  Relation = "parent"
	PipeWith  Relation = "pipe"
	UnixWith  Relation = "unix"
	LocalWith Relation = "tcp"
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
	members   map[int32]bool
	ends      []int32
}

// Has reports whether a process is in the closure.
func (c *Closure) Has(pid int32) bool { return c.members[pid] }

// source answers what a snapshot does not hold.
type source interface {
	// parentOf is the parent of a process without sockets and pipes; 0 if it
	// has none or has ended.
	parentOf(pid int32) int32
	// unixPeer is the inode at the other end of a UNIX socket. Whether that end
	// belongs to a hub, to which every process is connected, is decided here.
	unixPeer(pid int32, inode uint64) (peer uint64, ok bool)
}

// computeClosure starts at the holders of one object. It follows parents up to
// PID 1, and every pipe, UNIX socket and local TCP connection of every process
// found. Processes in ends are not followed sideways: PID 1 is connected to all
// it started, and the daemon to all it asks, which does not show who passes
// data to whom.
func (s *Snapshot) computeClosure(start Object, src source, limit int, ends ...int32) Closure {
	c := Closure{members: map[int32]bool{}, ends: ends}
	add := func(st Step) {
		switch {
		case st.PID <= 0 || c.members[st.PID]:
		case len(c.Steps) >= limit:
			c.Truncated = true
		default:
			c.members[st.PID] = true
			c.Steps = append(c.Steps, st)
		}
	}
	for _, pid := range sortPIDs(s.Holders(start)) {
		add(Step{PID: pid, Via: Owner, Inode: start.Inode})
	}
	resolved := map[Object]bool{}
	for next := 0; next < len(c.Steps); next++ { // grows during the loop
		pid := c.Steps[next].PID
		p, ok := s.processes[pid]
		if !ok {
			p.Parent = src.parentOf(pid)
		}
		add(Step{PID: p.Parent, Via: ParentOf, From: pid})
		if slices.Contains(ends, pid) {
			continue
		}
		for _, d := range s.objectsOf(pid) {
			if !resolved[d.object] {
				resolved[d.object] = true
				s.addSharers(pid, d.object, src, add)
			}
		}
	}
	return c
}

// addSharers adds the processes at the other end of an object.
func (s *Snapshot) addSharers(pid int32, o Object, src source, add func(Step)) {
	via, other := PipeWith, o
	if !o.Pipe {
		other.Inode = 0
		if k, isTCP := s.sockets[o.Inode]; isTCP {
			if peer, ok := s.findPeer(k); ok {
				via, other.Inode = LocalWith, peer.Inode
			}
		} else if peer, ok := src.unixPeer(pid, o.Inode); ok {
			via, other.Inode = UnixWith, peer
		}
		if other.Inode == 0 {
			return
		}
	}
	for _, holder := range sortPIDs(s.Holders(other)) {
		if holder != pid {
			add(Step{PID: holder, Via: via, From: pid, Inode: other.Inode})
		}
	}
}

func sortPIDs(pids []int32) []int32 {
	slices.Sort(pids)
	return slices.Compact(pids)
}
