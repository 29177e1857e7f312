package nft

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Ingress is what is dropped of what arrives on the interface toward a customer
// network, whatever its source: pieces of TCP segments that hide their flags, and
// sources that come from a station other than the one they are bound to. It acts
// before the kernel joins fragments.
type Ingress struct {
	Interface string
	Bindings  []Binding
}

// Binding allows an Ethernet station to send from a prefix.
type Binding struct {
	Prefix netip.Prefix
	MAC    net.HardwareAddr
}

// ingressSets hold the bindings of one family: the prefixes, and the pairs of
// prefix and station.
type ingressSets struct{ bound, pairs *nftables.Set }

// beforeDefragmentation is the priority of the ingress chain; the kernel joins
// fragments at -400 (NF_IP_PRI_CONNTRACK_DEFRAG).
const beforeDefragmentation = -450

// SetIngress replaces what is dropped on arrival; nil drops nothing.
func (r *Router) SetIngress(in *Ingress) error {
	if err := r.ensureTable(); err != nil {
		return err
	}
	if err := r.removeIngress(); err != nil {
		return err
	}
	if in == nil {
		return r.flushIngress()
	}
	policy := nftables.ChainPolicyAccept
	priority := nftables.ChainPriority(beforeDefragmentation)
	chain := r.conn.AddChain(&nftables.Chain{
		Name: ingressChain, Table: r.table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: &priority, Policy: &policy,
	})
	add := func(exprs ...[]expr.Any) {
		var all []expr.Any
		for _, e := range exprs {
			all = append(all, e...)
		}
		r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: all})
	}
	add(fromOther(in.Interface), accept())
	for _, v6 := range []bool{false, true} {
		if err := r.addBindings(in.Bindings, v6, func(exprs []expr.Any) { add(exprs, drop()) }); err != nil {
			return err
		}
		first := isFragment(v6, true)
		add(isFragment(v6, false), drop())
		add(first, notTCP(), accept())
		add(first, tcpWithoutSYN(), accept())
		// What is left hides its flags, or carries a SYN.
		add(first, drop())
	}
	return r.flushIngress()
}

const ingressChain = "ingress"

func (r *Router) flushIngress() error {
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: set what table inet %s drops on arrival: %w", tableName, err)
	}
	return nil
}

// removeIngress queues the removal of the chain and its sets, if they exist.
func (r *Router) removeIngress() error {
	chains, err := r.conn.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("nftables: list chains: %w", err)
	}
	for _, c := range chains {
		if c.Table.Name == tableName && c.Name == ingressChain {
			r.conn.FlushChain(c)
			r.conn.DelChain(c)
		}
	}
	sets, err := r.conn.GetSets(r.table)
	if err != nil {
		return nil // the table is queued, and has none
	}
	for _, s := range sets {
		for _, v6 := range []bool{false, true} {
			if own := r.ingressSets(v6); s.Name == own.bound.Name || s.Name == own.pairs.Name {
				r.conn.DelSet(s)
			}
		}
	}
	return nil
}

func (r *Router) ingressSets(v6 bool) ingressSets {
	name, kind := "4", nftables.TypeIPAddr
	if v6 {
		name, kind = "6", nftables.TypeIP6Addr
	}
	return ingressSets{
		bound: &nftables.Set{Table: r.table, Name: "bound" + name, KeyType: kind, Interval: true},
		pairs: &nftables.Set{Table: r.table, Name: "stations" + name, KeyType: nftables.MustConcatSetType(kind, nftables.TypeEtherAddr), Interval: true, Concatenation: true},
	}
}

// addBindings queues the sets of one family, and the rule "ip saddr @bound4 ip saddr
// . ether saddr != @stations4".
func (r *Router) addBindings(all []Binding, v6 bool, add func([]expr.Any)) error {
	sets := r.ingressSets(v6)
	var bound, pairs []nftables.SetElement
	seen := map[netip.Prefix]bool{}
	for _, b := range all {
		if b.Prefix.Addr().Is6() != v6 {
			continue
		}
		low, high := b.Prefix.Masked().Addr().AsSlice(), lastAddr(b.Prefix)
		mac := append(append([]byte{}, b.MAC...), 0, 0)
		pairs = append(pairs, nftables.SetElement{Key: append(append([]byte{}, low...), mac...), KeyEnd: append(high.AsSlice(), mac...)})
		if seen[b.Prefix] {
			continue
		}
		seen[b.Prefix] = true
		bound = append(bound, nftables.SetElement{Key: low})
		if end := high.Next(); end.IsValid() {
			bound = append(bound, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true})
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	for set, elements := range map[*nftables.Set][]nftables.SetElement{sets.bound: bound, sets.pairs: pairs} {
		if err := r.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
		if err := queueElements(r.conn.SetAddElements, set, elements); err != nil {
			return err
		}
	}
	length := uint32(4)
	source := &expr.Payload{DestRegister: unix.NFT_REG32_00, Base: expr.PayloadBaseNetworkHeader, Offset: 12, Len: 4}
	if v6 {
		length, source.Offset, source.Len = 16, 8, 16
	}
	add(append(matchSource(sets.bound, v6), source,
		&expr.Payload{DestRegister: unix.NFT_REG32_00 + length/4, Base: expr.PayloadBaseLLHeader, Offset: 6, Len: 6},
		&expr.Lookup{SourceRegister: unix.NFT_REG32_00, SetName: sets.pairs.Name, SetID: sets.pairs.ID, Invert: true}))
	return nil
}

func accept() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}} }

func drop() []expr.Any {
	return []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop}}
}

// fromOther is "iifname != name".
func fromOther(name string) []expr.Any {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: b},
	}
}

// isFragment matches first fragments, or those of TCP that start at octet 8, before
// its flags.
func isFragment(v6, first bool) []expr.Any {
	family, mask, want := byte(unix.NFPROTO_IPV4), []byte{0x3f, 0xff}, []byte{0x20, 0x00}
	var field expr.Any = &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 6, Len: 2}
	if v6 {
		family, mask, want = unix.NFPROTO_IPV6, []byte{0xff, 0xf9}, []byte{0x00, 0x01}
		field = &expr.Exthdr{DestRegister: 1, Type: unix.IPPROTO_FRAGMENT, Offset: 2, Len: 2, Op: expr.ExthdrOpIpv6}
	}
	var tail []expr.Any
	if !first {
		mask[0] &^= 0x20 // of any fragment, the offset
		want = []byte{0x00, 0x01}
		if v6 {
			mask, want = []byte{0xff, 0xf8}, []byte{0x00, 0x08}
		}
		tail = isTCP(expr.CmpOpEq)
	}
	return append([]expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		field,
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 2, Mask: mask, Xor: []byte{0, 0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: want},
	}, tail...)
}

func isTCP(op expr.CmpOp) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: op, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
	}
}

func notTCP() []expr.Any { return isTCP(expr.CmpOpNeq) }

// tcpWithoutSYN matches only where the flags are in the packet.
func tcpWithoutSYN() []expr.Any {
	const syn = 0x02
	return append(isTCP(expr.CmpOpEq),
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{0}})
}
