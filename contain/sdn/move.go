package sdn

import (
	"cmp"
	"context"
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

// Detour moves what a machine sends within its tenant's networks to a path through
// the switch of another server, and to another one from time to time, which blunts
// measurements of delay (Zolotukhin et al. 2017, section 5).
//
// The switch sends such packets out by Via.Port; the other one returns them by the
// port that they came in by, and they go on as they would have. So that no switch
// learns from a returned packet that the machine is elsewhere, its Ethernet source is
// another one meanwhile: the receiver sees that too, and answers by ARP as before.
// Broadcasts must not go round between the two switches by these ports: where they
// forward as learning switches, set the ports to no-flood. What others send to the
// machine takes its usual path.
type Detour struct {
	// Within are the tenant's networks: packets from the source to others are left
	// alone.
	Within []netip.Prefix `yaml:"within"`
	// Via are the other switches, of which a source uses one at a time.
	Via []Via `yaml:"via"`
	// Every is how long a source uses one of them, at least 1s.
	Every time.Duration `yaml:"every"`
}

// Via is the switch of another server.
type Via struct {
	// Name identifies it in receipts.
	Name string `yaml:"name"`
	// Address is where it listens, as that of the switch itself.
	Address string `yaml:"address"`
	// TLS names the files for tls: addresses.
	TLS TLS `yaml:"tls"`
	// Port is the name of the port here that leads there.
	Port string `yaml:"port"`
	// Back is the name of the port there that leads here.
	Back string `yaml:"back"`
}

// DefaultDetour has no path yet.
func DefaultDetour() Detour {
	return Detour{Within: []netip.Prefix{}, Via: []Via{}, Every: time.Minute}
}

const (
	// transitTag and the 32 bits after it, which come from the switch that sends
	// packets, begin the cookie of rules that return them.
	transitTag = uint64(0x6476) << 48 // "dv"
	// transitLonger is by how much the other switch keeps its rules longer.
	transitLonger = time.Minute
)

var anyTransit = family{transitTag, uint64(0xffff) << 48}

func (c *Configuration) validateDetour() error {
	d := &c.Detour
	switch {
	case len(d.Within) == 0 || len(d.Via) == 0 || len(d.Via) > 16:
		return errors.New("to move needs detour.within and 1 to 16 switches in detour.via")
	case d.Every < time.Second:
		return fmt.Errorf("detour.every %s is less than 1s", d.Every)
	case c.Priority == 1<<16-1:
		return errors.New("to move needs a priority below 65535, as the rule for returned packets is above it")
	}
	for i, p := range d.Within {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("detour.within[%d]: %s is not a prefix such as 10.1.0.0/16", i, p)
		}
	}
	for i := range d.Via {
		v := &d.Via[i]
		if v.Port == "" || len(v.Port) > 15 || v.Back == "" || len(v.Back) > 15 {
			return fmt.Errorf("detour.via[%d] needs the names of both ports, each of at most 15 letters", i)
		}
		if slices.ContainsFunc(d.Via[:i], func(o Via) bool { return o.Port == v.Port }) {
			return fmt.Errorf("detour.via[%d]: port %s leads to another switch already", i, v.Port)
		}
		other := c.configureVia(v)
		if err := other.Validate(); err != nil {
			return fmt.Errorf("detour.via[%d]: %w", i, err)
		}
	}
	return nil
}

// configureVia returns the configuration by which another switch is reached.
func (c *Configuration) configureVia(v *Via) Configuration {
	return Configuration{Name: v.name(), Address: v.Address, TLS: v.TLS, Restraint: Drop, Priority: c.Priority, Lease: c.Lease, Timeout: c.Timeout}
}

// name identifies it in receipts and errors.
func (v *Via) name() string { return cmp.Or(v.Name, v.Address) }

// networksOf returns the networks of the family of a source.
func (c *Configuration) networksOf(source netip.Prefix) (all []netip.Prefix) {
	for _, p := range c.Detour.Within {
		if p.Addr().Is4() == source.Addr().Is4() {
			all = append(all, p)
		}
	}
	return all
}

// path is a way through another switch that is ready.
type path struct {
	via    *Via
	number uint32 // of the port that leads there
	// returned is what the other switch lists, and surplus says that some of it is
	// needed no more.
	returned []openflow.RuleStats
	surplus  bool
}

// transitFamily returns the family of the rules at other switches for this one.
func (c *Configuration) transitFamily() family {
	h := sha256.Sum256([]byte(c.Name + "\x00" + c.Address))
	return family{transitTag | uint64(binary.BigEndian.Uint32(h[:4]))<<16, ^uint64(0xffff)}
}

// prepareDetours has other switches return packets, before any are sent there. The
// paths of those that cannot be reached, refuse or lie are not used; what is wrong
// with them is the error.
func (w *Switch) prepareDetours(ctx context.Context, now flow.Time, decisions []dossier.Decision) (ready []path, err error) {
	if w.c.Restraint != Move || !w.c.Enforce {
		return w.c.plannedPaths(), nil
	}
	var errs []error
	for i := range w.c.Detour.Via {
		p, err := w.setTransit(ctx, now, decisions, &w.c.Detour.Via[i], false)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ready = append(ready, p)
	}
	return ready, errors.Join(errs...)
}

