// Package cloud makes the flows of a small cloud in which a tenant verifies
// co-residence, after the test bed of Zolotukhin et al. 2017 (section 4): web
// servers, clients within and outside, keep-alives, and the attacker's master,
// flooders and sink. No packet is sent.
package cloud

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"dragnet/detect/coresidence"
	"dragnet/flow"
)

// Configuration of a run. The paper gives the numbers of machines and the rates;
// times, sizes and waits are ours.
type Configuration struct {
	// Servers, Inside and Outside are the numbers of web servers, of clients that
	// are machines of the cloud, and of clients elsewhere.
	Servers, Inside, Outside int
	// PerTenant is how many servers, or clients, an innocent tenant has; 0 is two.
	PerTenant int
	// KeepAlive is how long the packets of a keep-alive take, every 30 s of each
	// machine; 0 is 4 ms, and none of the attacker's.
	KeepAlive time.Duration
	// Flooders are tried one after the other; with the master and a sink they are
	// the attacker's machines. 0 is a cloud without an attack.
	Flooders int
	// Tests is the number of times that each flooder is tried.
	Tests int
	// HighRate makes a flooder send ten times the flows of a server, and its turn
	// last twice as long; else it sends as many flows as a server does.
	HighRate bool
	// Masters take turns at measuring; 0 is one. Duty is the share of its tests in
	// which a flooder really sends; 0 is all. Both evade detection, and cost the
	// attacker tests.
	Masters int
	Duty    float64
	// Lag is the largest random delay, in seconds, between a download and the
	// flood that belongs to it.
	Lag int
	// Seconds is the length of the run; the attack begins after a twentieth.
	Seconds int
	Seed    uint64
}

// Paper is the test bed of section 4.1, with enough time for tests.
func Paper(tests int, highRate bool, seed uint64) Configuration {
	return Configuration{Servers: 8, Inside: 5, Outside: 8, Flooders: 2, Tests: tests, HighRate: highRate, Seconds: max(600, 80*tests), Seed: seed}
}

// Run is what the switches saw, and what really happened.
type Run struct {
	Start flow.Time
	Flows []flow.Flow
	// Attack says for each flow whether the attacker's machines made it.
	Attack []bool
	VMs    []coresidence.VM
	// Attackers holds the addresses of master, flooders and sink, Tenant theirs.
	Master   netip.Addr
	Masters  []netip.Addr // all of them; Master is the first
	Flooders []netip.Addr
	Sink     netip.Addr
	Tenant   string
	// Ends are the times at which each round of tests, one of every flooder, was
	// over.
	Ends []flow.Time
	// Levels are the attacker's alpha_min of each flooder and test; flooder 0 is
	// co-resident with the target and the others are not.
	Levels [][]float64
}

// start is 2026-01-01T00:00:00Z.
const start = flow.Time(1767225600 * int64(time.Second))

type world struct {
	c   Configuration
	rng *rand.Rand
	run *Run

	servers, inside, outside []netip.Addr
}

// Simulate makes a run; the same configuration gives the same one.
func Simulate(c Configuration) (*Run, error) {
	if c.Servers < 1 || c.Servers > 60_000 || c.Inside < 0 || c.Inside > 60_000 || c.Outside < 0 || c.Outside > 250 || c.PerTenant < 0 || c.Flooders < 0 || c.Flooders > 100 || c.Masters < 0 || c.Masters > 20 || !(c.Duty >= 0 && c.Duty <= 1) || c.Tests < 0 || c.Lag < 0 || c.Seconds < 60 || c.Seconds > 1<<16 {
		return nil, fmt.Errorf("%+v is not a cloud: it needs a server, counts that are not negative, and 60 to 65536 seconds", c)
	}
	w := &world{c: c, rng: rand.New(rand.NewPCG(c.Seed, 0x636c6f7564)), run: &Run{Start: start, Tenant: "tenant-x"}}
	w.build()
	for _, client := range slices.Concat(w.inside, w.outside) {
		w.browse(client)
	}
	for _, vm := range slices.Concat(w.servers, w.inside) {
		w.keepAlive(vm)
	}
	if c.KeepAlive > 0 { // the attacker's machines, too
		for _, vm := range slices.Concat(w.run.Masters, w.run.Flooders) {
			w.keepAlive(vm)
		}
	}
	if c.Flooders > 0 && c.Tests > 0 {
		w.attack()
	}
	w.sort()
	return w.run, nil
}

