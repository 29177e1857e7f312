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
// the kernel remembers a connection.
func (t *Translator) addUnwanted(b *builder, mangle *nftables.Chain, a *asked, to *nftables.Set, datagrams ...[]expr.Any) {
	chain := b.conn.AddChain(&nftables.Chain{Name: to.Name, Table: b.table})
	t.addWanted(b, chain, a.v6, verdict(expr.VerdictReturn))
	for _, kind := range append(slices.Clone(datagrams), hasFlags(0x02)) {
		b.rule(chain, kind, isNew(), over(uint64(t.c.PerSecond)), counter(), verdict(expr.VerdictDrop))
	}
	a.addAsking(b, chain, datagrams...)
	b.rule(mangle, onInterface(t.c.Outside), destination(a.v6), inSet(to, false), jump(chain))
}

// listedUDP are the matches for the UDP ports that honeypots list: all datagrams,
// those for clients included, would fill what is remembered.
func (t *Translator) listedUDP() (all [][]expr.Any) {
	for _, h := range t.c.Honeypots {
		for _, p := range h.UDP {
			all = append(all, toPort(unix.IPPROTO_UDP, p))
		}
	}
	return all
}

// addNetworkGate adds the gate of networks, after that of unused prefixes.
func (t *Translator) addNetworkGate(b *builder, nat *nftables.Chain, networks [2]*nftables.Set) {
	for i, set := range networks {
		v6 := i == 1
		t.addWanted(b, nat, v6, verdict(expr.VerdictAccept))
		for _, h := range t.c.Honeypots {
			if h.Address.Is6() != v6 {
				continue
			}
			match := [][]expr.Any{onInterface(t.c.Outside), destination(v6), inSet(set, false)}
			if t.c.Share < 1000 {
				match = append(match, share(uint32(t.c.Share)))
			}
			for _, service := range h.listed() {
				rule := append([][]expr.Any{}, match...)
				b.rule(nat, append(rule, service, counter(), dnat(h.Address))...)
			}
		}
	}
}

// addWanted gives what goes to public servers, or to this machine, from outside a
// verdict.
func (t *Translator) addWanted(b *builder, chain *nftables.Chain, v6 bool, then []expr.Any) {
	outside := onInterface(t.c.Outside)
	b.rule(chain, outside, isFamily(v6), isLocal(), then)
	for _, s := range t.c.Public {
		if s.Address.Is6() != v6 {
			continue
		}
		for _, service := range s.services() {
			b.rule(chain, outside, destination(v6), equals(s.Address), service, then)
		}
	}
}

// services are the matches for what a server offers.
func (s *PublicServer) services() (all [][]expr.Any) {
	if len(s.TCP)+len(s.UDP) == 0 {
		return [][]expr.Any{nil}
	}
	for _, p := range s.TCP {
		all = append(all, toPort(unix.IPPROTO_TCP, p))
	}
	for _, p := range s.UDP {
		all = append(all, toPort(unix.IPPROTO_UDP, p))
	}
	return all
}

// listed are the matches for what a honeypot is brought of networks.
func (h *Honeypot) listed() (all [][]expr.Any) {
	if len(h.TCP)+len(h.UDP) == 0 {
		return [][]expr.Any{hasFlags(0x02)}
	}
	for _, p := range h.TCP {
		all = append(all, append(hasFlags(0x02), toPort(unix.IPPROTO_TCP, p)...))
	}
	for _, p := range h.UDP {
		all = append(all, toPort(unix.IPPROTO_UDP, p))
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
