package cloudlab

import (
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	webPort    = 80
	sinkPort   = 9
	tunnelPort = 22
)

// startTraffic starts servers, the sink, and clients that use servers at arbitrary
// times.
func (w *Cloud) startTraffic() error {
	for _, m := range append([]*machine{w.master}, w.servers...) {
		if err := w.serve(m); err != nil {
			return err
		}
	}
	if err := w.listenAtSink(); err != nil {
		return err
	}
	for _, m := range append(append([]*machine(nil), w.inside...), w.outside...) {
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 1))
		w.wait.Go(func() { w.browse(m, rng) })
	}
	for i := range w.vms {
		if err := w.keepAlive(w.vms[i].Name, rand.New(rand.NewPCG(w.rng.Uint64(), 4))); err != nil {
			return err
		}
	}
	return nil
}

// keepAlive lets a machine send a small datagram to the core now and then, as a
// tunnel would (section 4.1).
func (w *Cloud) keepAlive(name string, rng *rand.Rand) error {
	var conn *net.UDPConn
	err := w.all[name].Do(func() (err error) {
		conn, err = net.DialUDP("udp", nil, &net.UDPAddr{IP: w.gateway.AsSlice(), Port: tunnelPort})
		return err
	})
	if err != nil {
		return err
	}
	w.wait.Go(func() {
		defer conn.Close()
		for w.sleep(time.Duration((2 + 4*rng.Float64()) * float64(w.c.Interval))) {
			_, _ = conn.Write([]byte("keep-alive"))
		}
	})
	return nil
}

// serve answers each request, a number of 4 bytes, with as many KB.
func (w *Cloud) serve(m *machine) error {
	var l net.Listener
	err := m.Do(func() (err error) {
		l, err = net.ListenTCP("tcp", &net.TCPAddr{IP: m.address.AsSlice(), Port: webPort})
		return err
	})
	if err != nil {
		return err
	}
	w.wait.Go(func() {
		<-w.ctx.Done()
		_ = l.Close()
	})
	w.wait.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			w.wait.Go(func() { w.answer(conn) })
		}
	})
	return nil
}

func (w *Cloud) answer(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	var request [4]byte
	if _, err := io.ReadFull(conn, request[:]); err != nil {
		return
	}
	block := make([]byte, 1000)
	for range binary.BigEndian.Uint32(request[:]) {
		if _, err := conn.Write(block); err != nil || w.ctx.Err() != nil {
			return
		}
	}
}

// request opens a connection from one machine to a server, and asks for size KB.
func (w *Cloud) request(from *machine, to netip.Addr, size uint32) (net.Conn, error) {
	var conn net.Conn
	err := from.Do(func() (err error) {
		d := net.Dialer{Timeout: 5 * time.Second}
		conn, err = d.DialContext(w.ctx, "tcp", netip.AddrPortFrom(to, webPort).String())
		return err
	})
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := conn.Write(binary.BigEndian.AppendUint32(nil, size)); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// browse opens sessions of a few files each.
func (w *Cloud) browse(m *machine, rng *rand.Rand) {
	interval := w.c.Interval.Seconds()
	pause := func(mean float64) bool { return w.sleep(time.Duration(rng.ExpFloat64() * mean * float64(time.Second))) }
	for pause(6 * interval) {
		server := w.servers[rng.IntN(len(w.servers))]
		for range 1 + rng.IntN(3) {
			d := Download{Start: time.Now()}
			d.Err = w.download(m, server.address, 10+uint32(rng.IntN(60)))
			d.Duration = time.Since(d.Start)
			if w.ctx.Err() != nil {
				return
			}
			w.mu.Lock()
			w.served = append(w.served, d)
			w.mu.Unlock()
			if !pause(interval / 2) {
				return
			}
		}
		if !w.sleep(w.c.Interval) {
			return
		}
	}
}

func (w *Cloud) download(m *machine, server netip.Addr, size uint32) error {
	conn, err := w.request(m, server, size)
	if err != nil {
		return err
	}
	defer conn.Close()
	n, err := io.Copy(io.Discard, conn)
	if err == nil && n != int64(size)*1000 {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// received counts what arrives at the sink.
type received struct {
	mu   sync.Mutex
	by   map[netip.Addr]uint64
	last map[netip.Addr]time.Time
}

func (w *Cloud) listenAtSink() error {
	w.received.by, w.received.last = map[netip.Addr]uint64{}, map[netip.Addr]time.Time{}
	var conn *net.UDPConn
	err := w.sink.Do(func() (err error) {
		conn, err = net.ListenUDP("udp", &net.UDPAddr{IP: w.sink.address.AsSlice(), Port: sinkPort})
		return err
	})
	if err != nil {
		return err
	}
	w.wait.Go(func() {
		<-w.ctx.Done()
		_ = conn.Close()
	})
	w.wait.Go(func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			w.received.mu.Lock()
			w.received.by[from.Addr().Unmap()] += uint64(n)
			w.received.last[from.Addr().Unmap()] = time.Now()
			w.received.mu.Unlock()
		}
	})
	return nil
}

// Received is how many bytes of a flooder arrived at the sink so far, and when the
// last did.
func (w *Cloud) Received(flooder netip.Addr) (uint64, time.Time) {
	w.received.mu.Lock()
	defer w.received.mu.Unlock()
	return w.received.by[flooder], w.received.last[flooder]
}
