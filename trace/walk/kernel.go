//go:build linux

package walk

import (
	"encoding/binary"
	"net/netip"

	"dragnet/trace/kernel"

	"golang.org/x/sys/unix"
)

// nanosecondsPerTick is /proc's unit, 1/100 s whatever the kernel's own clock.
const nanosecondsPerTick = 1e9 / 100

// fromKernel takes a snapshot with one pass of the eBPF iterator.
func fromKernel(p *kernel.Programs, size int) (*Snapshot, error) {
	s := newSnapshot(size)
	err := p.Walk(func(h *kernel.Held) {
		dev := unix.Mkdev(h.Dev>>20, h.Dev&(1<<20-1))
		o, ok := objectOf(uint32(h.Mode), dev, h.Inode)
		if !ok {
			return
		}
		s.addObject(Process{PID: int32(h.PID), Parent: int32(h.Parent), Start: h.Start / nanosecondsPerTick, NetNS: h.NetNS}, o, h.Access)
		if h.Family == unix.AF_UNIX {
			s.units[h.Inode] = unixEnd{peer: binary.NativeEndian.Uint64(h.Local[:]), netns: h.SocketNetNS}
		}
		if h.Protocol != unix.IPPROTO_TCP {
			return
		}
		if k, ok := socketOf(h); ok {
			s.addSocket(k)
		}
	})
	return s, err
}

func socketOf(h *kernel.Held) (Socket, bool) {
	var local, remote netip.Addr
	switch h.Family {
	case unix.AF_INET:
		local, remote = netip.AddrFrom4([4]byte(h.Local[:4])), netip.AddrFrom4([4]byte(h.Remote[:4]))
	case unix.AF_INET6:
		local, remote = netip.AddrFrom16(h.Local), netip.AddrFrom16(h.Remote)
	default:
		return Socket{}, false
	}
	// Closed sockets that are still held have no addresses worth keeping.
	if h.State == 7 && binary.NativeEndian.Uint64(h.Local[:]) == 0 && h.LocalPort == 0 {
		return Socket{}, false
	}
	return Socket{
		Inode: h.Inode, NetNS: h.SocketNetNS, State: h.State, Direction: h.Direction,
		Local: netip.AddrPortFrom(local, h.LocalPort), Remote: netip.AddrPortFrom(remote, h.RemotePort),
	}, true
}
