//go:build linux

package walk

import (
	"errors"
	"net/netip"

	"dragnet/trace/diag"
	"dragnet/trace/kernel"
)

// Containers have addresses that the host's kernel translates. It tracks each such
// connection, and its table joins the addresses that a container's socket has
// with those that other hosts see.

// findTranslated looks up a connection that other hosts see between two addresses,
// and that a process of another network namespace holds with other addresses. A
// namespace that a user made is not looked at: its addresses are whatever the user
// wants. If several fit, none is taken.
func (f *Finder) findTranslated(local, remote netip.AddrPort) (Found, error) {
	if f.tracker == nil {
		return Found{}, ErrNoUser
	}
	out := diag.Tuple{Source: remote, Destination: local}
	tracked, err := f.tracker.Find(out)
	if err != nil {
		return Found{}, ErrNoUser // as good as not tracked
	}
	inside := tracked.Opposite(out)
	if inside == out.Reverse() {
		return Found{}, ErrNoUser
	}
	s, err := f.Snapshot()
	if err != nil {
		return Found{}, err
	}
	var in []Socket
	for _, inode := range s.byEnds[ends{inside.Source, inside.Destination}] {
		if k := s.sockets[inode]; isConnected(k.State) && !s.foreign[k.NetNS] {
			in = append(in, k)
		}
	}
	if len(in) != 1 {
		return Found{}, ErrNoUser
	}
	c, err := f.connOf(s, in[0])
	if err != nil {
		return Found{}, err
	}
	k, err := c.TCP(in[0].Local, in[0].Remote)
	if errors.Is(err, diag.ErrNotFound) || err == nil && k.Inode != in[0].Inode {
		return Found{}, ErrNoUser
	}
	direction := kernel.Outbound
	if tracked.Original == out {
		direction = kernel.Inbound
	}
	return Found{k, direction}, err
}

// connOf asks in the network namespace of a socket, by a process in it.
func (f *Finder) connOf(s *Snapshot, k Socket) (*diag.Conn, error) {
	if k.NetNS == f.namespaces.Own() {
		return f.own, nil
	}
	for pid, p := range s.processes {
		if p.NetNS == k.NetNS {
			return f.namespaces.In(k.NetNS, pid)
		}
	}
	return nil, ErrNoUser
}

// Outside are the addresses by which other hosts know a connection of another
// network namespace of this machine; ok is false if they are not translated.
func (f *Finder) Outside(local, remote netip.AddrPort) (outLocal, outRemote netip.AddrPort, ok bool) {
	if f.tracker == nil {
		return outLocal, outRemote, false
	}
	sent := diag.Tuple{Source: local, Destination: remote}
	tracked, err := f.tracker.Find(sent)
	if err != nil {
		return outLocal, outRemote, false
	}
	back := tracked.Opposite(sent)
	return back.Destination, back.Source, back != sent.Reverse()
}

// outside is an inbound connection as the hosts before know it.
func (f *Finder) outside(s *Snapshot, k Socket) Socket {
	if k.NetNS == f.namespaces.Own() || s.foreign[k.NetNS] {
		return k
	}
	if local, remote, ok := f.Outside(k.Local, k.Remote); ok {
		k.Local, k.Remote, k.NetNS = local, remote, f.namespaces.Own()
	}
	return k
}

// translatedPeer is the other end of a connection whose addresses are translated
// between two namespaces of this machine.
func (s *Snapshot) translatedPeer(k Socket) (peer Socket, here bool) {
	if s.outside == nil || s.foreign[k.NetNS] {
		return Socket{}, false
	}
	local, remote, ok := s.outside(k.Local, k.Remote)
	if !ok {
		return Socket{}, false
	}
	var in []Socket
	for _, inode := range s.byEnds[ends{remote, local}] {
		if c := s.sockets[inode]; inode != k.Inode && !s.foreign[c.NetNS] {
			in = append(in, c)
		}
	}
	if len(in) != 1 {
		return Socket{}, false
	}
	return in[0], true
}
