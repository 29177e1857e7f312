// Package lapi speaks the dialect of CrowdSec's Local API that bouncers read, so
// that the firewalls, proxies and web servers that have one block what is
// published, or what a node decided, without a change. It hands out decisions
// and takes none.
package lapi

import (
	"cmp"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/publish"
)

// Ban is one line of what bouncers get: block an address or range for a while.
type Ban struct {
	Target netip.Prefix
	Until  flow.Time
	// Scenario says why.
	Scenario string
}

func compareBans(a, b Ban) int { return comparePrefixes(a.Target, b.Target) }

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}

// list is what is banned at one moment; it is never changed.
type list struct {
	sequence int64
	bans     []Ban   // by target, each once
	ranges   []int32 // positions of those that are no single address
	changes  []change
	reaches  int64 // changes after it are complete
	gone     []netip.Prefix
	// renewals are bans that were prolonged, in order of the times at which they
	// have surely ended: a packet filter keeps the time of an element that it is
	// told again, so it is told once more when that is over.
	renewals []renewal
}

type renewal struct {
	at     flow.Time
	target netip.Prefix
}

// change is a target that was listed, changed or removed.
type change struct {
	sequence int64
	target   netip.Prefix
}

// maxChanges bounds the changes kept; a bouncer that is further behind is given
// everything.
const maxChanges = 1 << 20

// nextList returns the list after this one.
func (l *list) nextList(bans []Ban, gone []netip.Prefix, now flow.Time) *list {
	bans = slices.Clone(bans)
	slices.SortStableFunc(bans, compareBans)
	bans = slices.CompactFunc(bans, func(a, b Ban) bool { return a.Target == b.Target })
	n := &list{sequence: l.sequence + 1, bans: bans, changes: slices.Clone(l.changes), reaches: l.reaches, gone: gone}
	for i := range bans {
		if !bans[i].Target.IsSingleIP() {
			n.ranges = append(n.ranges, int32(i))
		}
	}
	for _, r := range l.renewals {
		if r.at > now-renewed {
			n.renewals = append(n.renewals, r)
		}
	}
	note := func(p netip.Prefix) { n.changes = append(n.changes, change{n.sequence, p}) }
	for i, j := 0, 0; i < len(l.bans) || j < len(bans); {
		switch {
		case j == len(bans) || i < len(l.bans) && compareBans(l.bans[i], bans[j]) < 0:
			note(l.bans[i].Target)
			i++
		case i == len(l.bans) || compareBans(l.bans[i], bans[j]) > 0:
			note(bans[j].Target)
			j++
		default:
			if l.bans[i] != bans[j] {
				note(bans[j].Target)
				if l.bans[i].Until < bans[j].Until {
					n.renewals = append(n.renewals, renewal{l.bans[i].Until + settle, bans[j].Target})
				}
			}
			i, j = i+1, j+1
		}
	}
	slices.SortFunc(n.renewals, func(a, b renewal) int { return cmp.Compare(a.at, b.at) })
	if over := len(n.changes) - maxChanges; over > 0 {
		n.reaches = n.changes[over-1].sequence
		n.changes = slices.Clone(n.changes[over:])
	}
	return n
}

func (l *list) findBan(p netip.Prefix) (*Ban, bool) {
	i, ok := slices.BinarySearchFunc(l.bans, p, func(b Ban, p netip.Prefix) int { return comparePrefixes(b.Target, p) })
	if !ok {
		return nil, false
	}
	return &l.bans[i], true
}

// settle is how much later than the ban an element may end: a bouncer counts from
// when it has the answer.
const settle = flow.Time(15 * time.Second)

// renewed is how long after its time a renewal is still told, to bouncers that
// pull seldom.
const renewed = flow.Time(24 * time.Hour)

// changedAfter are the targets that a reader has to be told of, in order;
// complete is false if the list does not know.
func (l *list) changedAfter(p position, now flow.Time) (targets []netip.Prefix, complete bool) {
	if p.sequence < l.reaches || p.sequence > l.sequence || p.at < now-renewed {
		return nil, false
	}
	from, _ := slices.BinarySearchFunc(l.changes, p.sequence+1, func(c change, s int64) int { return cmp.Compare(c.sequence, s) })
	for _, c := range l.changes[from:] {
		targets = append(targets, c.target)
	}
	first, _ := slices.BinarySearchFunc(l.renewals, p.at+1, func(r renewal, t flow.Time) int { return cmp.Compare(r.at, t) })
	for _, r := range l.renewals[first:] {
		if r.at > now {
			break
		}
		targets = append(targets, r.target)
	}
	slices.SortFunc(targets, comparePrefixes)
	return slices.Compact(targets), true
}

