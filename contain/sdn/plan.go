package sdn

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/contain/sdn/openflow"
	"dragnet/dossier"
	"dragnet/flow"
)

// Our rules have "drag" in the upper half of their cookie; the lower half comes
// from the decision.
const (
	ourCookie = uint64(0x64726167) << 32
	ourMask   = uint64(0xffffffff) << 32
)

// family is the rules whose cookie agrees with cookie under mask.
type family struct{ cookie, mask uint64 }

var ours = family{ourCookie, ourMask}

func cookieOf(decision string) uint64 {
	h := sha256.Sum256([]byte(decision))
	return ourCookie | uint64(binary.BigEndian.Uint32(h[:4]))
}

// findObjection says why a decision is not applied; the allow list comes first.
func (c *Configuration) findObjection(now flow.Time, d *dossier.Decision) error {
	switch {
	case !d.Target.IsValid() || d.Target.Bits() == 0:
		return fmt.Errorf("not applied: %s would block every address", d.Target)
	case slices.ContainsFunc(c.Allow, d.Target.Overlaps):
		return fmt.Errorf("not applied: the allow list of this switch protects %s", d.Target)
	case d.Standing != nil:
		return errors.New("not applied: a standing decision blocks no address")
	case d.Verdict != dossier.Active:
		return fmt.Errorf("not applied: the decision is %s", d.Verdict)
	case now >= d.Until:
		return errors.New("not applied: it has expired")
	case c.Restraint == Move && len(c.networksOf(targetOf(d))) == 0:
		return fmt.Errorf("not applied: detour.within has no network of the family of %s", d.Target)
	}
	return nil
}

// treatment is what the rules of a switch do, once its ports have numbers.
type treatment struct {
	action openflow.Action // of all packets of a source
	paths  []path          // for Move instead
}

// rulesFor returns the rules for the packets of source, without cookie and timeout. There are
// none if no path is left.
func (c *Configuration) rulesFor(now flow.Time, source netip.Prefix, t treatment) []openflow.Rule {
	if c.Restraint == Move {
		return c.moveRules(now, source, t.paths)
	}
	return []openflow.Rule{{Priority: c.Priority, Match: openflow.Match{Source: source}, Action: t.action}}
}

// planAll returns the rules for decisions; of several about a source, the decision that
// lasts longest decides.
func (c *Configuration) planAll(now flow.Time, decisions []dossier.Decision, t treatment) []openflow.Rule {
	return c.planRules(now, decisions, func(source netip.Prefix) []openflow.Rule { return c.rulesFor(now, source, t) }, cookieOf, 0)
}

// planRules gives the rules of each source a cookie and a timeout, which is by
// longer beyond the lease.
func (c *Configuration) planRules(now flow.Time, decisions []dossier.Decision, rulesOf func(source netip.Prefix) []openflow.Rule, cookie func(decision string) uint64, longer time.Duration) []openflow.Rule {
	longest := map[netip.Prefix]*dossier.Decision{}
	for i := range decisions {
		d := &decisions[i]
		if c.findObjection(now, d) != nil {
			continue
		}
		if p := targetOf(d); longest[p] == nil || longest[p].Until < d.Until {
			longest[p] = d
		}
	}
	var rules []openflow.Rule
	for p, d := range longest {
		left := min(min(time.Duration(d.Until-now), c.Lease)+longer, maxTimeout)
		for _, r := range rulesOf(p) {
			r.Cookie, r.Hard = cookie(d.ID), uint16((left+time.Second-1)/time.Second)
			rules = append(rules, r)
		}
	}
	slices.SortStableFunc(rules, func(a, b openflow.Rule) int { return a.Match.Source.Compare(b.Match.Source) })
	return rules
}

func targetOf(d *dossier.Decision) netip.Prefix {
	if a := d.Target.Addr(); a.Is4In6() && d.Target.Bits() >= 96 {
		return netip.PrefixFrom(a.Unmap(), d.Target.Bits()-96).Masked()
	}
	return d.Target.Masked()
}

// place is what two rules cannot share in one switch.
type place struct {
	table    uint8
	priority uint16
	match    openflow.Match
}

func placeOf(r *openflow.Rule) place {
	return place{r.Table, r.Priority, r.Match}
}

// changes are what makes the rules that are there those that are wanted.
type changes struct {
	of     family
	add    []openflow.Rule
	remove []openflow.Rule
	// removeAll takes out rules that cannot be named one by one.
	removeAll bool
}

func (c changes) isEmpty() bool { return len(c.add) == 0 && len(c.remove) == 0 && !c.removeAll }

func compareRules(of family, have []openflow.RuleStats, want []openflow.Rule) (c changes) {
	c.of = of
	wanted := map[place]bool{}
	for i := range want {
		wanted[placeOf(&want[i])] = true
	}
	there := map[place]*openflow.RuleStats{}
	for i := range have {
		r := &have[i]
		there[placeOf(&r.Rule)] = r
		switch {
		case r.Match.Others > 0 || !r.Match.Source.IsValid():
			// A rule with our cookie that we did not make.
			c.removeAll = true
		case !wanted[placeOf(&r.Rule)]:
			c.remove = append(c.remove, r.Rule)
		}
	}
	for _, r := range want {
		if h := there[placeOf(&r)]; h == nil || c.removeAll || !isCurrent(h, &r) {
			c.add = append(c.add, r)
		}
	}
	if c.removeAll {
		c.remove = nil
	}
	return c
}

// isCurrent reports whether h is r, and lasts about as long: it is renewed when half
// of its time is over.
func isCurrent(h *openflow.RuleStats, r *openflow.Rule) bool {
	want := time.Duration(r.Hard) * time.Second
	left := h.Left()
	return h.Cookie == r.Cookie && h.Action.Equal(r.Action) && left > 0 && left >= want/2 && left <= want+2*time.Second
}
