//go:build linux

package diag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// maxDevices bounds the requests for one connection. A host with more
// interfaces is searched by one list of its sockets instead.
const maxDevices = 256

// devicesAge is how long a list of interfaces is used.
const devicesAge = time.Second

// readDevices lists the indexes of the namespace's interfaces; the caller does
// not hold the lock.
func (c *Conn) readDevices() ([]uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.devicesRead) < devicesAge {
		return c.devices, nil
	}
	request := make([]byte, linkMessageSize+8)
	// Statistics, of which a message is mostly made, are left out.
	const extMask, skipStatistics = 29, 1 << 3
	binary.NativeEndian.PutUint16(request[linkMessageSize:], 8)
	binary.NativeEndian.PutUint16(request[linkMessageSize+2:], extMask)
	request = binary.NativeEndian.AppendUint32(request[:linkMessageSize+4], skipStatistics)
	var devices []uint32
	err := c.exchange(c.route, unix.RTM_GETLINK, request, unix.NLM_F_DUMP, func(m []byte) error {
		if len(m) < linkMessageSize {
			return fmt.Errorf("link message of %d bytes", len(m))
		}
		devices = append(devices, binary.NativeEndian.Uint32(m[4:]))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	c.devices, c.devicesRead = devices, time.Now()
	return devices, nil
}

// findBound looks for a socket that is bound to an interface: the kernel finds
// it only where the request names that interface.
func (c *Conn) findBound(match func(ListedSocket) bool, request func(device uint32) []byte) (ListedSocket, error) {
	devices, err := c.readDevices()
	if err != nil {
		return ListedSocket{}, err
	}
	var found ListedSocket
	see := func(m []byte) error {
		s, err := parseInet(m)
		if err == nil && match(s) {
			found = s
		}
		return err
	}
	if len(devices) > maxDevices {
		err = c.roundTrip(request(0), unix.NLM_F_DUMP, see)
		devices = nil
	}
	for _, device := range devices {
		if err = c.roundTrip(request(device), 0, see); err != nil && !errors.Is(err, ErrNotFound) {
			return ListedSocket{}, err
		}
		if err = nil; found.State != 0 {
			break
		}
	}
	if err == nil && found.State == 0 {
		err = ErrNotFound
	}
	return found, err
}
