// Package cloudlab is a small cloud of network namespaces in which a tenant
// verifies co-residence for real, after the test bed of Zolotukhin et al. 2017
// (section 4.1): bridges of Open vSwitch are the servers, the uplink of each is the
// network interface that its machines share, and machines are namespaces with web
// servers, clients, and the attacker's master, flooders and sink.
//
// It attacks nothing but what it has built: no address is taken from outside, and
// no namespace has a way out.
package cloudlab

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"os"
	"sync"
	"time"

	"dragnet/detect/coresidence"
	"dragnet/flow"
	"dragnet/internal/netlab"
	"dragnet/source/collect"
)

// Export is the protocol by which the switches export flows.
type Export string

// The protocols that Open vSwitch has.
const (
	NetFlow Export = "netflow"
	IPFIX   Export = "ipfix"
	SFlow   Export = "sflow"
)

// Configuration of a cloud.
type Configuration struct {
	// Bridges are the servers (section 4.1 has four). Web servers and clients
	// inside are spread over them; the victim and flooder 0 are at the first, all
	// other machines of the attacker at the second.
	Bridges                            int
	Servers, Inside, Outside, Flooders int
	// Rounds of the attack: in each the master measures alone, and then with each
	// flooder.
	Rounds int
	// HighRate makes a flooder send ten flows instead of one.
	HighRate bool
	// Interval is that of the detector; a measurement is a little longer, and
	// waits are some intervals.
	Interval time.Duration
	// Lag is the largest delay of a flood, in intervals.
	Lag int
	// Uplink is the rate of each shared interface, in Mbit/s.
	Uplink int
	Export Export
	// Sampling is N if sFlow exports one packet of N.
	Sampling int
	// Collectors are further addresses in the host's namespace to which the
	// switches export.
	Collectors []string
	Seed       uint64
}

// Short takes about a minute, Paper has the machines of section 4.1 and takes about
// five.
func Short() Configuration {
	return Configuration{Bridges: 2, Servers: 3, Inside: 3, Outside: 3, Flooders: 2, Rounds: 6, Interval: 500 * time.Millisecond, Uplink: 20, Export: NetFlow, Sampling: 8, Seed: 1}
}

// Paper is the test bed of the paper.
func Paper() Configuration {
	c := Short()
	c.Bridges, c.Servers, c.Inside, c.Outside, c.Rounds = 4, 8, 5, 8, 40
	return c
}

// Validate reports the first setting that makes no sense.
func (c *Configuration) Validate() error {
	switch {
	case c.Bridges < 2 || c.Bridges > 16:
		return fmt.Errorf("%d bridges: 2 to 16 are possible", c.Bridges)
	case c.Servers < 1 || c.Inside < 0 || c.Outside < 0 || c.Servers+c.Inside+c.Outside > 100:
		return fmt.Errorf("1 to 100 servers and clients are possible")
	case c.Flooders < 1 || c.Flooders > 8 || c.Rounds < 0 || c.Rounds > 1000:
		return fmt.Errorf("1 to 8 flooders and at most 1000 rounds are possible")
	case c.Interval < 200*time.Millisecond || c.Interval > time.Minute || c.Lag < 0 || c.Lag > 20:
		return fmt.Errorf("an interval of 200ms to 1m and a lag of 0 to 20 are possible")
	case c.Uplink < 5 || c.Uplink > 100:
		return fmt.Errorf("an uplink of 5 to 100 Mbit/s is possible")
	case c.Export != NetFlow && c.Export != IPFIX && c.Export != SFlow:
		return fmt.Errorf("export %q is none of netflow, ipfix and sflow", c.Export)
	case c.Export == SFlow && (c.Sampling < 1 || c.Sampling > 1000):
		return fmt.Errorf("sampling one of %d packets: 1 to 1000 are possible", c.Sampling)
	}
	return nil
}

// machine is a namespace with one interface.
type machine struct {
	*netlab.Node
	name    string
	address netip.Addr
}

