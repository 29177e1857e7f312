package api

import (
	"context"
	"crypto/x509"
	"fmt"
	"net"

	"dragnet/internal/admission"

	"golang.org/x/sys/unix"
)

// Peer identifies the other end of a connection.
type Peer struct {
	// Certificate is the peer's TLS certificate, issued by the node's authority;
	// nil if it showed none.
	Certificate *x509.Certificate
	// Local is whether the peer is a process of this machine that was allowed to
	// open the Unix socket. UID and PID are from the kernel.
	Local bool
	UID   uint32
	PID   int32
	// Name and Role are those of the certificate's owner, if it is a member.
	Name, Role string
}

// String describes the peer, for logs.
func (p Peer) String() string {
	switch {
	case p.Local:
		return fmt.Sprintf("uid %d, process %d", p.UID, p.PID)
	case p.Name != "":
		return p.Role + " " + p.Name
	}
	return "unknown peer"
}

type peerKey struct{}

// PeerOf returns the sender of the request of ctx.
func PeerOf(ctx context.Context) Peer {
	p, _ := ctx.Value(peerKey{}).(Peer)
	return p
}

// WithPeer returns a context of a request that p sent.
func WithPeer(ctx context.Context, p Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, p)
}

// withSocketPeer asks the kernel for the process at the other end of a Unix socket.
func withSocketPeer(ctx context.Context, c net.Conn) context.Context {
	ctx = admission.ConnContext(ctx, c)
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

// Stopping returns a channel that is closed when the server of ctx's request
// begins to stop: requests that only wait should then return.
func Stopping(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(stoppingKey{}).(<-chan struct{})
	return c
}
