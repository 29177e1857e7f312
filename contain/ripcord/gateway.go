//go:build linux

package ripcord

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/tables"
	"dragnet/internal/metric"
	"dragnet/internal/run"
)

const (
	eventsEvery = 50 * time.Millisecond
	connsEvery  = time.Second
	sweepEvery  = 5 * time.Second
	secretEvery = time.Hour
)

// Gateway runs the programs in the kernel.
type Gateway struct {
	config Configuration
	log    *slog.Logger

	lock      *os.File // of the pins
	wire      *bpf.Wire
	events    *bpf.Events
	frames    *bpf.Frames
	host, net *net.Interface
	observe   bool
	record    *record
	responder *responder
	leases    *leases
	tally     tally
	unplugged backoff // used by run only
	// warned are the counters at the last sweep.
	warned [tables.Reasons]uint64
	swept  bool
	// kept is the number of connections of IPv4 and IPv6 after the last sweep.
	kept [2]int

	mu       sync.Mutex // guards requests
	requests *requests

	counted *prometheus.CounterVec // what the programs count, by reason
	pulls   *prometheus.CounterVec // by answer
	stops   prometheus.Gauge
	found   prometheus.Counter
	group   *run.Group
}

// Dependencies of a gateway.
type Dependencies struct {
	Log *slog.Logger
	// Metrics may be nil. Who serves them must listen before the process is confined.
	Metrics prometheus.Registerer
}

// New returns a gateway that is not started.
func New(config Configuration, d Dependencies) *Gateway {
	m := metric.Under(d.Metrics, "dragnet_ripcord_")
	return &Gateway{
		config: config, log: d.Log, group: run.NewGroup(), requests: newRequests(config.Findings),
		pulls:   m.Counters("pulls_total", "Requests to end a conversation that were answered, by answer.", "status"),
		stops:   m.Gauge("stops", "Conversations that are ended at present, TCP connections apart."),
		found:   m.Counter("findings_total", "Findings that the host was asked to be silent by several networks."),
		counted: m.Counters("events_total", "What the programs in the kernel did with packets, and why, since this process started.", "reason"),
	}
}

// Start loads the programs, or takes over those already running, and returns
// once they are attached. It needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and
// CAP_PERFMON; Confine drops what is not needed afterwards.
func (g *Gateway) Start(context.Context) error {
	if err := g.openParts(); err != nil {
		return errors.Join(err, g.closeParts())
	}
	links := make(chan netlink.LinkUpdate, 16)
	if err := netlink.LinkSubscribe(links, g.group.Context().Done()); err != nil {
		return errors.Join(fmt.Errorf("watch interfaces: %w", err), g.closeParts())
	}
	g.group.GoWithoutError(func(ctx context.Context) { g.run(ctx, links) })
	g.group.GoWithoutError(g.answerMessages)
	g.group.GoWithoutError(func(context.Context) {
		if err := g.leases.watchDHCP(g.allowLease); err != nil {
			g.log.Error("watch DHCP failed", "err", err)
		}
	})
	g.log.Info("gateway started", "host", g.config.Host, "network", g.config.Network, "enforce", !g.observe, "resumed", g.wire.Resumed)
	return nil
}

func (g *Gateway) openParts() (err error) {
	c := &g.config
	if g.host, err = prepareInterface(c.Host); err != nil {
		return err
	}
	if g.net, err = prepareInterface(c.Network); err != nil {
		return err
	}
	if g.host.MTU != g.net.MTU {
		g.log.Warn("interfaces differ in MTU: larger packets will be lost", "host_mtu", g.host.MTU, "network_mtu", g.net.MTU)
	}
	if err := CheckPins(c.Pins); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Pins, 0o700); err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	if g.lock, err = awaitPins(c.Pins); err != nil {
		return err
	}
	if err := bpf.CheckUnowned(c.Pins, g.host.Index, g.net.Index); err != nil {
		return err
	}
	if g.record, err = openRecord(c); err != nil {
		return err
	}
	g.observe = !g.record.isActive()
	g.wire, err = bpf.Load(bpf.Options{
		Host: g.host.Index, Net: g.net.Index, Settings: c.kernelSettings(g.observe), Pins: c.Pins,
		Room: [2]uint32{uint32(c.Connections.IPv4), uint32(c.Connections.IPv6)}, HalfOpen: uint32(c.Connections.HalfOpen),
	})
	if err != nil {
		return err
	}
	if g.events, err = g.wire.Events(); err != nil {
		return err
	}
	if g.frames, err = g.wire.Frames(); err != nil {
		return err
	}
	if g.responder, err = openResponder(g); err != nil {
		return err
	}
	if g.leases, err = openLeases(g.net.Index); err != nil {
		return err
	}
	if err := errors.Join(g.newSecret(), g.fixSources(), g.logWarnings()); err != nil {
		return err
	}
	if err := g.wire.Attach(g.host.Index, g.net.Index); err != nil {
		return err
	}
	return nil
}

