package decide

import (
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"dragnet/dossier"
	"dragnet/flow"
)

// Judge holds the decisions.
type Judge struct {
	c         Configuration
	decisions []*dossier.Decision // in order of their proposal
	byID      map[string]*dossier.Decision
	stopped   bool
}

// New makes a judge that goes on from decisions made before, which may be nil.
func New(c Configuration, before []dossier.Decision) (*Judge, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	j := &Judge{c: c, byID: map[string]*dossier.Decision{}}
	for i := range before {
		d := clone(&before[i])
		if d.ID == "" || j.byID[d.ID] != nil {
			return nil, fmt.Errorf("decision %d of %d has no unique identifier (%q)", i+1, len(before), d.ID)
		}
		j.decisions, j.byID[d.ID] = append(j.decisions, &d), &d
	}
	return j, nil
}

// Reasons against a proposal or an approval.
var (
	ErrAllowed = errors.New("the allow list protects it")
	ErrBudget  = errors.New("the ban budget is used up")
	ErrStopped = errors.New("decisions are stopped")
	ErrOver    = errors.New("the decision is over")
	ErrUnknown = errors.New("decision not found")
)

// Propose judges a proposal. A refusal is a Decision too, with an error that
// says why. If the target is already decided on or waits for approval, that
// Decision is returned instead of a second one.
func (j *Judge) Propose(now flow.Time, p dossier.Proposal) (dossier.Decision, error) {
	if !p.Target.IsValid() || p.Who == "" || p.Why == "" || p.TTL < 0 || p.Standing != nil && p.Standing.Most < 1 {
		return dossier.Decision{}, fmt.Errorf("a proposal needs a target, who proposes it, why, a time that is not negative, and a bound if it is a standing decision")
	}
	j.Expire(now)
	target := netip.PrefixFrom(p.Target.Addr().Unmap(), p.Target.Bits()).Masked()
	if !target.IsValid() {
		return dossier.Decision{}, fmt.Errorf("%s is not a prefix", p.Target)
	}
	for _, d := range j.decisions {
		if d.Target == target && isPending(d.Verdict) && sameRule(d.Standing, p.Standing) {
			return clone(d), nil
		}
	}
	ttl := p.TTL
	if ttl == 0 {
		ttl = j.c.TTL
	}
	d := &dossier.Decision{
		Version: dossier.DecisionVersion, Target: target, Why: p.Why, Findings: append([]string{}, p.Findings...),
		Until: now + flow.Time(min(ttl, j.c.MaxTTL)), Standing: p.Standing,
	}
	h := sha256.Sum256(fmt.Appendf(nil, "%s %d %d", target, now, len(j.decisions)))
	d.ID = base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(h[:10])
	d.Undo = "dragnet decision undo " + d.ID
	j.decisions, j.byID[d.ID] = append(j.decisions, d), d
	err := j.objectionTo(d)
	switch {
	case err != nil:
		addStep(d, now, p.Who, dossier.Refused, err.Error())
	case j.c.Approval:
		addStep(d, now, p.Who, dossier.Proposed, p.Why)
	default:
		addStep(d, now, p.Who, j.effect(), p.Why)
	}
	j.forgetEnded()
	return clone(d), err
}

// Approve lets a proposed decision take effect.
func (j *Judge) Approve(now flow.Time, id, who string) (dossier.Decision, error) {
	return j.changeDecision(now, id, func(d *dossier.Decision) error {
		if d.Verdict != dossier.Proposed {
			return nil // approving twice changes nothing
		}
		if err := j.objectionTo(d); err != nil {
			return err
		}
		addStep(d, now, who, j.effect(), "approved")
		return nil
	})
}

// Undo takes a decision back, or refuses a proposed one.
func (j *Judge) Undo(now flow.Time, id, who, why string) (dossier.Decision, error) {
	return j.changeDecision(now, id, func(d *dossier.Decision) error {
		if d.Verdict == dossier.Proposed {
			addStep(d, now, who, dossier.Refused, why)
		} else {
			addStep(d, now, who, dossier.Undone, why)
		}
		return nil
	})
}

func (j *Judge) changeDecision(now flow.Time, id string, do func(*dossier.Decision) error) (dossier.Decision, error) {
	j.Expire(now)
	d := j.byID[id]
	if d == nil {
		return dossier.Decision{}, fmt.Errorf("%q: %w", id, ErrUnknown)
	}
	if !isPending(d.Verdict) {
		return clone(d), fmt.Errorf("%s is %s: %w", id, d.Verdict, ErrOver)
	}
	err := do(d)
	return clone(d), err
}

