//go:build linux

package diag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Numbers of linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const (
	getConntrack    = 1<<8 | 1 // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
	netfilterHeader = 4
	nested          = 1 << 15

	tupleOriginal, tupleReply  = 1, 2
	tupleAddresses, tupleProto = 1, 2
	source4, destination4      = 1, 2
	source6, destination6      = 3, 4
	protoNumber                = 1
	sourcePort, destPort       = 2, 3
)

// Tuple is one direction of a tracked connection.
type Tuple struct{ Source, Destination netip.AddrPort }

// Reverse is the direction of the replies, if no address is translated.
func (t Tuple) Reverse() Tuple { return Tuple{t.Destination, t.Source} }

// Tracked is a TCP connection as the kernel tracks it for address translation.
type Tracked struct {
	// Original is the direction in which it was opened, before translation;
	// Reply the other direction, as its sender sees it.
	Original, Reply Tuple
}

// Opposite is what the other end sends: for a packet of one direction, the tuple
// of the other one. Without translation it is the reverse.
func (t Tracked) Opposite(of Tuple) Tuple {
	if of == t.Reply {
		return t.Original
	}
	return t.Reply
}

// Tracker asks for tracked connections of one network namespace. It is safe for
// concurrent use.
type Tracker struct{ c Conn }

// OpenTracker opens a socket in the calling thread's network namespace. Questions
// need CAP_NET_ADMIN there.
func OpenTracker() (*Tracker, error) {
	fd, err := openNetlink(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, fmt.Errorf("open netfilter's netlink: %w", err)
	}
	return &Tracker{Conn{fd: fd, route: -1, buf: make([]byte, 64<<10)}}, nil
}

// Close closes the socket.
func (t *Tracker) Close() error {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	return unix.Close(t.c.fd)
}

// Find looks up the TCP connection to which packets of a tuple belong, in either
// direction.
func (t *Tracker) Find(of Tuple) (Tracked, error) {
	of = Tuple{unmapAddr(of.Source), unmapAddr(of.Destination)}
	if of.Source.Addr().Is4() != of.Destination.Addr().Is4() {
		return Tracked{}, ErrNotFound
	}
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	var found Tracked
	err := t.c.exchange(t.c.fd, getConntrack, conntrackRequest(of), 0, func(m []byte) error {
		var err error
		found, err = parseConntrack(m)
		return err
	})
	if err == nil && found.Original != of && found.Reply != of {
		err = errors.New("netfilter answered about another connection")
	}
	return found, err
}

func conntrackRequest(of Tuple) []byte {
	family, source, destination := byte(unix.AF_INET6), uint16(source6), uint16(destination6)
	if of.Source.Addr().Is4() {
		family, source, destination = unix.AF_INET, source4, destination4
	}
	addresses := appendAttribute(nil, source, of.Source.Addr().AsSlice())
	addresses = appendAttribute(addresses, destination, of.Destination.Addr().AsSlice())
	proto := appendAttribute(nil, protoNumber, []byte{unix.IPPROTO_TCP})
	proto = appendAttribute(proto, sourcePort, binary.BigEndian.AppendUint16(nil, of.Source.Port()))
	proto = appendAttribute(proto, destPort, binary.BigEndian.AppendUint16(nil, of.Destination.Port()))
	tuple := appendAttribute(nil, nested|tupleAddresses, addresses)
	tuple = appendAttribute(tuple, nested|tupleProto, proto)
	return appendAttribute([]byte{family, 0, 0, 0}, nested|tupleOriginal, tuple)
}

func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(4+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

func parseConntrack(m []byte) (Tracked, error) {
	if len(m) < netfilterHeader {
		return Tracked{}, fmt.Errorf("netfilter message of %d bytes", len(m))
	}
	var t Tracked
	err := eachAttribute(m[netfilterHeader:], func(kind uint16, value []byte) (err error) {
		switch kind {
		case tupleOriginal:
			t.Original, err = parseTuple(value)
		case tupleReply:
			t.Reply, err = parseTuple(value)
		}
		return err
	})
	if err == nil && (!t.Original.Source.IsValid() || !t.Reply.Source.IsValid()) {
		err = errors.New("netfilter's answer lacks a direction")
	}
	return t, err
}

func parseTuple(b []byte) (Tuple, error) {
	var source, destination netip.Addr
	var ports [2]uint16
	err := eachAttribute(b, func(kind uint16, value []byte) error {
		return eachAttribute(value, func(inner uint16, value []byte) error {
			switch {
			case kind == tupleAddresses && (inner == source4 || inner == source6):
				source, _ = netip.AddrFromSlice(value)
			case kind == tupleAddresses && (inner == destination4 || inner == destination6):
				destination, _ = netip.AddrFromSlice(value)
			case kind == tupleProto && (inner == sourcePort || inner == destPort) && len(value) == 2:
				ports[inner-sourcePort] = binary.BigEndian.Uint16(value)
			}
			return nil
		})
	})
	return Tuple{netip.AddrPortFrom(source.Unmap(), ports[0]), netip.AddrPortFrom(destination.Unmap(), ports[1])}, err
}

// eachAttribute calls see for each attribute of a message, without the flags in
// its kind.
func eachAttribute(b []byte, see func(kind uint16, value []byte) error) error {
	for len(b) >= 4 {
		size, kind := int(binary.NativeEndian.Uint16(b)), binary.NativeEndian.Uint16(b[2:])
		if size < 4 || size > len(b) {
			return fmt.Errorf("netlink attribute of %d bytes in %d", size, len(b))
		}
		if err := see(kind&0x3fff, b[4:size]); err != nil {
			return err
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return nil
}
