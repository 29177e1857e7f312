package nft

import (
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"

	"dragnet/dossier"
	"dragnet/flow"
)

// block is a range of addresses and how much longer it stays blocked.
type block struct {
	from, to netip.Addr
	left     time.Duration
}

func (b block) String() string {
	if b.from == b.to {
		return b.from.String()
	}
	return b.from.String() + "-" + b.to.String()
}

// blocks are ranges that do not overlap.
type blocks []block

// planBlocks turns decisions into ranges. An interval set accepts no overlaps,
// so a prefix within another is left out; the outer one lasts as long as the
// longer of both.
func planBlocks(now flow.Time, decisions []dossier.Decision) blocks {
	var prefixes []netip.Prefix
	until := map[netip.Prefix]flow.Time{}
	for _, d := range decisions {
		if checkApplicable(now, &d) == nil {
			p := d.Target.Masked()
			if _, seen := until[p]; !seen {
				prefixes = append(prefixes, p)
			}
			until[p] = max(until[p], d.Until)
		}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int {
		if a.Bits() != b.Bits() {
			return a.Bits() - b.Bits()
		}
		return a.Addr().Compare(b.Addr())
	})
	var outer []netip.Prefix
	for _, p := range prefixes {
		i := slices.IndexFunc(outer, func(o netip.Prefix) bool { return o.Contains(p.Addr()) })
		if i < 0 {
			outer = append(outer, p)
		} else {
			until[outer[i]] = max(until[outer[i]], until[p])
		}
	}
	var all blocks
	for _, p := range outer {
		// The kernel counts in milliseconds, and takes 0 as no timeout.
		left := max(time.Millisecond, time.Duration(until[p]-now).Round(time.Millisecond))
		all = append(all, block{p.Addr(), lastAddr(p), left})
	}
	return all
}

// setElements returns the pairs of an interval set: a start, and the first
// address after the range.
func (bs blocks) setElements(v6 bool) []nftables.SetElement {
	var all []nftables.SetElement
	for _, b := range bs {
		if b.from.Is6() != v6 {
			continue
		}
		all = append(all, nftables.SetElement{Key: b.from.AsSlice(), Timeout: b.left})
		if next := b.to.Next(); next.IsValid() {
			all = append(all, nftables.SetElement{Key: next.AsSlice(), IntervalEnd: true})
		}
	}
	return all
}

// parseElements turns the kernel's elements back into ranges.
func parseElements(elements []nftables.SetElement) blocks {
	type edge struct {
		at   netip.Addr
		end  bool
		left time.Duration
	}
	var edges []edge
	for _, e := range elements {
		if a, ok := netip.AddrFromSlice(e.Key); ok {
			edges = append(edges, edge{a, e.IntervalEnd, e.Expires})
		}
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if c := a.at.Compare(b.at); c != 0 {
			return c
		}
		// Where one range ends and the next starts, the end comes first.
		if a.end == b.end {
			return 0
		} else if a.end {
			return -1
		}
		return 1
	})
	var all blocks
	for i, e := range edges {
		if e.end {
			continue
		}
		b := block{from: e.at, left: e.left}
		if i+1 < len(edges) {
			b.to = edges[i+1].at.Prev()
		} else {
			b.to = lastAddr(netip.PrefixFrom(e.at, 0))
		}
		all = append(all, b)
	}
	return all
}

// findCovering is the block that p lies in.
func (bs blocks) findCovering(p netip.Prefix) (block, bool) {
	for _, b := range bs {
		if b.from.BitLen() == p.Addr().BitLen() && b.from.Compare(p.Addr()) <= 0 && b.to.Compare(lastAddr(p)) >= 0 {
			return b, true
		}
	}
	return block{}, false
}
