//go:build linux

package kernel

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// Direction is which side opened a TCP connection.
type Direction uint8

// The values the programs write.
const (
	Unknown Direction = iota
	Outbound
	Inbound
)

// How a file is open, as the kernel numbers it (FMODE_READ, FMODE_WRITE).
const (
	AccessRead  = 1
	AccessWrite = 2
)

// Held is one open socket or pipe of one process; the layout is struct held in
// stop.c.
type Held struct {
	PID, Parent           uint32
	Start                 uint64 // ns since boot
	NetNS                 uint32
	FD                    uint32
	Inode                 uint64
	Dev                   uint32
	SocketNetNS           uint32
	Mode                  uint16
	LocalPort, RemotePort uint16
	Family, State         uint8
	Protocol              uint8
	Direction             Direction
	Access                uint8 // AccessRead, AccessWrite
	_                     [5]uint8
	Local, Remote         [16]uint8
}

const heldSize = int(unsafe.Sizeof(Held{}))

// Programs are the programs loaded into the kernel.
type Programs struct {
	objects stopObjects
	iter    *link.Iter
	mark    link.Link
	// MarkError is why the side that opens a connection is not recorded; nil if
	// it is.
	MarkError error
}

// Load loads the programs for the caller's pid namespace and starts to record
// which side opens connections. Without CAP_BPF and CAP_PERFMON it fails, and
// the caller reads /proc instead.
func Load() (*Programs, error) {
	if err := checkRights(); err != nil {
		return nil, err
	}
	spec, err := loadStop()
	if err != nil {
		return nil, fmt.Errorf("read embedded eBPF object: %w", err)
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err != nil {
		return nil, fmt.Errorf("find own pid namespace: %w", err)
	}
	if err := spec.Variables["pid_namespace"].Set(uint32(ns.Ino)); err != nil {
		return nil, fmt.Errorf("set pid namespace: %w", err)
	}
	p := new(Programs)
	if err := spec.LoadAndAssign(&p.objects, nil); err != nil {
		return nil, fmt.Errorf("load eBPF programs: %w", err)
	}
	if p.iter, err = link.AttachIter(link.IterOptions{Program: p.objects.Walk}); err != nil {
		p.Close()
		return nil, fmt.Errorf("attach eBPF iterator: %w", err)
	}
	p.mark, p.MarkError = attachMark(p.objects.Mark)
	return p, nil
}

// checkRights names what is missing: the kernel's own errors are about features.
func checkRights() error {
	var have [2]unix.CapUserData
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&head, &have[0]); err != nil {
		return fmt.Errorf("read own capabilities: %w", err)
	}
	has := func(c uint) bool { return have[c/32].Effective&(1<<(c%32)) != 0 }
	if has(unix.CAP_SYS_ADMIN) || has(unix.CAP_BPF) && has(unix.CAP_PERFMON) {
		return nil
	}
	return errors.New("loading eBPF programs needs CAP_BPF and CAP_PERFMON")
}

// attachMark covers every process below the root of the unified cgroup tree.
func attachMark(prog *ebpf.Program) (link.Link, error) {
	root, err := unifiedRoot("/proc/self/mounts")
	if err != nil {
		return nil, err
	}
	l, err := link.AttachCgroup(link.CgroupOptions{Path: root, Attach: ebpf.AttachCGroupSockOps, Program: prog})
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w", root, err)
	}
	return l, nil
}

func unifiedRoot(mounts string) (string, error) {
	f, err := os.Open(mounts)
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if fields := strings.Fields(s.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			return fields[1], nil
		}
	}
	return "", errors.New("no cgroup2 file system is mounted")
}

// ObjectHash is the SHA-256 of the embedded object, so that a binary can say
// what it loads.
func ObjectHash() string {
	h := sha256.Sum256(_StopBytes)
	return hex.EncodeToString(h[:])
}

// Close unloads everything; the notes on sockets go with it.
func (p *Programs) Close() error {
	var errs []error
	if p.mark != nil {
		errs = append(errs, p.mark.Close())
	}
	if p.iter != nil {
		errs = append(errs, p.iter.Close())
	}
	return errors.Join(append(errs, p.objects.Close())...)
}

// Walk calls see for every socket and pipe any process holds, in one pass. The
// value is only valid during the call.
func (p *Programs) Walk(see func(*Held)) error {
	r, err := p.iter.Open()
	if err != nil {
		return fmt.Errorf("start eBPF pass: %w", err)
	}
	defer r.Close()
	buf := make([]byte, 64<<10)
	have := 0
	for {
		n, err := r.Read(buf[have:])
		have += n
		whole := have - have%heldSize
		for off := 0; off < whole; off += heldSize {
			see((*Held)(unsafe.Pointer(&buf[off])))
		}
		have = copy(buf, buf[whole:have])
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, unix.EAGAIN):
		case err != nil:
			return fmt.Errorf("eBPF pass: %w", err)
		}
	}
}

// Direction reads the note on one connection of the caller's network
// namespace; the addresses are of one family. Device is the index of the
// interface to which the socket is bound, 0 if to none.
func (p *Programs) Direction(local, remote netip.AddrPort, device uint32) (Direction, error) {
	// An Ethernet header, then the tuple as a packet to us would carry it.
	pkt := make([]byte, 14, 14+36)
	pkt = append(append(pkt, remote.Addr().AsSlice()...), local.Addr().AsSlice()...)
	pkt = binary.BigEndian.AppendUint16(pkt, remote.Port())
	pkt = binary.BigEndian.AppendUint16(pkt, local.Port())
	opts := ebpf.RunOptions{Data: pkt}
	if device != 0 {
		opts.Context = &packetContext{Device: device}
	}
	answer, err := p.objects.Direction.Run(&opts)
	if err != nil {
		return Unknown, fmt.Errorf("look up direction: %w", err)
	}
	return Direction(answer), nil
}

// packetContext is struct __sk_buff of linux/bpf.h, of which a test run takes
// the interface.
type packetContext struct {
	_      [10]uint32
	Device uint32
	_      [37]uint32
}

// String is outbound, inbound or unknown.
func (d Direction) String() string {
	switch d {
	case Outbound:
		return "outbound"
	case Inbound:
		return "inbound"
	}
	return "unknown"
}
