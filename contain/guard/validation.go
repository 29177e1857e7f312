package guard

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"dragnet/contain/nft"
	"dragnet/flow"
	"dragnet/internal/conf"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// ValidationConfiguration says how it is known that a packet comes from the host
// whose source address it carries. Without, anybody in the customer network can
// fail in a neighbour's name, so the guard holds back and blocks nothing by itself.
type ValidationConfiguration struct {
	// By says who validates source addresses before packets reach the guard, such
	// as "IP source guard on the access switches" (RFC 7039); empty means that nothing does.
	By string `yaml:"by"`
	// Bindings are prefixes with the stations that may send from them.
	Bindings []SourceBinding `yaml:"bindings"`
}

// SourceBinding allows a station to send from a prefix. Several may have the same
// prefix.
type SourceBinding struct {
	// Prefix is an address or what is delegated to a customer.
	Prefix netip.Prefix `yaml:"prefix"`
	// MAC is the station's address on the watched wire: the host's, or that of the
	// router before it.
	MAC string `yaml:"mac"`
}

// maxBindings bounds the bindings of an edge.
const maxBindings = 1 << 16

// Validate reports all invalid settings.
func (v *ValidationConfiguration) Validate() error {
	var p conf.Problems
	p.Check(len(v.Bindings) <= maxBindings, "bindings", "are %d; want at most %d", len(v.Bindings), maxBindings)
	order := make([]int, len(v.Bindings))
	for i, b := range v.Bindings {
		order[i] = i
		p.Check(b.Prefix.IsValid() && b.Prefix.Bits() > 0 && b.Prefix == b.Prefix.Masked(), fmt.Sprintf("bindings[%d].prefix", i), "%s is not a prefix such as 198.51.100.7/32", b.Prefix)
		_, err := parseStation(b.MAC)
		p.Check(err == nil, fmt.Sprintf("bindings[%d].mac", i), "%q is not an Ethernet address such as 02:00:5e:10:00:01", b.MAC)
	}
	if err := p.Join(); err != nil {
		return err
	}
	// In order of address, a prefix that lies in another follows it.
	slices.SortFunc(order, func(i, j int) int { return v.Bindings[i].Prefix.Compare(v.Bindings[j].Prefix) })
	for n := 1; n < len(order); n++ {
		a, b := v.Bindings[order[n-1]].Prefix, v.Bindings[order[n]].Prefix
		p.Check(a == b || !a.Overlaps(b), fmt.Sprintf("bindings[%d].prefix", order[n]), "%s overlaps %s of bindings[%d]", b, a, order[n-1])
	}
	return p.Join()
}

// parseStation reads an Ethernet address as a number; 0 is none.
func parseStation(text string) (uint64, error) {
	mac, err := net.ParseMAC(text)
	if err != nil {
		return 0, err
	}
	if len(mac) != 6 {
		return 0, fmt.Errorf("%s is no Ethernet address", text)
	}
	return stationOf(mac), nil
}

// stationOf is the number of an Ethernet address.
func stationOf(mac []byte) uint64 {
	return binary.BigEndian.Uint64(append([]byte{0, 0}, mac[:6]...))
}

// bindSources gives the edge the bindings.
func (g *Guard) bindSources() {
	all := map[netip.Prefix][]uint64{}
	for _, b := range g.c.Validation.Bindings {
		station, _ := parseStation(b.MAC) // validated
		all[b.Prefix] = append(all[b.Prefix], station)
	}
	for prefix, stations := range all {
		g.edge.Bind(prefix, stations...)
	}
	if len(all) > 0 && g.c.Validation.By == "" {
		g.edge.WatchBoundOnly()
	}
}

// isValidated reports whether source addresses are validated at all. With
// bindings alone, sources without one are not watched.
func (v *ValidationConfiguration) isValidated() bool { return v.By != "" || len(v.Bindings) > 0 }

// ingress is what the router drops of what comes from the customer network.
func (c *Configuration) ingress() *nft.Ingress {
	in := &nft.Ingress{Interface: c.Live.Interface}
	for _, b := range c.Validation.Bindings {
		mac, _ := net.ParseMAC(b.MAC) // validated
		in.Bindings = append(in.Bindings, nft.Binding{Prefix: b.Prefix, MAC: mac})
	}
	return in
}

// Path is how a packet came to the guard.
type Path struct {
	// Inside says that it came from the customer network, Outside that it goes
	// there; neither is known of a packet of a capture.
	Inside, Outside bool
	// Station is the Ethernet address that sent it; 0 if it is not known.
	Station uint64
}

// pathOf reads a packet's path from its record.
func pathOf(rec *capture.Record) Path {
	p := Path{Inside: rec.Direction == capture.Received, Outside: rec.Direction == capture.Sent}
	if rec.Link == packet.LinkEthernet && len(rec.Data) >= 12 {
		p.Station = stationOf(rec.Data[6:12])
	}
	return p
}

// countFragment reports whether a fragment may pass. SYNs in fragments are
// dropped: the tap sees pieces, and no host sends such.
func (g *Guard) countFragment(hides bool, src netip.Addr) bool {
	if !hides || !flow.Within(g.scope.Sources, src) || flow.Within(g.exemptedScope().Exempt, src) {
		return true
	}
	g.stats.Fragments++
	return false
}
