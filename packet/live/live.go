//go:build linux

// Package live reads packets from a network interface in both directions,
// through a ring shared with the kernel (packet(7), TPACKET_V3). It only copies
// packets and does not stop them.
//
// The kernel fills blocks of packets and delivers each when it is full or after
// 20 ms. When all are full it drops copies, which Stats counts. A VLAN tag that
// the network card or the kernel removed is restored.
package live

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"dragnet/internal/conf"
	"dragnet/packet"
)

// Configuration of a reader.
type Configuration struct {
	// Interface is the name of the interface to watch.
	Interface string `yaml:"interface"`
	// Snap is how many bytes of each packet are kept.
	Snap int `yaml:"snap"`
	// Buffer is the size of the ring in bytes.
	Buffer int `yaml:"buffer"`
	// Promiscuous has the network card also pass packets between others, which a
	// mirror port brings.
	Promiscuous bool `yaml:"promiscuous"`
}

// DefaultConfiguration keeps the headers, and a second of a busy gigabit link.
func DefaultConfiguration() Configuration {
	return Configuration{Snap: 192, Buffer: 16 << 20}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Interface != "", "interface", "name the one to watch, such as eth0")
	p.Check(len(c.Interface) < unix.IFNAMSIZ, "interface", "%q is longer than an interface name can be", c.Interface)
	p.Check(c.Snap >= 96 && c.Snap <= 1<<16, "snap", "is %d; want 96 bytes, which hold the headers, to 65536", c.Snap)
	p.Check(c.Buffer >= 2*blockSize && c.Buffer <= 1<<30, "buffer", "is %d; want %d to %d bytes", c.Buffer, 2*blockSize, 1<<30)
	return p.Join()
}

const (
	// blockSize is the unit in which the kernel delivers packets.
	blockSize = 1 << 18
	// frameSize only has to divide blockSize: blocks hold packets of any length.
	frameSize = 1 << 11
	// retire is how long a block waits to be filled, in milliseconds.
	retire = 20
)

// ErrIdle is returned by Next if no packet arrived within the time given.
var ErrIdle = errors.New("no packet arrived")

// Reader reads packets. It is not safe for concurrent use.
type Reader struct {
	name   string
	fd     int
	mirror bool // promiscuous
	ring   []byte
	link   packet.LinkType
	block  int // the block being read, or waited for

	left   uint32 // packets of it not read yet
	next   []byte // from the header of the next packet on
	frame  []byte // buffer for restoring a VLAN tag
	number uint64 // of the last packet
	total  Stats  // so far
}

// Stats counts copies of packets.
type Stats struct {
	// Read were delivered by the kernel; Dropped were not because the ring was
	// full.
	Read, Dropped uint64
}

// Open starts capturing, in the calling thread's network namespace. It needs
// CAP_NET_RAW there.
func Open(c Configuration) (*Reader, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	dev, err := net.InterfaceByName(c.Interface)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w", c.Interface, err)
	}
	// Protocol 0: no packet arrives before the ring and the bound on length are
	// set up.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("watch %s: %w (it needs CAP_NET_RAW)", c.Interface, err)
	}
	r := &Reader{name: c.Interface, fd: fd, mirror: c.Promiscuous}
	if err := r.setUpRing(c, dev.Index); err != nil {
		r.Close()
		return nil, fmt.Errorf("watch %s: %w", c.Interface, err)
	}
	return r, nil
}

// OpenGroup opens n readers that share the packets of an interface: the packets of
// a conversation, both directions and all fragments, go to one of them (packet(7),
// PACKET_FANOUT_HASH).
func OpenGroup(c Configuration, n int) (all []*Reader, err error) {
	const (
		unique = 0x2000 // PACKET_FANOUT_FLAG_UNIQUEID
		defrag = 0x8000 // PACKET_FANOUT_FLAG_DEFRAG
		shift  = 16
	)
	group := (unix.PACKET_FANOUT_HASH | unique | defrag) << shift
	for i := range n {
		r, err := Open(c)
		if err == nil {
			all = append(all, r)
			if n > 1 {
				err = unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT, group)
			}
		}
		if err == nil && n > 1 && i == 0 {
			// The kernel chose the number of the group, which the others join.
			group, err = unix.GetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_FANOUT)
		}
		if err != nil {
			for _, r := range all {
				err = errors.Join(err, r.Close())
			}
			return nil, fmt.Errorf("watch %s with %d readers: %w", c.Interface, n, err)
		}
	}
	return all, nil
}

