// Package doctor defines checks of what a role needs on its machine, and makes those
// that several roles share.
package doctor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Check is the result of one check.
type Check struct {
	// Name is what was checked.
	Name string
	// Err is what is missing, and what that costs; nil if nothing is.
	Err error
	// Fatal says that the role cannot start, or not do what it is for, because of Err.
	Fatal bool
	// Good is what was found if Err is nil.
	Good string
}

// CheckFolder checks that files can be made in folder dir. It makes neither: where
// dir does not exist, its nearest existing parent must be writable.
func CheckFolder(name, dir string) Check {
	c := Check{Name: name, Fatal: true, Good: dir}
	at := filepath.Clean(dir)
	for {
		info, err := os.Stat(at)
		switch {
		case errors.Is(err, os.ErrNotExist) && filepath.Dir(at) != at:
			at = filepath.Dir(at)
			continue
		case err != nil:
			c.Err = err
		case !info.IsDir():
			c.Err = fmt.Errorf("%s is not a folder", at)
		case unix.Access(at, unix.W_OK|unix.X_OK) != nil:
			c.Err = fmt.Errorf("%s: this user may not write there", at)
		}
		return c
	}
}

// CheckForwarding reports that this machine, in the calling thread's network
// namespace, does not forward packets of IPv4, or of IPv6.
func CheckForwarding(v6 bool) error {
	file := "/proc/sys/net/ipv4/ip_forward"
	if v6 {
		file = "/proc/sys/net/ipv6/conf/all/forwarding"
	}
	if b, err := os.ReadFile(file); err != nil {
		return err
	} else if strings.TrimSpace(string(b)) == "0" {
		return fmt.Errorf("%s is 0", file)
	}
	return nil
}

// HasCapability reports whether this program may use a capability, such as
// unix.CAP_NET_RAW.
func HasCapability(number int) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return false, fmt.Errorf("read capabilities: %w", err)
	}
	return sets[number/32].Effective&(1<<(number%32)) != 0, nil
}
