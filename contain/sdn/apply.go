package sdn

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"dragnet/contain/sdn/openflow"
	"dragnet/dossier"
	"dragnet/flow"
)

// Switch applies decisions at one switch. It is meant for one caller:
// concurrent calls are safe only if the switch keeps their order.
type Switch struct{ c Configuration }

// New makes one; nothing is connected.
func New(c Configuration) (*Switch, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if c.Name == "" {
		c.Name = c.Address
	}
	return &Switch{c}, nil
}

// Name is that of the configuration, or the address.
func (w *Switch) Name() string { return w.c.Name }

// Apply puts the active decisions, and no others, into effect. There is a receipt
// for every decision, also with an error, which concerns the switch as a whole:
// ErrUnreachable, ErrProtocol, ErrContradiction, or an openflow.Failure.
func (w *Switch) Apply(ctx context.Context, now flow.Time, decisions []dossier.Decision) ([]dossier.Receipt, error) {
	var o outcome
	paths, detourErr := w.prepareDetours(ctx, now, decisions)
	err := w.c.withSession(ctx, func(s *session) (err error) {
		o, err = w.applyDecisions(s, now, decisions, paths)
		return err
	})
	// Other switches let go of packets only once none are sent to them.
	err = errors.Join(err, detourErr, w.endDetours(ctx, now, decisions, paths, err))
	var all []dossier.Receipt
	for i := range decisions {
		all = append(all, w.makeReceipt(now, &decisions[i], o, err))
	}
	return all, err
}

// outcome is what the switch lists afterwards, and what was to be there.
type outcome struct {
	listed []openflow.RuleStats
	t      treatment
}

func (c *Configuration) withSession(ctx context.Context, do func(*session) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	s, err := openSession(ctx, c)
	if err == nil {
		defer s.close()
		err = do(s)
	}
	if err != nil {
		return fmt.Errorf("switch %s: %w", c.Name, err)
	}
	return nil
}

func (w *Switch) applyDecisions(s *session, now flow.Time, decisions []dossier.Decision, paths []path) (o outcome, err error) {
	have, err := s.listRules(ours)
	if err != nil {
		return o, err
	}
	var missing error
	if o.t, missing = w.resolvePorts(s, paths); missing != nil && w.c.Restraint != Move {
		return o, missing
	}
	// Packets for which there is no path take their usual one.
	var want []openflow.Rule
	if w.c.Enforce {
		want = w.c.planAll(now, decisions, o.t)
	}
	if len(want) > 0 && w.c.Restraint == Slow {
		if err := w.provideMeter(s); err != nil {
			return o, err
		}
	}
	if o.listed, err = s.replaceRules(ours, have, want); err != nil {
		return o, err
	}
	return o, errors.Join(missing, w.dropMeter(s, have, want))
}

// replaceRules makes the rules of a family those that are wanted, and returns what the
// switch lists afterwards.
func (s *session) replaceRules(of family, have []openflow.RuleStats, want []openflow.Rule) (listed []openflow.RuleStats, err error) {
	change := compareRules(of, have, want)
	if change.isEmpty() {
		return have, nil
	}
	if err := s.makeChanges(change, have); err != nil {
		return nil, err
	}
	if listed, err = s.listRules(of); err != nil {
		return nil, err
	}
	return listed, verifyRules(of, listed, want)
}

// resolvePorts returns what the rules do, once ports have numbers.
func (w *Switch) resolvePorts(s *session, paths []path) (t treatment, err error) {
	switch w.c.Restraint {
	case Slow:
		t.action = openflow.Action{Meter: w.c.Meter, Ports: []uint32{openflow.PortNormal}}
	case Reroute:
		number, err := s.findPort(w.c.Port)
		if err != nil {
			return t, err
		}
		t.action = openflow.Action{Ports: []uint32{number}}
	case Move:
		t.paths, err = findPaths(s, paths)
	}
	return t, err
}

// findPort is the number of the port with that name, which must be up.
func (s *session) findPort(name string) (uint32, error) {
	ports, err := s.listPorts()
	if err != nil {
		return 0, err
	}
	for _, p := range ports {
		if p.Name == name && p.Number < openflow.PortMax {
			if p.Down {
				return 0, fmt.Errorf("port %s is down: to send packets to it would be to drop them", p.Name)
			}
			return p.Number, nil
		}
	}
	return 0, fmt.Errorf("the switch has no port called %s", name)
}

