// Package client asks an ident daemon one question. The other side may be
// anything: a STOP daemon, another ident daemon, or an attacker's program that
// never answers or never stops.
package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"dragnet/trace/protocol"
)

// Port is where ident daemons listen.
const Port = 113

// Ask sends q and reads one answer; the context's deadline bounds all of it.
// From is the address to ask from, since the asked host takes it for the other
// end of the connection; the zero Addr leaves the choice to the system.
func Ask(ctx context.Context, from netip.Addr, to netip.AddrPort, q protocol.Request) (protocol.Reply, error) {
	conn, err := Dial(ctx, from, to)
	if err != nil {
		return protocol.Reply{}, err
	}
	return Exchange(ctx, conn, q)
}

// Dial opens the connection for Exchange.
func Dial(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	var d net.Dialer
	if from.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, describeError(err)
	}
	return conn, nil
}

// Exchange sends q over conn, reads one answer and closes conn.
func Exchange(ctx context.Context, conn net.Conn, q protocol.Request) (protocol.Reply, error) {
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		conn.SetDeadline(deadline)
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := conn.Write([]byte(q.String() + "\r\n")); err != nil {
		return protocol.Reply{}, describeError(err)
	}
	line, err := protocol.ReadLine(protocol.NewReader(conn))
	if err != nil {
		return protocol.Reply{}, describeError(err)
	}
	r, err := protocol.ParseReply(line)
	if err != nil {
		return protocol.Reply{}, err
	}
	if r.Ports != q.Ports && (r.Error == "" || r.Ports != protocol.Ports{}) {
		return protocol.Reply{}, fmt.Errorf("the answer is about %d,%d, not %d,%d", r.Asked, r.Asking, q.Asked, q.Asking)
	}
	return r, nil
}

// describeError shortens a system error to what an investigator needs.
func describeError(err error) error {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("connection refused")
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return errors.New("unreachable")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return errors.New("no answer in time")
	case errors.Is(err, protocol.ErrLineTooLong):
		return errors.New("the answer is longer than 1000 characters")
	case errors.Is(err, syscall.ECONNRESET):
		return errors.New("connection reset")
	}
	if err.Error() == "EOF" {
		return errors.New("closed without an answer")
	}
	return err
}
