//go:build linux

package diag

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// Attributes of linux/unix_diag.h and the flags that ask for them.
const (
	unixName, unixPeer = 0, 2
	showName, showPeer = 1 << 0, 1 << 2
)

// Unix is what the kernel reports about one UNIX-domain socket.
type Unix struct {
	Inode uint64
	// Peer is the inode at the other end; 0 if there is none, or if the
	// connection is not accepted yet.
	Peer uint64
	// Name is what this end is bound to: a path, or @ and an abstract name.
	// A socket that was accepted has its listener's name.
	Name string
}

// UnixSocket looks one socket up by its inode.
func (c *Conn) UnixSocket(inode uint64) (Unix, error) {
	req := make([]byte, unixRequestSize)
	req[0] = unix.AF_UNIX
	binary.NativeEndian.PutUint32(req[4:], allStates)
	binary.NativeEndian.PutUint32(req[8:], uint32(inode))
	binary.NativeEndian.PutUint32(req[12:], showName|showPeer)
	binary.NativeEndian.PutUint32(req[16:], noCookie)
	binary.NativeEndian.PutUint32(req[20:], noCookie)
	var found Unix
	err := c.roundTrip(req, 0, func(msg []byte) error {
		var err error
		found, err = parseUnix(msg)
		return err
	})
	return found, err
}

func parseUnix(m []byte) (Unix, error) {
	if len(m) < unixMessageSize {
		return Unix{}, fmt.Errorf("unix_diag message of %d bytes", len(m))
	}
	u := Unix{Inode: uint64(binary.NativeEndian.Uint32(m[4:]))}
	for m = m[unixMessageSize:]; len(m) >= 4; {
		size, kind := int(binary.NativeEndian.Uint16(m)), binary.NativeEndian.Uint16(m[2:])
		if size < 4 || size > len(m) {
			return u, fmt.Errorf("unix_diag attribute of %d bytes in %d", size, len(m))
		}
		value := m[4:size]
		switch {
		case kind == unixPeer && len(value) >= 4:
			u.Peer = uint64(binary.NativeEndian.Uint32(value))
		case kind == unixName:
			u.Name = socketName(value)
		}
		m = m[min((size+3)&^3, len(m)):]
	}
	return u, nil
}

func socketName(b []byte) string {
	if len(b) > 0 && b[0] == 0 {
		return "@" + string(b[1:])
	}
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}
