package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// heldSets are the sets of sources whose requests to certain ports are dropped
// for a short time: single addresses, and prefixes of IPv6. Each length has a set,
// since the intervals of a set must not overlap.
type heldSets struct {
	v4, v6, ports *nftables.Set
	services      [2]*nftables.Set // that answered lately, IPv4 and IPv6
	prefixes      [len(heldBits)]*nftables.Set
}

// heldBits are the lengths of prefixes that can be held.
var heldBits = [...]int{64, 56, 48}

func (h *heldSets) sources() []*nftables.Set {
	return append([]*nftables.Set{h.v4, h.v6}, h.prefixes[:]...)
}

func newHeldSets(table *nftables.Table) heldSets {
	set := func(name string, kind nftables.SetDatatype, interval bool) *nftables.Set {
		return &nftables.Set{Table: table, Name: name, KeyType: kind, Interval: interval, HasTimeout: true}
	}
	h := heldSets{
		v4: set("held4", nftables.TypeIPAddr, false), v6: set("held6", nftables.TypeIP6Addr, false),
		ports: &nftables.Set{Table: table, Name: "ports", KeyType: nftables.TypeInetService, Interval: true},
	}
	for i, kind := range []nftables.SetDatatype{nftables.TypeIPAddr, nftables.TypeIP6Addr} {
		h.services[i] = &nftables.Set{
			Table: table, Name: answeredName[i], Concatenation: true, KeyType: nftables.MustConcatSetType(kind, nftables.TypeInetService),
		}
	}
	for i, bits := range heldBits {
		h.prefixes[i] = set(fmt.Sprint("held", bits), nftables.TypeIP6Addr, true)
	}
	return h
}

// buildHeld queues the sets, and rules "ip daddr . tcp dport @answered4 accept" and
// "ip saddr @held4 tcp dport @ports tcp
// flags & (syn | ack) == syn drop".
func (r *Router) buildHeld(chain *nftables.Chain) error {
	h := &r.held
	for _, set := range append(h.sources(), h.ports, h.services[0], h.services[1]) {
		if err := r.conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
	}
	for i, set := range h.services {
		exprs := append(matchService(set, i == 1), &expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept})
		r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: exprs})
	}
	for _, set := range h.sources() {
		exprs := append(matchSource(set, set != h.v4), tcpOpens()...)
		exprs = append(exprs,
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Lookup{SourceRegister: 1, SetName: h.ports.Name, SetID: h.ports.ID},
			&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictDrop})
		r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: chain, Exprs: exprs})
	}
	return nil
}

// Ports sets the TCP ports to which held sources cannot open connections.
func (r *Router) Ports(ports []uint16) error {
	if err := r.ensureTable(); err != nil {
		return err
	}
	set := r.held.ports
	r.conn.FlushSet(set)
	if err := queueElements(r.conn.SetAddElements, set, portRanges(ports)); err != nil {
		return err
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: set the ports of table inet %s: %w", tableName, err)
	}
	return nil
}

// portRanges merges consecutive ports: all ports one by one would not fit one
// message.
func portRanges(ports []uint16) []nftables.SetElement {
	sorted := slices.Compact(slices.Sorted(slices.Values(ports)))
	var all []nftables.SetElement
	for i, p := range sorted {
		if i == 0 || sorted[i-1]+1 != p {
			all = append(all, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, p)})
		}
		if p < 1<<16-1 && (i+1 == len(sorted) || sorted[i+1] != p+1) {
			all = append(all, nftables.SetElement{Key: binary.BigEndian.AppendUint16(nil, p+1), IntervalEnd: true})
		}
	}
	return all
}

// Hold is a source that a limit holds back: an address, or a prefix of IPv6 (see
// heldBits).
type Hold struct {
	Target netip.Prefix
	For    time.Duration
}

