// Package traplab plays an attack on a double honeypot in network namespaces: an
// attacker, a router that runs the trap, and an inert inbound honeypot. It is a
// test of 'dragnet-agent run trap' and a demonstration.
package traplab

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"time"

	"dragnet/simulate/variants"
)

// Marker begins every message that an inert honeypot passes on; anything else it
// receives it ignores.
var Marker = []byte("POST /dragnet-inert-test HTTP/1.1\r\nHost: test\r\n")

// Message is a marked, harmless message: a variant of a made-up family, in the
// body of an HTTP request. The bytes come from a random number generator and mean
// nothing.
func Message(family string, seed, variant uint64) ([]byte, error) {
	t, err := variants.Family(family, 1)
	if err != nil {
		return nil, err
	}
	r := variants.Published()
	r.CarrierMax = 2048
	body := r.Make(t, seed, variant).Bytes
	return append(append([]byte{}, Marker...), fmt.Appendf(nil, "Content-Length: %d\r\n\r\n%s", len(body), body)...), nil
}

// Inert is an inbound honeypot that behaves as an infected host would: when it
// receives a marked message, it sends freshly varied copies to addresses that it
// picks. It executes nothing that it receives.
type Inert struct {
	// Family is what it sends; Copies how many, to which Port of addresses in
	// Targets.
	Family  string
	Copies  int
	Port    uint16
	Targets netip.Prefix
	Seed    uint64
	// Server is told first that there is another copy, as worms fetch the rest of
	// themselves from somewhere; the zero value is none.
	Server netip.AddrPort
}

// Serve takes connections until ctx ends.
func (h *Inert) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go h.take(ctx, c)
	}
}

func (h *Inert) take(ctx context.Context, c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	start := make([]byte, len(Marker))
	if _, err := io.ReadFull(c, start); err != nil || !bytes.Equal(start, Marker) {
		return
	}
	// The rest is read so that the connection ends in order.
	r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(bytes.NewReader(start), c)))
	if err != nil {
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return
	}
	_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	if h.Server.IsValid() {
		_ = h.tell(ctx)
	}
	random := rand.New(rand.NewPCG(h.Seed, uint64(time.Now().UnixNano())))
	for range h.Copies {
		_ = h.send(ctx, random) // a target that does not answer is skipped
	}
}

// tell sends the server one marked line.
func (h *Inert) tell(ctx context.Context) error {
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "tcp", h.Server.String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	_, err = io.WriteString(c, "a copy of the dragnet test arrived\n")
	return err
}

func (h *Inert) send(ctx context.Context, random *rand.Rand) error {
	to := h.Targets.Addr().As4()
	for bit := h.Targets.Bits(); bit < 32; bit++ {
		to[bit/8] ^= byte(random.Uint32()&1) << (7 - bit%8)
	}
	m, err := Message(h.Family, h.Seed, random.Uint64()>>32)
	if err != nil {
		return err
	}
	d := net.Dialer{Timeout: 2 * time.Second}
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(netip.AddrFrom4(to), h.Port).String())
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write(m); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 512))
	return err
}