// Cloud is a running one.
type Cloud struct {
	c      Configuration
	lab    *netlab.Lab
	host   *netlab.Node
	dir    string
	rng    *rand.Rand
	ctx    context.Context // ends the traffic
	cancel context.CancelFunc
	wait   sync.WaitGroup

	// Switch is Open vSwitch with all bridges.
	Switch *netlab.VirtualSwitch

	servers, inside, outside []*machine
	master, sink             *machine
	flooders                 []*machine
	vms                      []coresidence.VM
	all                      map[string]*machine // by name
	gateway                  netip.Addr          // where keep-alives go

	collector *collect.Collector
	received  received // at the sink

	mu     sync.Mutex // guards what follows
	flows  []flow.Flow
	served []Download
}

// Download is one transfer of a client that has nothing to do with the attack.
type Download struct {
	Start    time.Time
	Duration time.Duration
	Err      error
}

// New builds a cloud and starts its ordinary traffic, which ends with ctx. It needs
// root.
func New(ctx context.Context, c Configuration) (*Cloud, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	lab, err := netlab.New()
	if err != nil {
		return nil, err
	}
	w := &Cloud{c: c, lab: lab, all: map[string]*machine{}, rng: rand.New(rand.NewPCG(c.Seed, 0x6c6162))}
	w.ctx, w.cancel = context.WithCancel(ctx)
	if err := w.build(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

// Close ends all and removes it.
func (w *Cloud) Close() error {
	w.cancel()
	w.wait.Wait()
	var errs []error
	if w.collector != nil {
		errs = append(errs, w.collector.Stop(context.Background()))
		w.collector = nil
	}
	errs = append(errs, w.lab.Close())
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}

// Bridges are the names of the bridges that are servers, in order.
func (w *Cloud) Bridges() (all []string) {
	for k := range w.c.Bridges {
		all = append(all, bridgeName(k))
	}
	return all
}

func bridgeName(k int) string { return fmt.Sprintf("br%d", k) }

// Flows are those that the switches exported until now.
func (w *Cloud) Flows() []flow.Flow {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]flow.Flow(nil), w.flows...)
}

// Downloads are those of clients until now.
func (w *Cloud) Downloads() []Download {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]Download(nil), w.served...)
}

// Master, Flooders and Sink are the attacker's machines.
func (w *Cloud) Master() netip.Addr { return w.master.address }

// Flooders are in the order in which they are tried; the first is co-resident with
// the victim.
func (w *Cloud) Flooders() (all []netip.Addr) {
	for _, m := range w.flooders {
		all = append(all, m.address)
	}
	return all
}

// Sink is where flooders send to.
func (w *Cloud) Sink() netip.Addr { return w.sink.address }

// startCollector receives exports in the host's namespace. A conversation is
// reported in parts of an interval.
func (w *Cloud) startCollector() error {
	c := collect.DefaultConfiguration()
	c.Exporters = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	c.Listen = []string{"127.0.0.1:2055"}
	c.ReceiveBuffer = 1 << 20
	c.Join.Longest, c.Join.Wait, c.Join.Linger = w.c.Interval, 2*time.Second, 100*time.Millisecond
	var err error
	if w.collector, err = collect.New(c, collect.Dependencies{Log: slog.New(slog.DiscardHandler)}); err != nil {
		return err
	}
	if err := w.host.Do(func() error { return w.collector.Start(w.ctx) }); err != nil {
		return err
	}
	w.wait.Go(func() {
		for w.sleep(100 * time.Millisecond) {
			w.take()
		}
	})
	return nil
}

func (w *Cloud) take() {
	_ = w.collector.Take(func(batch []flow.Flow) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.flows = append(w.flows, batch...)
		return nil
	})
}

// sleep waits, and reports whether the cloud goes on.
func (w *Cloud) sleep(d time.Duration) bool {
	select {
	case <-w.ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
