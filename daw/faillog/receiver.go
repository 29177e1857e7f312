package faillog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/conf"
)

// Configuration of a receiver.
type Configuration struct {
	// Listen is the UDP address for syslog, such as "192.0.2.1:514"; empty does
	// not listen.
	Listen string `yaml:"listen"`
	// Devices are the trusted firewalls; messages of all others are counted and
	// ignored. A source address over UDP proves little, so the network must
	// keep others from using theirs.
	Devices []netip.Prefix `yaml:"devices"`
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Listen == "" || len(c.Devices) > 0, "devices", "is empty: name the firewalls whose logs are trusted")
	return p.Join()
}

// Receiver receives drop logs over UDP.
type Receiver struct {
	c    Configuration
	take func(daw.FailLog)

	// Counts of datagrams.
	Taken, Other, Broken, Strangers atomic.Uint64
}

// New makes a receiver; take is called for each message, from one goroutine.
func New(c Configuration, take func(daw.FailLog)) (*Receiver, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	return &Receiver{c: c, take: take}, nil
}

// Run receives on conn until ctx ends; Listen opens one.
func (r *Receiver) Run(ctx context.Context, conn *net.UDPConn) error {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	buffer := make([]byte, longest+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buffer)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("receive drop logs: %w", err)
		}
		r.handleDatagram(buffer[:n], from.Addr().Unmap())
	}
}

// Listen opens the socket that the configuration names.
func (r *Receiver) Listen() (*net.UDPConn, error) {
	at, err := net.ResolveUDPAddr("udp", r.c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen for drop logs on %q: %w", r.c.Listen, err)
	}
	return net.ListenUDP("udp", at)
}

func (r *Receiver) handleDatagram(b []byte, from netip.Addr) {
	if !flow.Within(r.c.Devices, from) {
		r.Strangers.Add(1)
		return
	}
	switch l, err := Parse(b, from.String(), flow.FromTime(time.Now())); {
	case err == nil:
		r.Taken.Add(1)
		r.take(l)
	case errors.Is(err, ErrOther):
		r.Other.Add(1)
	default:
		r.Broken.Add(1)
	}
}