// Stop ends everything, and refuses what comes until Resume.
func (j *Judge) Stop(now flow.Time, who, why string) {
	j.Expire(now)
	j.stopped = true
	for _, d := range j.decisions {
		if isPending(d.Verdict) {
			addStep(d, now, who, dossier.Stopped, why)
		}
	}
}

// Resume lets new decisions through again; those that were stopped stay so.
func (j *Judge) Resume() { j.stopped = false }

// Configure changes the rules from now on. Decisions that the new allow list
// protects end; what was a dry run does not become real by it.
func (j *Judge) Configure(now flow.Time, c Configuration, who string) error {
	if err := c.Validate(); err != nil {
		return err
	}
	j.c = c
	j.Expire(now)
	for _, d := range j.decisions {
		switch {
		case !isPending(d.Verdict):
		case j.isAllowed(d):
			addStep(d, now, who, dossier.Undone, ErrAllowed.Error())
		case d.Verdict == dossier.Active && !c.Enforce:
			addStep(d, now, who, dossier.Undone, "decisions are a dry run from now on")
		}
	}
	return nil
}

// Rules returns the judge's configuration.
func (j *Judge) Rules() Configuration { return j.c }

// Expire ends decisions whose time is over. The other methods do so first.
func (j *Judge) Expire(now flow.Time) {
	for _, d := range j.decisions {
		if isPending(d.Verdict) && now >= d.Until {
			addStep(d, now, "time", dossier.Expired, "its time is over")
		}
	}
}

// Active lists what is to be applied, and nothing else is.
func (j *Judge) Active(now flow.Time) []dossier.Decision {
	j.Expire(now)
	var all []dossier.Decision
	for _, d := range j.decisions {
		if d.Verdict == dossier.Active {
			all = append(all, clone(d))
		}
	}
	return all
}

// Decisions lists all that are remembered, the oldest first.
func (j *Judge) Decisions(now flow.Time) []dossier.Decision {
	j.Expire(now)
	all := make([]dossier.Decision, len(j.decisions))
	for i, d := range j.decisions {
		all[i] = clone(d)
	}
	return all
}

// objectionTo returns the error that keeps a decision from taking effect, or nil.
func (j *Judge) objectionTo(d *dossier.Decision) error {
	switch {
	case j.isAllowed(d):
		return fmt.Errorf("%s: %w", d.Target, ErrAllowed)
	case j.stopped:
		return fmt.Errorf("%s: %w (decision resume lets new ones through)", d.Target, ErrStopped)
	}
	used := weighDecision(d)
	for _, o := range j.decisions {
		if o != d && (o.Verdict == dossier.Active || o.Verdict == dossier.DryRun) {
			used += weighDecision(o)
		}
	}
	if used > j.c.maxWeight() {
		return fmt.Errorf("%s: %w: %.0f addresses would be blocked, at most %.0f may be", d.Target, ErrBudget, used, j.c.maxWeight())
	}
	return nil
}

// isAllowed reports whether a decision touches an address on the allow list. A
// standing one does not: the party that acts under it gets the list too.
func (j *Judge) isAllowed(d *dossier.Decision) bool {
	return d.Standing == nil && slices.ContainsFunc(j.c.Allow, d.Target.Overlaps)
}

// Allow returns the allow list, for those that act under a standing decision.
func (j *Judge) Allow() []netip.Prefix { return slices.Clone(j.c.Allow) }

func sameRule(a, b *dossier.Standing) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func (j *Judge) effect() dossier.Verdict {
	if j.c.Enforce {
		return dossier.Active
	}
	return dossier.DryRun
}

// forgetEnded drops the oldest decisions that are over.
func (j *Judge) forgetEnded() {
	over := 0
	for _, d := range j.decisions {
		if !isPending(d.Verdict) {
			over++
		}
	}
	j.decisions = slices.DeleteFunc(j.decisions, func(d *dossier.Decision) bool {
		if isPending(d.Verdict) || over <= j.c.Kept {
			return false
		}
		over--
		delete(j.byID, d.ID)
		return true
	})
}

// isPending reports whether a decision may still change.
func isPending(v dossier.Verdict) bool {
	return v == dossier.Proposed || v == dossier.DryRun || v == dossier.Active
}

func addStep(d *dossier.Decision, now flow.Time, who string, v dossier.Verdict, why string) {
	d.Verdict = v
	d.Steps = append(d.Steps, dossier.Step{Time: now, Who: who, Verdict: v, Why: why})
}

// clone keeps callers from changing what the judge holds.
func clone(d *dossier.Decision) dossier.Decision {
	c := *d
	c.Findings, c.Steps = slices.Clone(d.Findings), slices.Clone(d.Steps)
	return c
}

// Stopped reports whether Stop was the last word; who keeps a judge's
// decisions keeps this too, and stops the next judge again.
func (j *Judge) Stopped() bool { return j.stopped }
