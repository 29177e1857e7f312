//go:build linux

package array

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// fileConn gives a socket to Go's poller.
func fileConn(fd int, name string) (*net.UDPConn, error) {
	f := os.NewFile(uintptr(fd), name)
	c, err := net.FilePacketConn(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, err
	}
	u, ok := c.(*net.UDPConn)
	if !ok {
		return nil, fmt.Errorf("%s is not a UDP socket", name)
	}
	return u, nil
}
