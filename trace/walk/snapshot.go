//go:build linux

// Package walk finds which processes are behind a socket: its owners, their
// ancestors, and the processes that share a pipe, a UNIX socket or a local TCP
// connection with them, until no more are found (Carrier and Shields 2002,
// section IV).
//
// It works in two steps. A Snapshot lists all sockets and pipes of all
// processes, taken by an eBPF program or, where that may not be loaded, from
// /proc; both give the same. The closure is then computed in memory, where the
// paper's prototype searched all descriptors again for every pipe it met.
//
// Not guaranteed: processes that pass data through files, shared memory or a
// message broker are not found, which the end of a walk says. A snapshot is not one
// instant: what opened or closed during the pass may be in it or not.
package walk

import (
	"net/netip"
	"slices"

	"dragnet/trace/diag"
	"dragnet/trace/kernel"

	"golang.org/x/sys/unix"
)

// Process is what a snapshot holds about a process. A PID alone does not
// identify one, since it is reused; a PID with its start time does.
type Process struct {
	PID, Parent int32
	// Start is in clock ticks (1/100 s) since boot, as in /proc/PID/stat.
	Start uint64
	// NetNS is the network namespace, as the inode of /proc/PID/ns/net.
	NetNS uint32
}

// Object is a socket or a pipe: what several processes can hold. Its
// descriptors in all processes show the same device and inode.
type Object struct {
	Dev, Inode uint64
	Pipe       bool // else a socket
}

// Socket is a TCP socket that some process holds.
type Socket struct {
	Inode         uint64
	NetNS         uint32
	Local, Remote netip.AddrPort
	State         uint8
	// Direction is what the kernel noted when the connection was made;
	// Unknown for connections older than the agent and without eBPF.
	Direction kernel.Direction
}

// descriptor is one entry of one process's table.
type descriptor struct {
	object Object
	pid    int32
	next   int32 // the next descriptor of the same object; -1 ends
	access uint8 // kernel.AccessRead, kernel.AccessWrite; a socket has both
}

// span is the part of Snapshot.descriptors that belongs to one process.
type span struct{ from, to, pipes int32 }

type ends struct{ local, remote netip.AddrPort }

// Snapshot is the state of the machine at one time. It is not changed once
// taken.
type Snapshot struct {
	processes   map[int32]Process
	descriptors []descriptor // those of one process are together
	spans       map[int32]span
	first       map[Object]int32 // head of the list of an object's descriptors
	sockets     map[uint64]Socket
	byEnds      map[ends][]uint64
	listening   map[uint16][]uint64 // by port
	hidden      map[int32][]hidden  // what processes hold other than by descriptors
	denied      int                 // processes whose descriptors may not be read
	unheld      []diag.ListedSocket // connections that no process is seen to hold
	foreign     map[uint32]bool     // network namespaces that users made
	units       map[uint64]unixEnd  // UNIX sockets, as the kernel program saw them
	bounded     map[int32]int       // pipes beyond maxPipes, by process
	// outside is Finder.Outside, nil where nothing is translated.
	outside func(local, remote netip.AddrPort) (outLocal, outRemote netip.AddrPort, ok bool)
}

// unixEnd is what the kernel program says about a UNIX socket.
type unixEnd struct {
	peer  uint64 // inode of the other end; 0 for none
	netns uint32 // of the socket, which its process may have left
}

// maxPipes bounds what is kept of the pipes of one process: a user may have
// hundreds of thousands of ends open.
const maxPipes = 4096

// hidden is a socket that a process holds without a descriptor.
type hidden struct {
	descriptor
	via Relation
}

func newSnapshot(size int) *Snapshot {
	return &Snapshot{
		processes:   make(map[int32]Process, size/8),
		descriptors: make([]descriptor, 0, size),
		spans:       make(map[int32]span, size/8),
		first:       make(map[Object]int32, size),
		sockets:     map[uint64]Socket{},
		byEnds:      map[ends][]uint64{},
		listening:   map[uint16][]uint64{},
		hidden:      map[int32][]hidden{},
		foreign:     map[uint32]bool{},
		units:       map[uint64]unixEnd{},
		bounded:     map[int32]int{},
	}
}

// addObject records that a process holds an object, and how it is open; calls
// for one process must be consecutive.
func (s *Snapshot) addObject(p Process, o Object, access uint8) {
	if o.Pipe {
		if sp := s.spans[p.PID]; sp.pipes >= maxPipes {
			s.bounded[p.PID]++
			return
		}
	}
	at := int32(len(s.descriptors))
	if n := len(s.descriptors); n > 0 && s.descriptors[n-1].pid == p.PID {
		sp := s.spans[p.PID]
		sp.to = at + 1
		s.spans[p.PID] = sp
	} else {
		s.processes[p.PID] = p
		s.spans[p.PID] = span{from: at, to: at + 1}
	}
	if o.Pipe {
		sp := s.spans[p.PID]
		sp.pipes++
		s.spans[p.PID] = sp
	}
	next, ok := s.first[o]
	if !ok {
		next = -1
	}
	s.first[o] = at
	s.descriptors = append(s.descriptors, descriptor{object: o, pid: p.PID, next: next, access: access})
}