// Hold drops segments that would open a TCP connection from the sources to the
// ports in the set, until the kernel expires the hold.
func (r *Router) Hold(holds []Hold) error {
	if len(holds) == 0 {
		return nil
	}
	if err := r.ensureTable(); err != nil {
		return err
	}
	bySet := map[*nftables.Set][]nftables.SetElement{}
	for _, h := range holds {
		set, elements, err := r.heldElements(h)
		if err != nil {
			return err
		}
		bySet[set] = append(bySet[set], elements...)
	}
	for set, elements := range bySet {
		if err := queueElements(r.conn.SetAddElements, set, elements); err != nil {
			return err
		}
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: hold %d sources in table inet %s: %w", len(holds), tableName, err)
	}
	return nil
}

func (r *Router) heldElements(h Hold) (*nftables.Set, []nftables.SetElement, error) {
	left := max(time.Millisecond, h.For.Round(time.Millisecond))
	one := []nftables.SetElement{{Key: h.Target.Addr().AsSlice(), Timeout: left}}
	switch {
	case h.Target.Addr().Is4() && h.Target.IsSingleIP():
		return r.held.v4, one, nil
	case h.Target.Addr().Is6() && h.Target.IsSingleIP():
		return r.held.v6, one, nil
	case h.Target.Addr().Is6() && slices.Contains(heldBits[:], h.Target.Bits()):
		end := lastAddr(h.Target).Next()
		if !end.IsValid() {
			return nil, nil, fmt.Errorf("nftables: %s cannot be held", h.Target)
		}
		return r.held.prefixes[slices.Index(heldBits[:], h.Target.Bits())], append(one, nftables.SetElement{Key: end.AsSlice(), IntervalEnd: true}), nil
	}
	return nil, nil, fmt.Errorf("nftables: %s is neither an address nor a /64, /56 or /48 of IPv6", h.Target)
}

// Release ends the holds of sources at once, and of all if none is named.
func (r *Router) Release(targets ...netip.Prefix) error {
	if err := r.ensureTable(); err != nil {
		return err
	}
	if len(targets) == 0 {
		for _, set := range r.held.sources() {
			r.conn.FlushSet(set)
		}
	}
	for _, t := range targets {
		set, elements, err := r.heldElements(Hold{Target: t})
		if err != nil {
			return err
		}
		if there, err := r.isHeld(set, t); err != nil || !there {
			if err != nil {
				return err
			}
			continue
		}
		if err := r.conn.SetDeleteElements(set, elements); err != nil {
			return fmt.Errorf("nftables: set %s: %w", set.Name, err)
		}
	}
	if err := r.conn.Flush(); err != nil {
		return fmt.Errorf("nftables: release %d sources in table inet %s: %w", len(targets), tableName, err)
	}
	return nil
}

// isHeld reports whether a source is held: the kernel returns an error when an
// expired element is deleted.
func (r *Router) isHeld(set *nftables.Set, target netip.Prefix) (bool, error) {
	all, err := r.listHeld(set)
	if err != nil {
		return false, err
	}
	for _, h := range all {
		if h.Target.Addr() == target.Addr() {
			return true, nil
		}
	}
	return false, nil
}

// Held lists the sources that the kernel holds back, and for how much longer.
func (r *Router) Held() ([]Hold, error) {
	there, err := r.tableExists()
	if err != nil || !there {
		return nil, err
	}
	var all []Hold
	for _, set := range r.held.sources() {
		some, err := r.listHeld(set)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	return all, nil
}

func (r *Router) listHeld(set *nftables.Set) ([]Hold, error) {
	elements, err := r.conn.GetSetElements(set)
	if err != nil {
		return nil, fmt.Errorf("nftables: read back set %s: %w", set.Name, err)
	}
	var all []Hold
	for _, e := range elements {
		a, ok := netip.AddrFromSlice(e.Key)
		if !ok || e.IntervalEnd {
			continue
		}
		width := a.BitLen()
		if i := slices.Index(r.held.prefixes[:], set); i >= 0 {
			width = heldBits[i]
		}
		all = append(all, Hold{netip.PrefixFrom(a, width), e.Expires})
	}
	return all, nil
}