// prepareInterface makes an interface carry all packets and send none itself.
func prepareInterface(name string) (*net.Interface, error) {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	if err := os.WriteFile(disableIPv6(name), []byte("1"), 0); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("interface %s: switch off its own IPv6: %w", name, err)
	}
	if err := errors.Join(netlink.LinkSetARPOff(l), netlink.SetPromiscOn(l), netlink.LinkSetUp(l)); err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	return net.InterfaceByName(name)
}

// CheckPins checks that a folder lies in a BPF file system.
func CheckPins(dir string) error {
	var fs unix.Statfs_t
	err := unix.Statfs(filepath.Dir(dir), &fs)
	if err == nil && fs.Type != unix.BPF_FS_MAGIC {
		err = errors.New("is not in a BPF file system: 'mount -t bpf bpf /sys/fs/bpf' makes one")
	}
	if err != nil {
		return fmt.Errorf("pins %s: %w", dir, err)
	}
	return nil
}

func (g *Gateway) newSecret() error {
	var b [16]byte
	rand.Read(b[:])
	return g.wire.SetSecret([2]uint64{binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint64(b[8:])})
}

// run does the periodic work until ctx ends.
func (g *Gateway) run(ctx context.Context, links <-chan netlink.LinkUpdate) {
	events, sweep, secret := time.NewTicker(eventsEvery), time.NewTicker(sweepEvery), time.NewTicker(secretEvery)
	conns := time.NewTicker(connsEvery)
	defer conns.Stop()
	defer events.Stop()
	defer sweep.Stop()
	defer secret.Stop()
	note := func(what string, err error) {
		if err != nil {
			g.log.Error(what, "err", err)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-events.C:
			note("read events failed", g.events.Drain(g.handleEvent))
		case <-conns.C:
			note("sweep connections failed", g.sweepConns(bootMS()))
		case <-sweep.C:
			note("sweep tables failed", g.sweepTables(bootMS()))
			g.tally.logCounts(g.log)
		case <-secret.C:
			note("change the secret failed", g.newSecret())
		case l, ok := <-links:
			switch {
			case !ok:
				g.group.Fail(errors.New("the kernel stopped reporting changes of interfaces"))
				links = nil
			case l.Header.Type == unix.RTM_DELLINK && (l.Attrs().Index == g.host.Index || l.Attrs().Index == g.net.Index):
				// The programs are gone with it, and another interface needs others.
				g.group.Fail(fmt.Errorf("interface %s was removed: no packets pass until the gateway is started again, with the interface there", l.Attrs().Name))
				links = nil
			case l.Attrs().Index == g.host.Index && l.Attrs().RawFlags&unix.IFF_RUNNING == 0:
				note("remove addresses after link loss failed", g.forgetSources())
			}
		}
	}
}

// Failed receives the reason why the gateway does not work any more.
func (g *Gateway) Failed() <-chan error { return g.group.Failed() }

// Stop ends the work of this process. The programs keep running, so that no
// connection is lost until the next Start; Remove takes them out.
func (g *Gateway) Stop(context.Context) error {
	err := g.closeParts()
	g.tally.logCounts(g.log)
	return err
}

func (g *Gateway) closeParts() error {
	var errs []error
	if g.frames != nil {
		errs = append(errs, g.frames.Close())
	}
	if g.responder != nil {
		errs = append(errs, g.responder.closeSocket())
	}
	if g.leases != nil {
		errs = append(errs, g.leases.file.Close())
	}
	// What was closed ends the goroutines that read it; the others use what is
	// closed below.
	errs = append(errs, g.group.Stop(context.Background()))
	if g.events != nil {
		errs = append(errs, g.events.Drain(g.handleEvent), g.events.Close())
	}
	if g.record != nil {
		errs = append(errs, g.record.close())
	}
	if g.wire != nil {
		errs = append(errs, g.wire.Close())
	}
	if g.lock != nil {
		errs = append(errs, g.lock.Close())
	}
	return errors.Join(errs...)
}

// bootMS is the programs' clock, in milliseconds.
func bootMS() uint32 { return uint32(bootNS() / 1_000_000) }

func bootNS() uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic(err) // every kernel that loads the programs has this clock
	}
	return uint64(ts.Nano())
}