// FromView selects the hosts with an entry of at least a confidence, and names
// those that were published and no longer are.
func FromView(v *publish.View, least int) (bans []Ban, gone []netip.Prefix) {
	texts := map[*dossier.Group]string{}
	v.EachHost(v.Time, func(rows []publish.Row) bool {
		best := publish.Best(rows)
		if best.Confidence < least {
			return true
		}
		b := Ban{Target: hostPrefix(best.Host)}
		for i := range rows {
			if rows[i].Confidence >= least {
				b.Until = max(b.Until, rows[i].Until)
			}
		}
		text, ok := texts[best.Of]
		if !ok {
			text = "dragnet/" + publish.PatternText(best.Of)
			texts[best.Of] = text
		}
		b.Scenario = text
		bans = append(bans, b)
		return true
	})
	for i := range v.Changes {
		if c := &v.Changes[i]; c.Kind == dossier.Removed {
			gone = append(gone, hostPrefix(c.Entry.Host))
		}
	}
	return bans, gone
}

// FromDecisions selects the active decisions that block a source, and names
// those that ended.
func FromDecisions(all []dossier.Decision, now flow.Time) (bans []Ban, gone []netip.Prefix) {
	for i := range all {
		d := &all[i]
		switch {
		case d.Standing != nil:
		case d.Verdict == dossier.Active && d.Until > now:
			bans = append(bans, Ban{d.Target, d.Until, "dragnet/" + d.Why})
		case d.Verdict != dossier.Proposed && d.Verdict != dossier.DryRun && d.Verdict != dossier.Refused:
			gone = append(gone, d.Target)
		}
	}
	return bans, gone
}

func hostPrefix(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

// selection is what a request narrows the list to.
type selection struct {
	nothing             bool // an origin, type or scope we do not have
	ips, ranges         bool
	containing, without []string
}

func (s *selection) selectsBan(b *Ban) bool {
	if s.nothing || b.Target.IsSingleIP() && !s.ips || !b.Target.IsSingleIP() && !s.ranges {
		return false
	}
	if len(s.containing)+len(s.without) == 0 {
		return true
	}
	scenario := strings.ToLower(b.Scenario)
	contains := func(part string) bool { return strings.Contains(scenario, part) }
	return (len(s.containing) == 0 || slices.ContainsFunc(s.containing, contains)) && !slices.ContainsFunc(s.without, contains)
}

// appendBan writes a decision of CrowdSec's API; text is its scenario in JSON.
func appendBan(b []byte, x *Ban, text []byte, now flow.Time) []byte {
	b = append(b, `{"id":`...)
	id := len(b)
	b = append(b, `0000000000,"origin":"dragnet","type":"ban","scope":"`...)
	if x.Target.IsSingleIP() {
		b = append(b, `Ip","value":"`...)
	} else {
		b = append(b, `Range","value":"`...)
	}
	value := len(b)
	b = x.Target.Addr().AppendTo(b)
	if !x.Target.IsSingleIP() {
		b = strconv.AppendInt(append(b, '/'), int64(x.Target.Bits()), 10)
	}
	// The identifier is always ten digits long: 1 and a hash of the value.
	strconv.AppendUint(b[id:id], 1e9+hashOf(b[value:])%1e9, 10)
	b = append(b, `","duration":"`...)
	b = appendDuration(b, max(x.Until-now, 0))
	b = append(b, `","scenario":`...)
	return append(append(b, text...), '}')
}

// hashOf is FNV-1a.
func hashOf(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}

// appendDuration writes whole seconds as Go does: 23h59m59s.
func appendDuration(b []byte, t flow.Time) []byte {
	seconds := int64(t) / int64(time.Second)
	if seconds >= 3600 {
		b = append(strconv.AppendInt(b, seconds/3600, 10), 'h')
	}
	if seconds >= 60 {
		b = append(strconv.AppendInt(b, seconds/60%60, 10), 'm')
	}
	return append(strconv.AppendInt(b, seconds%60, 10), 's')
}
