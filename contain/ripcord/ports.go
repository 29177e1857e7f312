//go:build linux

package ripcord

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dragnet/internal/run"
)

// Gateways are those of all hosts of a configuration, in one process.
type Gateways struct {
	config Configuration
	log    *slog.Logger
	group  *run.Group
	all    []*portGateway

	mu sync.Mutex // guards what is below, and attached of all
	// present are the machine's interfaces, by index. The confined process may not ask.
	present map[int]string
}

// portGateway is the gateway of one port; without ports there is one.
type portGateway struct {
	*Gateway
	name string // of the port
	// attached is false while an interface of a port is not there.
	attached bool
}

// NewGateways returns gateways that are not started.
func NewGateways(c Configuration, d Dependencies) *Gateways {
	g := &Gateways{config: c, log: d.Log, group: run.NewGroup(), present: map[int]string{}}
	for i, one := range c.ForPorts() {
		p, own := &portGateway{}, d
		if len(c.Ports) > 0 {
			p.name = c.Ports[i].Name
			own.Log = d.Log.With("port", p.name)
			if d.Metrics != nil {
				own.Metrics = prometheus.WrapRegistererWith(prometheus.Labels{"port": p.name}, d.Metrics)
			}
		}
		p.Gateway = New(one, own)
		g.all = append(g.all, p)
	}
	return g
}

// Start starts them all. A port whose interfaces are not there is started by the next
// start of the process, which ends when they come: only a new process has the
// privileges to load programs.
func (g *Gateways) Start(ctx context.Context) error {
	links := make(chan netlink.LinkUpdate, 256)
	if err := netlink.LinkSubscribe(links, g.group.Context().Done()); err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	there, err := netlink.LinkList()
	if err != nil {
		return errors.Join(fmt.Errorf("list interfaces: %w", err), g.Stop(ctx))
	}
	for _, l := range there {
		g.present[l.Attrs().Index] = l.Attrs().Name
	}
	g.warnLeftovers()
	for _, p := range g.all {
		switch err := p.Start(ctx); {
		case err == nil:
			g.mu.Lock()
			p.attached = true
			g.mu.Unlock()
			g.group.GoWithoutError(func(ctx context.Context) { g.watchPort(ctx, p) })
		case p.name != "" && errors.As(err, &netlink.LinkNotFoundError{}):
			g.log.Warn("a port waits for its interfaces", "port", p.name, "err", err)
		default:
			return errors.Join(err, g.Stop(ctx))
		}
	}
	g.group.GoWithoutError(func(ctx context.Context) { g.awaitInterfaces(ctx, links) })
	return nil
}

// warnLeftovers names ports that are not configured any more, whose programs go on.
func (g *Gateways) warnLeftovers() {
	found, _ := filepath.Glob(g.config.Pins + "-*") // the pattern is valid: pins holds no meta characters, or nothing is found
	for _, dir := range found {
		if !slices.ContainsFunc(g.all, func(p *portGateway) bool { return p.config.Pins == dir }) {
			g.log.Warn("the programs of a port that is not configured go on in the kernel; configure it again and run 'dragnet-agent ripcord remove --port'",
				"port", strings.TrimPrefix(dir, g.config.Pins+"-"))
		}
	}
}

// watchPort ends a port that failed. The others go on.
func (g *Gateways) watchPort(ctx context.Context, p *portGateway) {
	select {
	case <-ctx.Done():
	case err := <-p.Failed():
		if p.name == "" {
			g.group.Fail(err)
			return
		}
		g.log.Error("a port does not work any more; it waits for its interfaces", "port", p.name, "err", err)
		if err := g.detach(ctx, p); err != nil {
			g.log.Error("stop a port failed", "port", p.name, "err", err)
		}
		g.checkWaiting() // they may be back already
	}
}

// awaitInterfaces ends the process when a port that waits can be attached.
func (g *Gateways) awaitInterfaces(ctx context.Context, links <-chan netlink.LinkUpdate) {
	for {
		select {
		case <-ctx.Done():
			return
		case l, ok := <-links:
			if !ok {
				g.group.Fail(errors.New("the kernel stopped reporting changes of interfaces"))
				return
			}
			g.mu.Lock()
			if l.Header.Type == unix.RTM_NEWLINK {
				g.present[l.Attrs().Index] = l.Attrs().Name
			} else {
				delete(g.present, l.Attrs().Index)
			}
			g.mu.Unlock()
			g.checkWaiting()
		}
	}
}

func (g *Gateways) checkWaiting() {
	g.mu.Lock()
	defer g.mu.Unlock()
	names := slices.Collect(maps.Values(g.present))
	for _, p := range g.all {
		if p.name != "" && !p.attached && slices.Contains(names, p.config.Host) && slices.Contains(names, p.config.Network) {
			g.group.Fail(fmt.Errorf("the interfaces of port %s are there: start again to attach it; the others lose nothing meanwhile", p.name))
		}
	}
}

// detach stops a port once.
func (g *Gateways) detach(ctx context.Context, p *portGateway) error {
	g.mu.Lock()
	was := p.attached
	p.attached = false
	g.mu.Unlock()
	if !was {
		return nil
	}
	return p.Stop(ctx)
}

// Failed receives the reason why the process should end.
func (g *Gateways) Failed() <-chan error { return g.group.Failed() }

// Stop ends the work of this process. The programs keep running.
func (g *Gateways) Stop(ctx context.Context) error {
	errs := []error{g.group.Stop(ctx)}
	for _, p := range slices.Backward(g.all) {
		errs = append(errs, g.detach(ctx, p))
	}
	return errors.Join(errs...)
}

// ownedFiles are what the agent writes in its state; folders come last, since
// afterwards only their new owner may look into them.
func (g *Gateways) ownedFiles() (all []string) {
	for _, p := range g.all {
		state := p.config.State
		all = append(all, decisionFile(state), ReceiptFile(state), olderName(ReceiptFile(state)), FindingsFile(state), state)
	}
	if len(g.config.Ports) > 0 {
		all = append(all, g.config.State)
	}
	return all
}

// giveFiles makes a user the owner of what the agent writes.
func (g *Gateways) giveFiles(uid, gid int) error {
	for _, name := range g.ownedFiles() {
		if err := os.Lchown(name, uid, gid); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("change the owner of the state: %w", err)
		}
	}
	return nil
}
