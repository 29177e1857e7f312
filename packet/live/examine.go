//go:build linux

package live

import (
	"errors"
	"fmt"
	"net"

	"dragnet/internal/doctor"
)

// Examine checks whether Open with c would work, and what it would see, in the
// calling thread's network namespace.
func Examine(c Configuration) []doctor.Check {
	return []doctor.Check{
		{Name: "interface " + c.Interface, Err: checkLink(c.Interface), Good: "up"},
		{Name: "capture", Err: tryOpen(c), Fatal: true, Good: fmt.Sprintf("opens, with a ring of %d MiB", c.Buffer>>20)},
	}
}

// checkLink reports an interface without a link: it can be watched, and shows
// nothing until it is up.
func checkLink(name string) error {
	dev, err := net.InterfaceByName(name)
	switch {
	case err != nil:
		return err
	case dev.Flags&net.FlagUp == 0:
		return fmt.Errorf("is down, so no packet arrives: ip link set %s up", name)
	case dev.Flags&net.FlagRunning == 0:
		return errors.New("has no carrier, so no packet arrives: check the cable and the mirror port")
	}
	return nil
}

func tryOpen(c Configuration) error {
	r, err := Open(c)
	if err != nil {
		return err
	}
	return r.Close()
}
