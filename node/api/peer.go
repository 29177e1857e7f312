package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Peer is who is at the other end of a connection.
type Peer struct {
	// Certificate is what the peer showed over TLS, given by the node's
	// authority; nil for none.
	Certificate *x509.Certificate
	// Local says that the peer is a process of this machine on the Unix socket,
	// whose permissions it passed. UID and PID are what the kernel says of it.
	Local bool
	UID   uint32
	PID   int32
	// Name and Role are of the certificate's owner, where it is a member.
	Name, Role string
}

// String tells who it is, for logs.
func (p Peer) String() string {
	switch {
	case p.Local:
		return fmt.Sprintf("uid %d, process %d", p.UID, p.PID)
	case p.Name != "":
		return p.Role + " " + p.Name
	}
	return "nobody known"
}

type peerKey struct{}

// PeerOf is who sent the request of this context.
func PeerOf(ctx context.Context) Peer {
	p, _ := ctx.Value(peerKey{}).(Peer)
	return p
}

// WithPeer is a context of a request that p sent.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// withSocketPeer asks the kernel who is at the other end of a Unix socket.
func withSocketPeer(ctx context.Context, c net.Conn) context.Context {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return ctx
	}
	return WithPeer(ctx, Peer{Local: true, UID: cred.Uid, PID: cred.Pid})
}

type stoppingKey struct{}

// Stopping is closed when the server that serves the request of ctx begins to
// stop: what only waits should end its waiting.
func Stopping(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return c
}