func (r *Reader) setUpRing(c Configuration, index int) (err error) {
	if r.link, err = linkType(r.fd, c.Interface); err != nil {
		return err
	}
	// A filter of one instruction: keep that many bytes.
	keep := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: uint32(c.Snap)}
	if err := unix.SetsockoptSockFprog(r.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &keep}); err != nil {
		return fmt.Errorf("bound the length of packets: %w", err)
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_VERSION, unix.TPACKET_V3); err != nil {
		return fmt.Errorf("choose TPACKET_V3: %w", err)
	}
	blocks := c.Buffer / blockSize
	request := unix.TpacketReq3{
		Block_size: blockSize, Block_nr: uint32(blocks), Frame_size: frameSize, Frame_nr: uint32(blocks * blockSize / frameSize), Retire_blk_tov: retire,
	}
	if err := unix.SetsockoptTpacketReq3(r.fd, unix.SOL_PACKET, unix.PACKET_RX_RING, &request); err != nil {
		return fmt.Errorf("allocate a ring of %d bytes: %w", blocks*blockSize, err)
	}
	if r.ring, err = unix.Mmap(r.fd, 0, blocks*blockSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return fmt.Errorf("map the ring: %w", err)
	}
	r.frame = make([]byte, 0, c.Snap+4)
	if c.Promiscuous {
		member := unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
		if err := unix.SetsockoptPacketMreq(r.fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &member); err != nil {
			return fmt.Errorf("enter promiscuous mode: %w", err)
		}
	}
	return unix.Bind(r.fd, &unix.SockaddrLinklayer{Protocol: toNetworkOrder(unix.ETH_P_ALL), Ifindex: index})
}

// linkType returns the link type of an interface (from its ARP hardware type,
// netdevice(7)).
func linkType(fd int, name string) (packet.LinkType, error) {
	request, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFHWADDR, request); err != nil {
		return 0, fmt.Errorf("get hardware type: %w", err)
	}
	switch kind := request.Uint16(); kind {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		return packet.LinkEthernet, nil
	case unix.ARPHRD_NONE, unix.ARPHRD_PPP, unix.ARPHRD_RAWIP, unix.ARPHRD_TUNNEL, unix.ARPHRD_SIT, unix.ARPHRD_TUNNEL6:
		return packet.LinkRaw, nil
	default:
		return 0, fmt.Errorf("interfaces of hardware type %d are not supported; watch an Ethernet, PPP or tunnel interface", kind)
	}
}

// toNetworkOrder converts a 16-bit number to network byte order.
func toNetworkOrder(n uint16) uint16 {
	if host := [2]byte{1, 0}; *(*uint16)(unsafe.Pointer(&host)) == 1 {
		return bits.ReverseBytes16(n)
	}
	return n
}

// LinkType is that of the packets read.
func (r *Reader) LinkType() packet.LinkType { return r.link }

// Stats returns the counts so far. The kernel resets its counts when read, so
// only one reader may ask.
func (r *Reader) Stats() (Stats, error) {
	s, err := unix.GetsockoptTpacketStatsV3(r.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return r.total, fmt.Errorf("count packets of %s: %w", r.name, err)
	}
	// The kernel's count of packets includes those it dropped.
	r.total.Read += uint64(s.Packets - s.Drops)
	r.total.Dropped += uint64(s.Drops)
	return r.total, nil
}

// Close ends the reader; what Next returned is no longer valid.
func (r *Reader) Close() error {
	var err error
	if r.ring != nil {
		err = unix.Munmap(r.ring)
		r.ring, r.next = nil, nil
	}
	return errors.Join(err, unix.Close(r.fd))
}

// waitFor waits until the kernel has delivered a block, at most that long.
func (r *Reader) waitFor(most time.Duration) error {
	ms := int(min(max(0, most.Milliseconds()), math.MaxInt32))
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN | unix.POLLERR}}
	n, err := unix.Poll(fds, ms)
	switch {
	case errors.Is(err, unix.EINTR) || err == nil && n == 0:
		return ErrIdle
	case err != nil:
		return fmt.Errorf("wait for packets of %s: %w", r.name, err)
	case fds[0].Revents&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) == 0:
		return nil
	}
	// An interface that goes down is reported once; it may come back.
	if code, err := unix.GetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_ERROR); err == nil && code != 0 && unix.Errno(code) != unix.ENETDOWN {
		return fmt.Errorf("packets of %s: %w", r.name, unix.Errno(code))
	}
	if _, err := net.InterfaceByName(r.name); err != nil {
		return fmt.Errorf("packets of %s: %w", r.name, err)
	}
	return ErrIdle
}
