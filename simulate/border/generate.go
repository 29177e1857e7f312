package border

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"

	"dragnet/flow"
)

// generator draws connections one by one.
type generator struct {
	rng              *rand.Rand
	kinds            popularity
	draw             []func() flow.Flow // by kind
	base, size       uint32             // the site
	clients, solvers []uint32

	scanned          popularity
	scans            [scanners]scan
	services         []service
	servedBy         popularity
	served           []endpoint
	web, names, mail servers
}

// endpoint is a destination of connections.
type endpoint struct {
	addr  uint32
	port  uint16
	proto flow.Proto
}

func newGenerator(c Configuration) *generator {
	g := &generator{rng: rand.New(rand.NewPCG(c.Seed, 0x626f72646572)), services: scannedServices()}
	base := c.Site.Masked().Addr().As4()
	g.base, g.size = binary.BigEndian.Uint32(base[:]), 1<<(32-c.Site.Bits())
	g.clients, g.solvers = g.insideAddrs(c.Clients), g.insideAddrs(c.Resolvers)
	s := c.Shares
	g.kinds = cumulate(s.Scanned, s.Backscatter, s.Served, s.Web, s.Names, s.Mail, s.Peers, s.Pings)
	g.draw = []func() flow.Flow{g.nextProbe, g.makeBackscatter, g.makeInbound, g.makeWebFlow, g.makeDNSFlow, g.makeMailFlow, g.makePeerFlow, g.makePing}
	g.scanned = zipfWeights(len(g.services), 1)
	g.makeServed()
	g.web = g.makeServers(c.WebServers, c.Skew, []weighted{{80, 0.85}, {443, 0.12}, {8080, 0.03}}, flow.TCP)
	g.names = g.makeServers(c.NameServers, c.Skew, []weighted{{53, 1}}, flow.UDP)
	g.mail = g.makeServers(c.MailServers, c.Skew, []weighted{{25, 1}}, flow.TCP)
	return g
}

func (g *generator) nextFlow() flow.Flow { return g.draw[g.kinds.drawRank(g.rng)]() }

func addr4(v uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], v)
	return netip.AddrFrom4(b)
}

func (g *generator) insideAddr() uint32 { return g.base + g.rng.Uint32N(g.size) }

func (g *generator) insideAddrs(n int) []uint32 {
	out := make([]uint32, n)
	for i := range out {
		out[i] = g.insideAddr()
	}
	return out
}

// allocated are the first octets with many hosts in 2006.
var allocated = [...][2]uint32{{12, 12}, {24, 24}, {58, 99}, {116, 125}, {128, 172}, {189, 222}}

// outsideAddr is an outside address, uniform over the allocated space.
func (g *generator) outsideAddr() uint32 {
	n := uint32(0)
	for r := range allocated {
		n += octetsOf(r)
	}
	at, r := g.rng.Uint32N(n), 0
	for ; at >= octetsOf(r); r++ {
		at -= octetsOf(r)
	}
	return (allocated[r][0]+at)<<24 | g.rng.Uint32()>>8
}

func octetsOf(r int) uint32 { return allocated[r][1] - allocated[r][0] + 1 }

// ephemeralPort is a client port as chosen by Unix and Windows hosts of the
// time.
func (g *generator) ephemeralPort() uint16 { return uint16(1024 + g.rng.IntN(64512)) }

func (g *generator) makeFlow(from uint32, to endpoint, s flow.State) flow.Flow {
	f := flow.Flow{Orig: addr4(from), Resp: addr4(to.addr), OrigPort: g.ephemeralPort(), RespPort: to.port, Proto: to.proto, State: s}
	if to.proto == flow.ICMP {
		f.OrigPort = 8 // echo request, as Zeek logs it
	}
	return f
}
