//go:build linux

package walk

import (
	"errors"
	"fmt"
	"os"

	"dragnet/trace/diag"
	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// findPeer is the other end of a TCP connection if that is on this machine: in
// the same network namespace or, where exactly one fits, in another one (the
// proxy of a container and the container). Any user may make a namespace, and in
// it a connection with any addresses: such a one may be the other end, but here is
// false, and what the addresses say is not set aside for it.
func (s *Snapshot) findPeer(k Socket) (peer Socket, here bool) {
	var others, foreign []Socket
	for _, inode := range s.byEnds[ends{k.Remote, k.Local}] {
		c := s.sockets[inode]
		switch {
		case inode == k.Inode: // a connection to itself
		case c.NetNS == k.NetNS:
			return c, true
		case s.foreign[c.NetNS] || s.foreign[k.NetNS]:
			foreign = append(foreign, c)
		default:
			others = append(others, c)
		}
	}
	switch {
	case len(others) == 1:
		return others[0], true
	case len(others) == 0 && len(foreign) == 1:
		return foreign[0], false
	}
	return s.translatedPeer(k)
}

// noteForeign finds out which network namespaces users made: those that do not
// belong to our own user namespace, or of which that is not known.
func (s *Snapshot) noteForeign(own uint32) {
	member := map[uint32]int32{}
	for pid, p := range s.processes {
		member[p.NetNS] = pid
	}
	for _, k := range s.sockets {
		if _, known := s.foreign[k.NetNS]; !known && k.NetNS != own {
			s.foreign[k.NetNS] = !isOurs(member[k.NetNS], k.NetNS)
		}
	}
}

// getUserNS is the ioctl NS_GET_USERNS of linux/nsfs.h.
const getUserNS = 0xb701

// isOurs reports whether the network namespace of a process belongs to our user
// namespace.
func isOurs(pid int32, netns uint32) bool {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return false
	}
	defer ns.Close()
	var st, ours, owner unix.Stat_t
	if unix.Fstat(int(ns.Fd()), &st) != nil || uint32(st.Ino) != netns || unix.Stat("/proc/self/ns/user", &ours) != nil {
		return false
	}
	fd, err := unix.IoctlRetInt(int(ns.Fd()), getUserNS)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	return unix.Fstat(fd, &owner) == nil && owner.Ino == ours.Ino
}

// unixPeer looks in the network namespace of the socket, which is that of the
// process that made it: a process may have entered another one since.
func (q *systemSources) unixPeer(pid int32, inode uint64) (uint64, bool) {
	note := func(what record.Obstacle, detail string) (uint64, bool) {
		q.met = append(q.met, record.Unseen{What: what, PID: pid, Detail: detail})
		return 0, false
	}
	end, isUnix := q.s.units[inode]
	if !isUnix && q.f.kernel != nil {
		return 0, false // another kind of socket
	}
	c, u, err := q.findUnix(pid, inode, end.netns)
	switch {
	case err != nil && isUnix:
		return end.peer, end.peer != 0 // without a name it is not a hub
	case errors.Is(err, diag.ErrNotFound):
		return 0, false
	case err != nil:
		return note(record.OtherSpace, fmt.Sprintf("UNIX socket %d: %v", inode, err))
	}
	if u.Peer == 0 {
		return 0, false
	}
	// The name of an accepted socket is its listener's: look from both ends.
	if q.f.isHub(u.Name) && isHubProgram(pid) {
		return note(record.HubMet, u.Name)
	}
	if other, err := c.UnixSocket(u.Peer); err == nil && q.f.isHub(other.Name) && q.heldByHub(u.Peer) {
		return note(record.HubMet, other.Name)
	}
	return u.Peer, true
}

// findUnix asks for a UNIX socket in its namespace if that is known, else in that
// of its process, in ours, and in those of all processes.
func (q *systemSources) findUnix(pid int32, inode uint64, netns uint32) (*diag.Conn, diag.Unix, error) {
	member := map[uint32]int32{q.s.processes[pid].NetNS: pid}
	tried := []uint32{q.s.processes[pid].NetNS, q.f.namespaces.Own()}
	if netns != 0 && netns != tried[0] {
		tried = []uint32{netns}
	}
	for _, p := range q.s.processes {
		if _, seen := member[p.NetNS]; !seen {
			member[p.NetNS] = p.PID
			tried = append(tried, p.NetNS)
		}
	}
	var first error
	for i, ns := range tried[:min(len(tried), maxSearched)] {
		c := q.f.own
		if ns != q.f.namespaces.Own() {
			var err error
			if c, err = q.f.namespaces.In(ns, member[ns]); err != nil {
				if first == nil {
					first = err
				}
				continue
			}
		}
		u, err := c.UnixSocket(inode)
		if err == nil {
			return c, u, nil
		}
		if first == nil {
			first = err
		}
		if i == 0 && netns != 0 {
			break // the kernel program said that it is in this one
		}
	}
	return nil, diag.Unix{}, first
}

// maxSearched bounds the namespaces that are searched for one socket.
const maxSearched = 64
