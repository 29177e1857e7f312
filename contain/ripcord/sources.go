//go:build linux

package ripcord

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/tables"
)

// fixSources lets the host use its configured addresses, removes those no
// longer configured, and sets how many more may be learnt.
func (g *Gateway) fixSources() error {
	fixed := map[netip.Addr]bool{}
	var errs []error
	for _, a := range g.config.Addresses {
		fixed[a] = true
		if a.Is6() && !a.IsLinkLocalUnicast() {
			errs = append(errs, g.wire.PutPrefix(a, bootMS()))
		}
		errs = append(errs, g.wire.PutSource(a, tables.Source{Seen: bootMS(), Fixed: 1}))
	}
	for a, s := range g.wire.Sources() {
		if s.Fixed == 1 && !fixed[a] {
			errs = append(errs, g.wire.DropSource(a))
		}
	}
	return errors.Join(append(errs, g.setBudget())...)
}

// setBudget counts the learnt addresses. A packet may be learnt meanwhile; the
// next sweep counts again.
func (g *Gateway) setBudget() error {
	left := [2]int{g.config.Learn.IPv4, g.config.Learn.IPv6}
	for a, s := range g.wire.Sources() {
		if s.Fixed == 0 {
			left[familyIndex(a)]--
		}
	}
	// Where no router advertises one, the host's first address says which prefix
	// is the link's.
	prefixes := int32(1)
	for range g.wire.Prefixes() {
		prefixes = 0
	}
	return g.wire.SetBudget(int32(left[0]), int32(left[1]), prefixes)
}

// familyIndex is 0 for IPv4 and 1 for IPv6, the index into budgets.
func familyIndex(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// ageSources removes addresses that were quiet, if the host uses others: so a
// silent host keeps its addresses until it uses a new one.
func ageSources(w *bpf.Wire, wanted [2]bool, quiet time.Duration, now uint32) (gone int, err error) {
	for a, s := range w.Sources() {
		if s.Fixed == 0 && wanted[familyIndex(a)] && now-s.Seen > toMilliseconds(quiet) {
			if err := w.DropSource(a); err != nil {
				return gone, fmt.Errorf("remove address %v: %w", a, err)
			}
			gone++
		}
	}
	return gone, nil
}

// backoff says when the addresses of a host that was unplugged may be forgotten.
// A host may take its own link down to get another address, so each time within
// the hour doubles the time to the next.
type backoff struct {
	next time.Time
	wait time.Duration
}

const longestBackoff = time.Hour

// allow reports whether it may happen now.
func (b *backoff) allow(now time.Time, first time.Duration) bool {
	if now.Before(b.next) {
		return false
	}
	if b.wait == 0 || now.Sub(b.next) > longestBackoff {
		b.wait = first
	} else {
		b.wait = min(2*b.wait, longestBackoff)
	}
	b.next = now.Add(b.wait)
	return true
}

// forgetSources removes the learnt addresses of a host that was unplugged: the
// next one may be another.
func (g *Gateway) forgetSources() error {
	if !g.unplugged.allow(time.Now(), g.config.Learn.Quiet) {
		g.log.Warn("link to the host is down again: it keeps its addresses", "until", g.unplugged.next.UTC().Format(time.RFC3339))
		return nil
	}
	for p := range g.wire.Prefixes() {
		if err := g.wire.DropPrefix(p); err != nil {
			return fmt.Errorf("remove prefix %v: %w", p, err)
		}
	}
	for a, s := range g.wire.Sources() {
		if s.Fixed == 0 {
			if err := g.wire.DropSource(a); err != nil {
				return fmt.Errorf("remove address %v: %w", a, err)
			}
		}
	}
	g.log.Info("link to the host is down: its addresses will be learnt again")
	return g.fixSources()
}
