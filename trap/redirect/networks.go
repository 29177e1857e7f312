//go:build linux

package redirect

import (
	"net/netip"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// The gate for whole networks (Tang 2006, section 2.2: the translator knows the
// publicly accessible services, and everything else is unwanted). It takes SYNs, not
// other segments: a connection that was open before the rules were may have its
// packets in either direction first. Of UDP, where a late answer looks like a new
// question, it takes only the ports that honeypots list.

// addUnwanted notes what comes in from outside for a set of ours, as far as the gate
// may redirect it: SYNs, and such datagrams. Beyond the limit it is dropped before
// the kernel remembers a connection. It returns the chain that such packets pass.
func (t *Translator) addUnwanted(b *builder, mangle *nftables.Chain, a *requestSets, to *nftables.Set, except [][]expr.Any, datagrams ...[]expr.Any) *nftables.Chain {
	chain := b.conn.AddChain(&nftables.Chain{Name: to.Name, Table: b.table})
	for _, wanted := range except {
		b.rule(chain, wanted, verdict(expr.VerdictReturn))
	}
	for _, kind := range append(slices.Clone(datagrams), hasFlags(0x02)) {
		b.rule(chain, kind, isNew(), over(uint64(t.c.PerSecond)), counter(), verdict(expr.VerdictDrop))
	}
	a.noteRequests(b, chain, datagrams...)
	b.rule(mangle, onInterface(t.c.Outside), destination(a.v6), inSet(to, false), jump(chain))
	return chain
}

// listedUDP are the matches for the UDP ports that honeypots list: all datagrams,
// those for clients included, would fill what is remembered.
func (t *Translator) listedUDP() (all [][]expr.Any) {
	for _, h := range t.c.Honeypots {
		all = append(all, toPorts(unix.IPPROTO_UDP, h.UDP)...)
	}
	return all
}

// addNetworkGate adds the gate of networks, after that of unused prefixes.
func (t *Translator) addNetworkGate(b *builder, nat *nftables.Chain, networks [2]*nftables.Set) {
	for i, set := range networks {
		v6 := i == 1
		for _, wanted := range t.wanted(v6) {
			b.rule(nat, onInterface(t.c.Outside), wanted, verdict(expr.VerdictAccept))
		}
		t.addTargets(b, nat, v6, inSet(set, false), func(h *Honeypot) (services [][]expr.Any) {
			tcp := toPorts(unix.IPPROTO_TCP, h.TCP)
			if len(h.TCP)+len(h.UDP) == 0 {
				tcp = [][]expr.Any{nil}
			}
			for _, port := range tcp {
				services = append(services, append(hasFlags(0x02), port...))
			}
			return append(services, toPorts(unix.IPPROTO_UDP, h.UDP)...)
		})
	}
}

// wanted are the matches for what goes to this machine or to public servers.
func (t *Translator) wanted(v6 bool) [][]expr.Any {
	all := [][]expr.Any{append(isFamily(v6), isLocal()...)}
	for _, s := range t.c.Public {
		if s.Address.Is6() != v6 {
			continue
		}
		services := append(toPorts(unix.IPPROTO_TCP, s.TCP), toPorts(unix.IPPROTO_UDP, s.UDP)...)
		if len(services) == 0 {
			services = [][]expr.Any{nil}
		}
		for _, service := range services {
			all = append(all, slices.Concat(destination(v6), equals(s.Address), service))
		}
	}
	return all
}

func equals(a netip.Addr) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: a.AsSlice()}}
}

// isLocal matches packets for an address of this machine.
func isLocal() []expr.Any {
	return []expr.Any{
		&expr.Fib{Register: 1, FlagDADDR: true, ResultADDRTYPE: true},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(unix.RTN_LOCAL)},
	}
}
