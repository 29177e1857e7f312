package cloudlab

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/simulate/cloud"
)

const (
	// bin is the length in which the master counts what arrives.
	bin = 30 * time.Millisecond
	// datagram is the size of a flooder's, in bytes.
	datagram = 1200
)

// Observe lets ordinary traffic go on for a time, and returns what the switches
// exported of it.
func (w *Cloud) Observe(d time.Duration) (*cloud.Run, error) {
	run := &cloud.Run{Start: flow.FromTime(time.Now()), VMs: w.vms, Tenant: attackerTenant}
	if !w.sleep(d) {
		return nil, w.ctx.Err()
	}
	run.Ends = []flow.Time{flow.FromTime(time.Now())}
	return run, w.finish(run)
}

// finish adds the flows to a run.
func (w *Cloud) finish(run *cloud.Run) error {
	// What is still in the switches' caches comes within a few seconds.
	if !w.sleep(5 * time.Second) {
		return w.ctx.Err()
	}
	attackers := map[netip.Addr]bool{w.master.address: true, w.sink.address: true}
	for _, m := range w.flooders {
		attackers[m.address] = true
	}
	for _, f := range w.Flows() {
		if f.Start >= run.Start && f.Start < run.Ends[len(run.Ends)-1] {
			run.Flows = append(run.Flows, f)
			run.Attack = append(run.Attack, f.RespPort != tunnelPort && (attackers[f.Orig] || attackers[f.Resp]))
		}
	}
	return nil
}

// Attack runs the rounds of section 4.2: the master downloads from the victim
// alone, then while each flooder in turn sends to the sink, and compares. It
// returns what the switches exported meanwhile, and what really happened.
func (w *Cloud) Attack() (*cloud.Run, error) {
	run := &cloud.Run{
		Start: flow.FromTime(time.Now()), VMs: w.vms, Tenant: attackerTenant, Master: w.master.address, Flooders: w.Flooders(), Sink: w.sink.address,
		Levels: make([][]float64, len(w.flooders)),
	}
	// Traffic before the attack is part of the picture.
	if !w.sleep(6 * w.c.Interval) {
		return nil, w.ctx.Err()
	}
	for range w.c.Rounds {
		alone, err := w.measure(nil)
		if err != nil {
			return nil, err
		}
		for k, flooder := range w.flooders {
			counts, err := w.measure(flooder)
			if err != nil {
				return nil, err
			}
			run.Levels[k] = append(run.Levels[k], cloud.AlphaMin(counts, alone))
		}
		run.Ends = append(run.Ends, flow.FromTime(time.Now()))
	}
	return run, w.finish(run)
}

// measure counts the bytes that arrive in each bin of a download, while a flooder
// sends, and waits for a random time.
func (w *Cloud) measure(flooder *machine) ([]float64, error) {
	d := w.c.Interval * 6 / 5
	if flooder != nil {
		delay := time.Duration(w.rng.IntN(w.c.Lag+1)) * w.c.Interval
		rng := rand.New(rand.NewPCG(w.rng.Uint64(), 2))
		w.wait.Go(func() {
			if w.sleep(delay) {
				_ = w.flood(flooder, d, rng)
			}
		})
	}
	counts, err := w.count(d)
	if err != nil {
		return nil, fmt.Errorf("the master's download: %w", err)
	}
	wait := 2*w.c.Interval + time.Duration(w.rng.ExpFloat64()*2*float64(w.c.Interval))
	if !w.sleep(min(wait, 10*w.c.Interval)) {
		return nil, w.ctx.Err()
	}
	return counts, nil
}

// count downloads from the victim for a time, and counts bytes by bin.
func (w *Cloud) count(d time.Duration) ([]float64, error) {
	conn, err := w.request(w.master, w.servers[0].address, 1<<20)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	started := time.Now()
	_ = conn.SetReadDeadline(started.Add(d))
	counts := make([]float64, d/bin)
	buf := make([]byte, 1<<16)
	for {
		n, err := conn.Read(buf)
		if k := int(time.Since(started) / bin); k < len(counts) {
			counts[k] += float64(n)
		}
		if err != nil {
			return counts, nil // its time is over
		}
	}
}

// flood sends datagrams to the sink at four fifths of an uplink's rate.
func (w *Cloud) flood(m *machine, d time.Duration, rng *rand.Rand) error {
	flows := 1
	if w.c.HighRate {
		flows = 10
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range flows {
		err := m.Do(func() error {
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(w.sink.address, sinkPort)))
			if err == nil {
				conns = append(conns, c)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	payload := make([]byte, datagram)
	for i := range payload {
		payload[i] = byte(rng.Uint32())
	}
	bytesPerSecond := float64(w.c.Uplink) * 1e6 / 8 * 0.8
	sent, started := 0.0, time.Now()
	for at := time.Duration(0); at < d; at = time.Since(started) {
		for ; sent < at.Seconds()*bytesPerSecond; sent += datagram {
			_, _ = conns[int(sent/datagram)%flows].Write(payload) // a full queue drops
		}
		if !w.sleep(2 * time.Millisecond) {
			return w.ctx.Err()
		}
	}
	return nil
}

// Flood lets flooder k send for a time.
func (w *Cloud) Flood(k int, d time.Duration) error {
	return w.flood(w.flooders[k], d, rand.New(rand.NewPCG(uint64(k), 3)))
}

// Measure is the rate at which the master downloads from the victim, in bytes per
// second, while flooder k sends; k is -1 for none.
func (w *Cloud) Measure(k int) (float64, error) {
	var m *machine
	if k >= 0 {
		m = w.flooders[k]
	}
	counts, err := w.measure(m)
	total := 0.0
	for _, n := range counts {
		total += n
	}
	return total / (float64(len(counts)) * bin.Seconds()), err
}