// provideMeter adds the meter, or corrects its rate.
func (w *Switch) provideMeter(s *session) error {
	want := openflow.Meter{ID: w.c.Meter, Rate: w.c.Rate, Burst: w.c.Burst}
	limit, err := s.meterLimit()
	if err != nil {
		return fmt.Errorf("ask for meters: %w", err)
	}
	if limit < want.ID {
		return fmt.Errorf("the switch's largest meter is %d, and %d is configured", limit, want.ID)
	}
	meters, err := s.listMeters()
	if err != nil {
		return err
	}
	body := openflow.AddMeter(want)
	for _, m := range meters {
		if m == want {
			return nil
		}
		if m.ID == want.ID {
			body = openflow.ModifyMeter(want)
		}
	}
	if err := s.commitAll(func() error { return s.send(openflow.MeterMod, s.nextXID(), body) }); err != nil {
		return fmt.Errorf("meter %d: %w", want.ID, err)
	}
	return nil
}

// dropMeter deletes the meters of our rules once no rule uses them any more, and
// our own also if its rules have expired meanwhile.
func (w *Switch) dropMeter(s *session, have []openflow.RuleStats, want []openflow.Rule) error {
	used := map[uint32]bool{}
	if w.c.Restraint == Slow && len(want) == 0 {
		meters, err := s.listMeters()
		if err != nil {
			return err
		}
		used[w.c.Meter] = slices.ContainsFunc(meters, func(m openflow.Meter) bool { return m.ID == w.c.Meter })
	}
	for _, r := range have {
		used[r.Action.Meter] = r.Action.Meter != 0
	}
	for _, r := range want {
		used[r.Action.Meter] = false
	}
	for id, ours := range used {
		if !ours {
			continue
		}
		if err := s.commitAll(func() error { return s.send(openflow.MeterMod, s.nextXID(), openflow.DeleteMeter(id)) }); err != nil {
			return fmt.Errorf("delete meter %d: %w", id, err)
		}
	}
	return nil
}

// commitAll sends, and waits until the switch has done it all (section 6.2).
func (s *session) commitAll(send func() error) error {
	s.first = s.xid + 1
	if err := send(); err != nil {
		return err
	}
	xid := s.nextXID()
	if err := s.send(openflow.BarrierRequest, xid, nil); err != nil {
		return err
	}
	_, err := s.awaitReply(xid, openflow.BarrierReply)
	return err
}

func (c changes) encodeBodies() (all [][]byte) {
	if c.removeAll {
		all = append(all, openflow.DeleteRules(c.of.cookie, c.of.mask))
	}
	for _, r := range c.remove {
		all = append(all, openflow.DeleteRule(r))
	}
	for _, r := range c.add {
		all = append(all, openflow.AddRule(r))
	}
	return all
}

// makeChanges makes the changes at once, or if the switch knows no bundles one by one.
func (s *session) makeChanges(c changes, before []openflow.RuleStats) error {
	err := s.sendBundle(c.encodeBodies())
	var f openflow.Failure
	if !errors.As(err, &f) || !f.Unsupported() {
		return err
	}
	if err = s.oneByOne(c.encodeBodies()); errors.As(err, &f) {
		return errors.Join(err, s.restoreRules(c.of, before))
	}
	return err
}

// bundle is the number of the one bundle of a session.
const bundleNumber = 1

