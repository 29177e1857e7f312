//go:build linux

package ripcord

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/bpf"
)

// errOwned says that a gateway runs already.
var errOwned = errors.New("a gateway runs with these tables already: stop it first ('systemctl stop dragnet-ripcord', or end 'dragnet-agent run ripcord')")

// lockPins makes this process the one that owns the tables in a folder, until the
// file is closed or the process ends.
func lockPins(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("pinned tables: %w; has 'dragnet-agent run ripcord' run here?", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errOwned
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("pins %s: %w", dir, err), f.Close())
	}
	return f, nil
}

// awaitPins is lockPins for a start: one who only looks holds the lock for a moment.
func awaitPins(dir string) (f *os.File, err error) {
	for range 20 {
		if f, err = lockPins(dir); !errors.Is(err, errOwned) {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	return f, err
}

// Remove takes a gateway's programs and tables out of the kernel, and lets its
// interfaces work as others do. No packet passes between them afterwards. It fails
// while the gateway runs.
func Remove(c *Configuration) error {
	lock, err := lockPins(c.Pins)
	if err != nil {
		return err
	}
	errs := []error{bpf.Remove(c.Pins), lock.Close()}
	for _, name := range []string{c.Host, c.Network} {
		errs = append(errs, releaseInterface(name))
	}
	return errors.Join(errs...)
}

// releaseInterface reverses prepareInterface, but for the addresses that were lost,
// and leaves the interface up. One that is gone needs nothing.
func releaseInterface(name string) error {
	l, err := netlink.LinkByName(name)
	if errors.As(err, &netlink.LinkNotFoundError{}) || name == "" {
		return nil
	}
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	errs := []error{netlink.LinkSetARPOn(l), netlink.SetPromiscOff(l)}
	before, err := os.ReadFile("/proc/sys/net/ipv6/conf/default/disable_ipv6")
	if err == nil {
		err = os.WriteFile(disableIPv6(name), before, 0)
	}
	if errors.Is(err, os.ErrNotExist) {
		err = nil // a kernel without IPv6
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	return nil
}

// disableIPv6 is the setting that switches off an interface's own IPv6.
func disableIPv6(name string) string {
	return filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6")
}