// plannedPaths are all, for a dry run.
func (c *Configuration) plannedPaths() (all []path) {
	if c.Restraint == Move {
		for i := range c.Detour.Via {
			all = append(all, path{via: &c.Detour.Via[i], surplus: true})
		}
	}
	return all
}

// endDetours takes rules that are no longer needed out of other switches, unless
// this switch failed and might still send packets there.
func (w *Switch) endDetours(ctx context.Context, now flow.Time, decisions []dossier.Decision, paths []path, failed error) error {
	if failed != nil {
		return nil
	}
	if !w.c.Enforce {
		decisions = nil
	}
	var errs []error
	for _, p := range paths {
		if p.surplus {
			_, err := w.setTransit(ctx, now, decisions, p.via, true)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// setTransit makes the rules of another switch for this one those that decisions
// need; what is there beyond stays unless it is to end.
func (w *Switch) setTransit(ctx context.Context, now flow.Time, decisions []dossier.Decision, v *Via, end bool) (p path, err error) {
	of, other := w.c.transitFamily(), w.c.configureVia(v)
	p.via = v
	err = other.withSession(ctx, func(s *session) error {
		have, err := s.listRules(of)
		if err != nil {
			return err
		}
		back := uint32(0)
		cookie := func(decision string) uint64 { return of.cookie | cookieOf(decision)&0xffff }
		rulesOf := func(source netip.Prefix) []openflow.Rule { return w.c.transitRules(source, back) }
		want := w.c.planRules(now, decisions, rulesOf, cookie, transitLonger)
		if len(want) > 0 {
			if back, err = s.findPort(v.Back); err != nil {
				return err
			}
			want = w.c.planRules(now, decisions, rulesOf, cookie, transitLonger)
		}
		if rest := notIn(have, want); !end && len(rest) > 0 {
			want, p.surplus = append(want, rest...), true
		}
		p.returned, err = s.replaceRules(of, have, want)
		return err
	})
	return p, err
}

// notIn are the rules of have that are none of want.
func notIn(have []openflow.RuleStats, want []openflow.Rule) (rest []openflow.Rule) {
	for _, h := range have {
		if h.Match.Others == 0 && h.Match.Source.IsValid() && !slices.ContainsFunc(want, func(r openflow.Rule) bool { return placeOf(&r) == placeOf(&h.Rule) }) {
			h.Hard = uint16(min(maxTimeout, max(time.Second, h.Left())) / time.Second)
			rest = append(rest, h.Rule)
		}
	}
	return rest
}

// transitRules return the packets of source that came in by a port.
func (c *Configuration) transitRules(source netip.Prefix, back uint32) (rules []openflow.Rule) {
	for _, n := range c.networksOf(source) {
		rules = append(rules, openflow.Rule{
			Priority: c.Priority, Match: openflow.Match{Source: source, Destination: n, InPort: back},
			Action: openflow.Action{Ports: []uint32{openflow.PortIn}},
		})
	}
	return rules
}

// findPaths gives the ports of paths their numbers. A path whose port is missing or
// down is left out, and so is in the error.
func findPaths(s *session, paths []path) (found []path, err error) {
	var errs []error
	for _, p := range paths {
		if p.number, err = s.findPort(p.via.Port); err == nil {
			found = append(found, p)
		}
		errs = append(errs, err)
	}
	return found, errors.Join(errs...)
}

// moveRules send the packets of source by one path, and take them back from all, since
// some may be under way as the path changes.
func (c *Configuration) moveRules(now flow.Time, source netip.Prefix, paths []path) (rules []openflow.Rule) {
	if len(paths) == 0 {
		return nil
	}
	h := sha256.Sum256([]byte(source.String()))
	turn := uint64(now)/uint64(c.Detour.Every) + uint64(h[0])
	p := paths[turn%uint64(len(paths))]
	within := c.networksOf(source)
	for _, n := range within {
		rules = append(rules, openflow.Rule{
			Priority: c.Priority, Match: openflow.Match{Source: source, Destination: n},
			Action: openflow.Action{EtherSource: [6]byte{2, 'd', h[0], h[1], h[2], h[3]}, Ports: []uint32{p.number}},
		})
	}
	for _, q := range paths {
		for _, n := range within {
			rules = append(rules, openflow.Rule{
				Priority: c.Priority + 1, Match: openflow.Match{Source: source, Destination: n, InPort: q.number},
				Action: openflow.Action{Ports: []uint32{openflow.PortNormal}},
			})
		}
	}
	return rules
}

// proveDetour states what the other switches returned.
func proveDetour(source netip.Prefix, paths []path) (proof string) {
	for _, p := range paths {
		var packets uint64
		for _, r := range p.returned {
			if r.Match.Source == source {
				packets += r.Packets
			}
		}
		proof += fmt.Sprintf("; %s returned %d packets", p.via.name(), packets)
	}
	return proof
}