func (s *session) sendBundle(bodies [][]byte) error {
	if err := s.controlBundle(openflow.OpenBundle); err != nil {
		return err
	}
	err := s.commitAll(func() error {
		for _, b := range bodies {
			xid := s.nextXID()
			m := openflow.Message{Version: openflow.Version13, Type: openflow.FlowMod, XID: xid, Body: b}
			if err := s.send(openflow.Experimenter, xid, openflow.BundledBody(bundleNumber, m)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err // the bundle ends with the connection
	}
	return s.controlBundle(openflow.CommitBundle)
}

func (s *session) controlBundle(step openflow.BundleStep) error {
	m, err := s.sendRequest(openflow.Experimenter, openflow.BundleBody(bundleNumber, step), openflow.Experimenter)
	if err != nil {
		return err
	}
	if id, answered, err := openflow.ParseBundle(m.Body); err != nil || id != bundleNumber || answered != step {
		return fmt.Errorf("%w: its answer to step %d of a bundle is of another", ErrProtocol, step)
	}
	return nil
}

func (s *session) oneByOne(bodies [][]byte) error {
	return s.commitAll(func() error {
		for _, b := range bodies {
			if err := s.send(openflow.FlowMod, s.nextXID(), b); err != nil {
				return err
			}
		}
		return nil
	})
}

// restoreRules gives a switch that refused a change its former rules back.
func (s *session) restoreRules(of family, before []openflow.RuleStats) error {
	back := changes{of: of, removeAll: true}
	for _, r := range before {
		if r.Match.Others == 0 && r.Match.Source.IsValid() && r.Action.Others == 0 {
			r.Hard = uint16(min(maxTimeout, max(time.Second, r.Left())) / time.Second)
			back.add = append(back.add, r.Rule)
		}
	}
	// Replies to what was refused may still be under way; their transactions are
	// older than those of this exchange.
	if err := s.oneByOne(back.encodeBodies()); err != nil {
		return fmt.Errorf("its former rules could not be restored: %w", err)
	}
	return nil
}

// verifyRules compares what the switch lists with what it was told.
func verifyRules(of family, listed []openflow.RuleStats, want []openflow.Rule) error {
	left := compareRules(of, listed, want)
	if left.removeAll || len(left.remove) > 0 {
		return fmt.Errorf("%w: it lists rules that it was told to delete", ErrContradiction)
	}
	if len(left.add) > 0 {
		return fmt.Errorf("%w: of %d rules it confirmed it lists %d, or others in their place", ErrContradiction, len(want), len(want)-len(left.add))
	}
	return nil
}

// makeReceipt reports what the switch lists for one decision.
func (w *Switch) makeReceipt(now flow.Time, d *dossier.Decision, o outcome, failed error) dossier.Receipt {
	r := dossier.Receipt{Version: dossier.ReceiptVersion, Decision: d.ID, Point: w.c.describeSwitch(), Time: now}
	if err := w.c.findObjection(now, d); err != nil {
		r.Problem = err.Error()
		return r
	}
	rules := w.c.rulesFor(now, targetOf(d), o.t)
	if proof := proveListed(o.listed, rules); proof != "" {
		r.Applied, r.Proof = true, proof+proveDetour(targetOf(d), o.t.paths)
		return r
	}
	switch {
	case failed != nil:
		r.Problem = failed.Error()
	case !w.c.Enforce:
		r.Problem = "dry run: " + describeRules(targetOf(d), rules)
	default:
		r.Problem = "the switch lists no such rule for " + targetOf(d).String()
	}
	return r
}

// proveListed states that the switch lists every one of rules; it is empty if one is
// missing, or if there are none.
func proveListed(listed []openflow.RuleStats, rules []openflow.Rule) (proof string) {
	for i, r := range rules {
		k := slices.IndexFunc(listed, func(have openflow.RuleStats) bool { return have.Match == r.Match && have.Action.Equal(r.Action) })
		if k < 0 {
			return ""
		}
		if have := &listed[k]; i == 0 {
			proof = fmt.Sprintf("the switch lists for %s: %s, for another %s; it matched %d packets of %d bytes so far", have.Match, have.Action, have.Left().Round(time.Second), have.Packets, have.Bytes)
		}
	}
	return proof
}

func describeRules(source netip.Prefix, rules []openflow.Rule) string {
	if len(rules) == 0 {
		return fmt.Sprintf("there is no way for packets from %s", source)
	}
	return fmt.Sprintf("packets from %s would get: %s", rules[0].Match, rules[0].Action)
}

// Rules lists our rules with their counters, also those that bring back what another
// switch of ours sends here.
func (w *Switch) Rules(ctx context.Context) (all []openflow.RuleStats, err error) {
	err = w.c.withSession(ctx, func(s *session) error {
		for _, of := range []family{ours, anyTransit} {
			some, err := s.listRules(of)
			if err != nil {
				return err
			}
			all = append(all, some...)
		}
		return nil
	})
	return all, err
}

// Remove deletes all our rules and the meter that they used, and returns how many
// rules there were. It is the same whether or not decisions are enforced. Of
// switches that packets are moved through, remove them too, but this one first.
func (w *Switch) Remove(ctx context.Context) (n int, err error) {
	err = w.c.withSession(ctx, func(s *session) error {
		for _, of := range []family{ours, anyTransit} {
			have, err := s.listRules(of)
			if err != nil {
				return err
			}
			n += len(have)
			if len(have) > 0 {
				if err := s.makeChanges(changes{of: of, removeAll: true}, have); err != nil {
					return err
				}
			}
			if of == ours {
				if err := w.dropMeter(s, have, nil); err != nil {
					return err
				}
			}
			left, err := s.listRules(of)
			if err != nil {
				return err
			}
			if err := verifyRules(of, left, nil); err != nil {
				return err
			}
		}
		return nil
	})
	return n, err
}