func (w *world) build() {
	vm := func(subnet, i int, tenant, name string) netip.Addr {
		a := netip.AddrFrom4([4]byte{10, byte(subnet), byte(i / 250), byte(1 + i%250)})
		w.run.VMs = append(w.run.VMs, coresidence.VM{Address: a, Tenant: tenant, Name: name})
		return a
	}
	// Tenants with several machines are among the innocent, too.
	share := cmp.Or(w.c.PerTenant, 2)
	for i := range w.c.Servers {
		w.servers = append(w.servers, vm(1, i, fmt.Sprintf("tenant-s%d", i/share), fmt.Sprintf("server-%d", i)))
	}
	for i := range w.c.Inside {
		w.inside = append(w.inside, vm(2, i, fmt.Sprintf("tenant-c%d", i/share), fmt.Sprintf("client-%d", i)))
	}
	for i := range w.c.Outside {
		w.outside = append(w.outside, netip.AddrFrom4([4]byte{198, 51, 100, byte(1 + i)}))
	}
	if w.c.Flooders > 0 {
		w.run.Master = vm(3, 0, w.run.Tenant, "master")
		w.run.Sink = vm(3, 1, w.run.Tenant, "sink")
		for i := range w.c.Flooders {
			w.run.Flooders = append(w.run.Flooders, vm(3, 2+i, w.run.Tenant, fmt.Sprintf("flooder-%d", i)))
		}
		w.run.Masters = []netip.Addr{w.run.Master}
		for i := 1; i < w.c.Masters; i++ {
			w.run.Masters = append(w.run.Masters, vm(3, 150+i, w.run.Tenant, fmt.Sprintf("master-%d", i)))
		}
	}
}

func (w *world) add(attack bool, f flow.Flow) {
	if f.Start < start || f.Start >= start+flow.Time(w.c.Seconds)*flow.Time(time.Second) {
		return
	}
	f.Proto, f.Known = flow.TCP, flow.Lasting|flow.Counts|flow.Flags
	f.OrigPort = uint16(32768 + w.rng.IntN(28000))
	w.run.Flows = append(w.run.Flows, f)
	w.run.Attack = append(w.run.Attack, attack)
}

// at is a time in seconds from the start of the run.
func at(seconds float64) flow.Time { return start + flow.Time(seconds*float64(time.Second)) }

func length(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// browse lets a client open sessions at arbitrary times, each with a few files of
// one server.
func (w *world) browse(client netip.Addr) {
	for now := w.rng.ExpFloat64() * 40; now < float64(w.c.Seconds); now += 5 + w.rng.ExpFloat64()*40 {
		server := w.servers[w.rng.IntN(len(w.servers))]
		for range w.files() {
			now += w.download(false, client, server, now, 1) + w.rng.ExpFloat64()*0.5
		}
	}
}

// files is how many a session has.
func (w *world) files() int { return 1 + w.rng.IntN(5) }

// seconds is how long a file takes.
func (w *world) seconds() float64 { return min(20, 0.4*math.Exp(w.rng.NormFloat64()*0.8)) }

// download adds one file and returns its duration; slower lengthens it.
func (w *world) download(attack bool, client, server netip.Addr, now, slower float64) float64 {
	d := w.seconds() * slower
	w.transfer(attack, client, server, now, d, 2_000_000*d/slower*(0.6+0.8*w.rng.Float64()))
	return d
}

// transfer adds a flow in which server sends bytes to client.
func (w *world) transfer(attack bool, client, server netip.Addr, now, d, bytes float64) {
	packets := max(2, bytes/1400)
	w.add(attack, flow.Flow{
		Start: at(now), Duration: length(d), Orig: client, Resp: server, RespPort: 80, State: flow.SF,
		OrigFlags: flow.SYN | flow.ACK | flow.PSH | flow.FIN, RespFlags: flow.SYN | flow.ACK | flow.PSH | flow.FIN,
		OrigPkts: uint64(packets/2) + 4, OrigIPBytes: uint64(packets/2)*40 + 400, RespPkts: uint64(packets), RespIPBytes: uint64(bytes),
	})
}

// keepAlive adds the packets of an SSH tunnel that is open all the time.
func (w *world) keepAlive(vm netip.Addr) {
	for now := w.rng.Float64() * 30; now < float64(w.c.Seconds); now += 30 {
		w.add(false, flow.Flow{
			Start: at(now), Duration: cmp.Or(w.c.KeepAlive, 4*time.Millisecond), Orig: netip.AddrFrom4([4]byte{203, 0, 113, 7}), Resp: vm, RespPort: 22, State: flow.OTH,
			OrigFlags: flow.ACK | flow.PSH, RespFlags: flow.ACK | flow.PSH, OrigPkts: 2, OrigIPBytes: 160, RespPkts: 1, RespIPBytes: 80,
		})
	}
}

func (w *world) sort() {
	order := make([]int, len(w.run.Flows))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return int(min(1, max(-1, w.run.Flows[a].Start-w.run.Flows[b].Start))) })
	flows, attack := make([]flow.Flow, len(order)), make([]bool, len(order))
	for k, i := range order {
		flows[k], attack[k] = w.run.Flows[i], w.run.Attack[i]
	}
	w.run.Flows, w.run.Attack = flows, attack
}
