//go:build linux

package netlab

import (
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// FrameSender sends Ethernet frames as they are, with any addresses.
type FrameSender struct {
	fd    int
	index int
	// MAC is the address of the interface.
	MAC net.HardwareAddr
}

// OpenFrames opens a sender on an interface of a node.
func (n *Node) OpenFrames(dev string) (s *FrameSender, err error) {
	err = n.Do(func() error {
		link, err := net.InterfaceByName(dev)
		if err != nil {
			return fmt.Errorf("send frames on %s: %w", dev, err)
		}
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("send frames on %s: %w", dev, err)
		}
		s = &FrameSender{fd, link.Index, link.HardwareAddr}
		return nil
	})
	return s, err
}

// Send sends one frame; it waits while the queue is full.
func (s *FrameSender) Send(frame []byte) error {
	for {
		err := unix.Sendto(s.fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: s.index})
		if !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
}

// Close closes the sender.
func (s *FrameSender) Close() error { return unix.Close(s.fd) }