func (s *Snapshot) addSocket(k Socket) {
	if _, seen := s.sockets[k.Inode]; seen || k.Inode == 0 {
		return
	}
	k.Local, k.Remote = unmapAddrPort(k.Local), unmapAddrPort(k.Remote)
	s.sockets[k.Inode] = k
	if k.State == diag.Listen {
		s.listening[k.Local.Port()] = append(s.listening[k.Local.Port()], k.Inode)
		return
	}
	e := ends{k.Local, k.Remote}
	s.byEnds[e] = append(s.byEnds[e], k.Inode)
}

func unmapAddrPort(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// addHidden records that a process holds a socket without a descriptor.
func (s *Snapshot) addHidden(p Process, o Object, via Relation) {
	d := descriptor{object: o, pid: p.PID, next: -1, access: kernel.AccessRead | kernel.AccessWrite}
	if first, ok := s.first[o]; ok {
		d.next = first
	}
	if _, known := s.processes[p.PID]; !known {
		s.processes[p.PID] = p
	}
	s.first[o] = int32(len(s.descriptors))
	s.descriptors = append(s.descriptors, d) // in no span: those of a process are together
	s.hidden[p.PID] = append(s.hidden[p.PID], hidden{d, via})
}

// ownerRelation is how a process holds an object.
func (s *Snapshot) ownerRelation(pid int32, o Object) Relation {
	sp := s.spans[pid]
	for _, d := range s.descriptors[sp.from:sp.to] {
		if d.object == o {
			return Owner
		}
	}
	for _, h := range s.hidden[pid] {
		if h.object == o {
			return h.via
		}
	}
	return Owner
}

// objectsOf are the sockets and pipes a process holds.
func (s *Snapshot) objectsOf(pid int32) []descriptor {
	sp := s.spans[pid]
	all := s.descriptors[sp.from:sp.to]
	if len(s.hidden[pid]) == 0 {
		return all
	}
	all = slices.Clone(all)
	for _, h := range s.hidden[pid] {
		all = append(all, h.descriptor)
	}
	return all
}

// holders are the processes that hold an object with one of the given kinds of
// access, each once and in order.
func (s *Snapshot) holders(o Object, access uint8) []int32 {
	var pids []int32
	at, ok := s.first[o]
	for ; ok && at >= 0; at = s.descriptors[at].next {
		if d := &s.descriptors[at]; d.access&access != 0 {
			pids = append(pids, d.pid)
		}
	}
	slices.Sort(pids)
	return slices.Compact(pids)
}

// Holders are the processes that hold an object, each once and in order.
func (s *Snapshot) Holders(o Object) []int32 {
	return s.holders(o, kernel.AccessRead|kernel.AccessWrite)
}

// Socket is a TCP socket by its inode.
func (s *Snapshot) Socket(inode uint64) (Socket, bool) {
	k, ok := s.sockets[inode]
	return k, ok
}

// Direction is the recorded direction of a connection or, where nothing was
// recorded, a guess: inbound if its local port is listened on, or is not
// ephemeral while the remote one is; outbound if it is the other way round;
// else unknown.
func (s *Snapshot) Direction(k Socket, ephemeral PortRange) kernel.Direction {
	if k.Direction != kernel.Unknown {
		return k.Direction
	}
	for _, inode := range s.listening[k.Local.Port()] {
		l := s.sockets[inode]
		if l.NetNS == k.NetNS && (l.Local.Addr().IsUnspecified() || l.Local.Addr() == k.Local.Addr()) {
			return kernel.Inbound
		}
	}
	return ephemeral.Guess(k.Local.Port(), k.Remote.Port())
}

// PortRange is the range the kernel takes the ports of outbound connections
// from, both ends included.
type PortRange struct{ From, To uint16 }

// Guess is the direction two port numbers suggest if neither is listened on.
func (r PortRange) Guess(local, remote uint16) kernel.Direction {
	mine, theirs := r.From <= local && local <= r.To, r.From <= remote && remote <= r.To
	switch {
	case mine && !theirs:
		return kernel.Outbound
	case theirs && !mine:
		return kernel.Inbound
	}
	return kernel.Unknown
}

// objectOf makes the same key from fstat and from the kernel's own numbers.
func objectOf(mode uint32, dev, inode uint64) (Object, bool) {
	switch mode & unix.S_IFMT {
	case unix.S_IFSOCK:
		return Object{Dev: dev, Inode: inode}, true
	case unix.S_IFIFO:
		return Object{Dev: dev, Inode: inode, Pipe: true}, true
	}
	return Object{}, false
}

// EachConnection calls see for every connection that is open, with the processes
// that hold it.
func (s *Snapshot) EachConnection(see func(k Socket, holders []Process)) {
	sockfs, err := socketDevice()
	if err != nil {
		return
	}
	for _, k := range s.sockets {
		if !isConnected(k.State) {
			continue
		}
		var holders []Process
		for _, pid := range s.Holders(Object{Dev: sockfs, Inode: k.Inode}) {
			holders = append(holders, s.processes[pid])
		}
		see(k, holders)
	}
}

// Connection is the one with given ends in a network namespace.
func (s *Snapshot) Connection(netns uint32, local, remote netip.AddrPort) (Socket, bool) {
	for _, inode := range s.byEnds[ends{local, remote}] {
		if k := s.sockets[inode]; k.NetNS == netns {
			return k, true
		}
	}
	return Socket{}, false
}
