package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"dragnet/internal/netlab"
)

// lanDev is the edge router's interface towards its own organisation, where the
// tap is: it sees all traffic in and out, and private hosts under their private
// address.
const lanDev = "lan0"

var anywhere = netip.MustParsePrefix("0.0.0.0/0")

// network has the participants as namespaces.
type network struct {
	lab   *netlab.Lab
	hosts map[string]*netlab.Node // by host name
	edges map[string]*netlab.Node // by organisation
}

// buildNetwork makes, per organisation, hosts - switch - edge router, and joins the
// edges and the hosts beyond by one core router.
//
//	host ─┐
//	host ─┤ switch ──lan0 edge ── core ── exchange ├─ attacker, code server, ...
//	host ─┘           (tap)        │
//	                               └─ the other edges
func buildNetwork(ctx context.Context, c participants) (*network, error) {
	lab, err := netlab.New()
	if err != nil {
		return nil, err
	}
	n := &network{lab: lab, hosts: map[string]*netlab.Node{}, edges: map[string]*netlab.Node{}}
	if err := n.wireNetworks(ctx, c); err != nil {
		return nil, errors.Join(err, lab.Close())
	}
	return n, nil
}

func (n *network) wireNetworks(ctx context.Context, c participants) error {
	routers, err := n.lab.Nodes("core", "exchange")
	if err != nil {
		return err
	}
	core, exchange := routers[0], routers[1]
	gateway := withLast(c.beyond, gatewayByte)
	err = errors.Join(
		core.Forward(),
		n.lab.Wire(core, "beyond", exchange, "core"),
		core.Address("beyond", netip.PrefixFrom(gateway, c.beyond.Bits())),
		n.plugHosts(exchange, "core", c.beyondHosts(), []netip.Prefix{c.beyond}, gateway, c.nameServer),
	)
	if err != nil {
		return err
	}
	for i, o := range c.organisations {
		if err := n.buildOrganisation(ctx, core, i, o); err != nil {
			return fmt.Errorf("organisation %s: %w", o.name, err)
		}
	}
	return nil
}

// buildOrganisation builds one organisation and joins it to the core by a transit
// network of two addresses (RFC 3021).
func (n *network) buildOrganisation(ctx context.Context, core *netlab.Node, i int, o organisation) error {
	nodes, err := n.lab.Nodes(o.name+"-edge", o.name+"-switch")
	if err != nil {
		return err
	}
	edge, lanSwitch := nodes[0], nodes[1]
	n.edges[o.name] = edge
	transit := netip.AddrFrom4([4]byte{198, 19, 255, byte(2 * i)})
	err = errors.Join(
		edge.Forward(),
		n.lab.Wire(core, o.name, edge, "wan0"),
		n.lab.Wire(edge, lanDev, lanSwitch, "edge"),
		core.Address(o.name, netip.PrefixFrom(transit, 31)),
		edge.Address("wan0", netip.PrefixFrom(transit.Next(), 31)),
		edge.Route(anywhere, transit),
		core.Route(o.public, transit.Next()),
	)
	for _, prefix := range o.prefixes() {
		err = errors.Join(err, edge.Address(lanDev, netip.PrefixFrom(withLast(prefix, gatewayByte), prefix.Bits())))
	}
	all := append([]host{o.nameServer, o.web}, o.hosts...)
	err = errors.Join(err, n.plugHosts(lanSwitch, "edge", all, o.prefixes(), withLast(o.public, gatewayByte), o.nameServer))
	if err != nil {
		return err
	}
	return addTranslation(ctx, edge, o)
}

// plugHosts makes hosts and joins them to a switch whose uplink exists. All
// networks are on one link, so that neighbours communicate without the router.
func (n *network) plugHosts(lanSwitch *netlab.Node, uplink string, hosts []host, networks []netip.Prefix, gateway netip.Addr, resolver host) error {
	ports := []string{uplink}
	for i, h := range hosts {
		nodes, err := n.lab.Nodes(h.name)
		if err != nil {
			return err
		}
		node, port := nodes[0], fmt.Sprintf("p%d", i)
		n.hosts[h.name] = node
		ports = append(ports, port)
		if err := n.lab.Wire(node, "eth0", lanSwitch, port); err != nil {
			return err
		}
		for _, prefix := range networks {
			if prefix.Contains(h.addr) {
				err = errors.Join(err, node.Address("eth0", netip.PrefixFrom(h.addr, prefix.Bits())))
			} else {
				err = errors.Join(err, node.RouteOn(prefix, "eth0"))
			}
		}
		err = errors.Join(err, node.Nameserver(resolver.addr), node.Route(anywhere, gateway))
		if err != nil {
			return err
		}
	}
	return lanSwitch.Bridge("br0", ports...)
}

// addTranslation gives each private host a separate outside address, in both
// directions, so that TFTP's answers from a new port (RFC 1350, section 4) need
// no conntrack helper.
func addTranslation(ctx context.Context, edge *netlab.Node, o organisation) error {
	var in, out strings.Builder
	for _, h := range o.hosts {
		if h.outside != h.addr {
			fmt.Fprintf(&in, "iifname wan0 ip daddr %s dnat to %s\n", h.outside, h.addr)
			fmt.Fprintf(&out, "oifname wan0 ip saddr %s snat to %s\n", h.addr, h.outside)
		}
	}
	if in.Len() == 0 {
		return nil
	}
	_, err := edge.Run(ctx, "nft", fmt.Sprintf(`table ip translation {
		chain in { type nat hook prerouting priority dstnat; %s }
		chain out { type nat hook postrouting priority srcnat; %s }
	}`, &in, &out))
	return err
}
