//go:build linux

package tc

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dragnet/daw"
	"dragnet/flow"
)

// Check loads the programs with small tables and attaches them to the loopback
// interface for a moment, with nothing in scope.
func Check() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	p := daw.DefaultParameters()
	p.Entries, p.Records, p.Requests, p.Waiting, p.Recent, p.Answered = 1, 1, 1, 1, 1, 1
	none := daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/32")}, Ports: []uint16{1}}
	edge, err := daw.New(p, none, flow.Time(1))
	if err != nil {
		return err
	}
	k, _, err := Load(Options{}, edge)
	if err != nil {
		return fmt.Errorf("%w (it needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN, and Linux 6.6)", err)
	}
	return errors.Join(k.Attach(lo.Index), k.Detach(), k.Close())
}

// CheckPins reports a folder that is in no BPF file system.
func CheckPins(pins string) error {
	for dir := pins; ; dir = filepath.Dir(dir) {
		var s unix.Statfs_t
		err := unix.Statfs(dir, &s)
		if errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
			continue
		}
		if err == nil && s.Type != unix.BPF_FS_MAGIC {
			err = fmt.Errorf("%s is in no BPF file system: mount -t bpf bpf /sys/fs/bpf", pins)
		}
		return err
	}
}

// CheckLink reports an interface whose frames are not Ethernet's, in which the programs
// find no packets.
func CheckLink(index int) error {
	l, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	if kind := l.Attrs().EncapType; kind != "ether" && kind != "loopback" {
		return fmt.Errorf("%s has no Ethernet frames (%s), so that its packets cannot be judged in the kernel; use 'live' instead, and nftables", l.Attrs().Name, kind)
	}
	return nil
}
