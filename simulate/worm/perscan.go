package worm

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"dragnet/daw"
	"dragnet/flow"
)

// PerScan simulates the same worm scan by scan: every infected host draws every
// address, every request and reply goes through the limiter of package daw at
// the edge of its network. It is exact but slow, for small worlds: the fast
// simulator is tested against it. Budget is not used, the limiter decides.
func PerScan(ctx context.Context, c Configuration) (*Outbreak, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Strategy != Random || c.Space > 1<<24 || c.Zones != 1 || c.Defence == Spatial {
		return nil, errors.New("simulation: scan by scan, worms scan at random, space is at most 2^24, there is one zone, and the defence is not the spatial limit alone")
	}
	p := &perScan{world: newWorld(c), at: map[uint32]int32{}}
	for id := range p.networks {
		for range p.networks[id].size {
			for {
				a := uint32(p.draw.Int64N(int64(c.Space)))
				if _, taken := p.at[a]; !taken {
					p.at[a] = int32(id)
					break
				}
			}
		}
	}
	p.edges = make([]*daw.Edge, len(p.networks))
	return p.run(ctx)
}

type perScan struct {
	*world
	now   float64
	heap  heap
	at    map[uint32]int32 // the vulnerable addresses and their networks
	hosts []int32          // the infected hosts' networks
	alive []bool
	left  int // infected hosts that still scan
	edges []*daw.Edge
	days  []int // per network: the day Persistent was last asked for
	port  uint16
}

// dawn is the instant at which the simulated time starts: a midnight.
const dawn = 20000 * 24 * time.Hour

func (p *perScan) simulatedTime() flow.Time { return flow.Time(dawn) + flow.Time(p.now*1e9) }

func (p *perScan) run(ctx context.Context) (*Outbreak, error) {
	p.days = make([]int, len(p.networks))
	if err := p.infectHost(p.drawVictim(0)); err != nil {
		return nil, err
	}
	end, need := p.c.MaxDays*Day, p.c.Until*float64(p.total)
	for n := 0; ; n++ {
		switch {
		case n%checkEvery == 0 && ctx.Err() != nil:
			return nil, ctx.Err()
		case float64(p.infected) >= need:
			return p.makeResult(p.now, false), nil
		case p.left == 0:
			return p.makeResult(p.now, true), nil
		}
		e := p.heap.popEvent()
		if e.at > end {
			return p.makeResult(end, false), nil
		}
		p.now = e.at
		if err := p.runScan(int(e.network)); err != nil {
			return nil, err
		}
	}
}

func (p *perScan) infectHost(id int) error {
	before := int(p.networks[id].infected)
	p.markInfected(id, p.now)
	n := &p.networks[id]
	if p.edges[id] == nil && n.deployed && p.c.Defence != None {
		edge, err := daw.New(p.c.edgeParameters(), daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Ports: []uint16{80}}, p.simulatedTime())
		if err != nil {
			return err
		}
		p.edges[id] = edge
	}
	for range int(n.infected) - before {
		p.hosts, p.alive = append(p.hosts, int32(id)), append(p.alive, true)
		p.left++
		p.planScan(len(p.hosts) - 1)
	}
	return nil
}

func (p *perScan) planScan(host int) {
	p.heap.pushEvent(event{at: p.now + p.draw.ExpFloat64()/p.c.Rate, network: int32(host), kind: scanFound})
}

// runScan simulates one scan of a host.
func (p *perScan) runScan(host int) error {
	if !p.alive[host] {
		return nil
	}
	a := uint32(p.draw.Int64N(int64(p.c.Space)))
	id, vulnerable := p.at[a]
	edge := p.edges[p.hosts[host]]
	if edge == nil {
		p.planScan(host)
		return p.handleHit(vulnerable, id)
	}
	p.port++
	c := &daw.Conn{Src: makeAddr(10, uint32(host)), Dst: makeAddr(11, a), SrcPort: p.port, DstPort: 80, Seq: uint32(p.result.Scans)}
	verdict := edge.Request(p.simulatedTime(), c)
	p.blockPersistent(int(p.hosts[host]), edge)
	if verdict == daw.Blocked {
		p.alive[host] = false
		p.left--
		return nil
	}
	p.planScan(host)
	if !verdict.Passes() {
		return nil
	}
	if vulnerable {
		edge.Success(p.simulatedTime(), c)
	} else if p.c.Replies >= 1 || p.draw.Float64() < p.c.Replies {
		edge.Failure(p.simulatedTime(), daw.Unreachable, c)
	}
	return p.handleHit(vulnerable, id)
}

func (p *perScan) handleHit(vulnerable bool, id int32) error {
	p.result.Scans++
	if n := &p.networks[id]; vulnerable && n.infected < n.size {
		return p.infectHost(int(id))
	}
	return nil
}

// blockPersistent does after each midnight what an operator who approves all
// would do.
func (p *perScan) blockPersistent(id int, edge *daw.Edge) {
	today := int(p.now / Day)
	if p.c.Defence != Full || p.days[id] == today {
		return
	}
	p.days[id] = today
	for _, o := range edge.Persistent(p.simulatedTime()) {
		edge.Block(p.simulatedTime(), o.Addr)
	}
}

func makeAddr(first byte, n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte{first, byte(n >> 16), byte(n >> 8), byte(n)})
}

// edgeParameters are the parameters of an edge in this world. The list of
// recent failures is as short as possible: in a small space a worm would meet
// its own traces, in the real one it does not.
func (c *Configuration) edgeParameters() daw.Parameters {
	p := daw.DefaultParameters()
	p.Lambda, p.Omega, p.Phi, p.Tau, p.Days = c.Lambda, int(c.Omega), int(c.Phi), int(c.Tau), int(c.Days)
	p.Bucket = min(p.Bucket, c.Omega/2)
	p.Entries, p.Records, p.Requests, p.Recent, p.Grace = 1<<12, 1<<12, 64, 1, 0
	p.FirstBlock, p.BlockMemory = 3650*24*time.Hour, 3650*24*time.Hour
	p.Seed = c.Seed
	if c.Defence == Temporal {
		p.Phi = 0
	}
	if c.Defence == Basic {
		p.Phi, p.Omega = 0, 1<<25
	}
	return p
}
