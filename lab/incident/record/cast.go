package main

import (
	"net/netip"
	"time"

	"dragnet/lab/incident"
)

// The addresses are those reserved for documentation (RFC 5737) and for
// benchmarks (RFC 2544): they look public to every program, and are not
// assigned. RFC 2606 reserves the domain.
const domain = "example"

// Well-known last bytes of an organisation's public prefix.
const (
	gatewayByte    = 1
	nameServerByte = 53
	webServerByte  = 80
	// translated is added to a private host's last byte to get the last byte of
	// its public address.
	translated = 100
)

// host is one machine and its part in the incident.
type host struct {
	name string
	addr netip.Addr
	// outside is the address that other networks know the host by; the edge
	// translates it. It equals addr but for private hosts.
	outside netip.Addr
	part    incident.Part
}

// organisation is one network behind one edge.
type organisation struct {
	name            string
	public, private netip.Prefix // private is invalid where there is none
	nameServer, web host
	hosts           []host // those with a part, and bystanders
}

// prefixes are the organisation's prefixes.
func (o organisation) prefixes() []netip.Prefix {
	if o.private.IsValid() {
		return []netip.Prefix{o.public, o.private}
	}
	return []netip.Prefix{o.public}
}

// participants are all networks and hosts.
type participants struct {
	organisations []organisation

	// beyond is the network outside all organisations.
	beyond                                                     netip.Prefix
	nameServer, web, attacker, codeServer, partner, fileServer host
}

// role assigns a part to the host with this last byte of its address.
type role struct {
	last byte
	part incident.Part
}

// newParticipants makes all participants. The same private address belongs to
// different hosts of borealis and cygnus, both infected.
func newParticipants() participants {
	const (
		none     = incident.Bystander
		infected = incident.Infected
	)
	aurora := newOrganisation("aurora", "192.0.2.0/24", "", []role{
		{21, infected}, {22, infected}, {23, infected}, {24, incident.ContactedOnly}, {25, incident.FetchedOnly}, {26, none},
	}, nil)
	borealis := newOrganisation("borealis", "198.51.100.0/24", "10.20.0.0/24", []role{
		{31, infected}, {32, infected}, {33, incident.ContactedOnly}, {34, incident.FetchedFirst}, {35, none},
	}, []role{{21, infected}, {22, none}})
	cygnus := newOrganisation("cygnus", "203.0.113.0/24", "10.20.0.0/24", []role{
		{41, infected}, {42, incident.OtherServer}, {43, incident.Refused}, {44, incident.OtherClient}, {45, none},
	}, []role{{21, infected}, {23, none}})
	draco := newOrganisation("draco", "198.18.40.0/24", "", []role{
		{61, incident.ContactedOnly}, {62, incident.ContactedOnly}, {63, incident.FetchedOnly}, {64, incident.OtherPort}, {65, none},
	}, nil)

	beyond := func(name, addr string) host {
		a := netip.MustParseAddr(addr)
		return host{name: name, addr: a, outside: a, part: none}
	}
	return participants{
		organisations: []organisation{aurora, borealis, cygnus, draco},
		beyond:        netip.MustParsePrefix("198.19.0.0/17"),
		nameServer:    beyond("ns", "198.19.0.53"),
		web:           beyond("www", "198.19.0.80"),
		attacker:      beyond("attacker", "198.19.66.13"),
		codeServer:    beyond("codeserver", "198.19.7.69"),
		partner:       beyond("partner", "198.19.20.5"),
		fileServer:    beyond("fileserver", "198.19.8.69"),
	}
}

// newOrganisation places hosts in a public prefix and, unless that is "", a
// private one, whose hosts the edge translates one to one.
func newOrganisation(name, public, private string, inPublic, inPrivate []role) organisation {
	o := organisation{name: name, public: netip.MustParsePrefix(public)}
	place := func(p netip.Prefix, last, outside byte, part incident.Part) host {
		a := withLast(p, last)
		return host{name: name + "-" + a.String(), addr: a, outside: withLast(o.public, outside), part: part}
	}
	o.nameServer = place(o.public, nameServerByte, nameServerByte, incident.Bystander)
	o.web = place(o.public, webServerByte, webServerByte, incident.Bystander)
	for _, r := range inPublic {
		o.hosts = append(o.hosts, place(o.public, r.last, r.last, r.part))
	}
	if private != "" {
		o.private = netip.MustParsePrefix(private)
	}
	for _, r := range inPrivate {
		o.hosts = append(o.hosts, place(o.private, r.last, r.last+translated, r.part))
	}
	return o
}

// withLast is the address of an IPv4 prefix whose last byte is last.
func withLast(p netip.Prefix, last byte) netip.Addr {
	a := p.Addr().As4()
	a[3] = last
	return netip.AddrFrom4(a)
}

// beyondHosts are the machines outside all organisations.
func (c participants) beyondHosts() []host {
	return []host{c.nameServer, c.web, c.attacker, c.codeServer, c.partner, c.fileServer}
}

// listZones returns the names of all networks, the one outside included, with
// the name server and the web server of each.
func (c participants) listZones() []zone {
	zones := []zone{{"beyond." + domain, c.nameServer, c.web}}
	for _, o := range c.organisations {
		zones = append(zones, zone{o.name + "." + domain, o.nameServer, o.web})
	}
	return zones
}

// zone is one network's part of the name space.
type zone struct {
	name            string
	nameServer, web host
}

// webName is the name of the zone's web server.
func (z zone) webName() string { return "www." + z.name }

// makeTruth is the ground truth that follows from the parts.
func (c participants) makeTruth(start time.Time) incident.Truth {
	t := incident.Truth{
		Recorded: start,
		Attacker: c.attacker.addr, CodeServer: c.codeServer.addr,
		OrdinaryClient: c.partner.addr, OrdinaryServer: c.fileServer.addr,
	}
	for _, o := range c.organisations {
		org := incident.Organisation{Name: o.name, Networks: o.prefixes(), Infected: []netip.Addr{}}
		for _, h := range o.hosts {
			switch h.part {
			case incident.Bystander:
			case incident.Infected:
				org.Infected = append(org.Infected, h.addr)
			default:
				org.LookAlikes = append(org.LookAlikes, incident.LookAlike{Host: h.addr, Part: h.part, Why: h.part.Why()})
			}
		}
		t.Organisations = append(t.Organisations, org)
	}
	return t
}
