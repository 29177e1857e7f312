package enforcement

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dragnet/daw"
	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/node/notify"
)

// The path of a finding: TakeFindings stores it in the ledger, notifies people,
// and may propose a block. The next updateDecisions has the judge decide on all
// proposals within the rules, stores the decisions, and sends each guard those
// that concern it (publishPolicies). Guards answer with receipts in their
// reports (takeReport).

// TakeFindings stores findings and returns those that are new. With propose, it
// proposes a block for each new one about a host outside our networks whose
// evidence is not weak.
func (e *Enforcement) TakeFindings(ctx context.Context, found []dossier.Finding, propose bool) (fresh []dossier.Finding, err error) {
	if fresh, err = e.deps.Ledger.AddFindings(ctx, found); err != nil {
		return nil, err
	}
	for _, f := range fresh {
		e.log.Info("new finding", "id", f.ID, "kind", f.Kind, "summary", f.Summary)
		e.deps.Notify(notify.Notice{Time: currentTime(), Kind: "finding", Text: f.Summary, Finding: &f})
		if propose && !flow.Within(e.deps.Site.Networks, f.Addr) {
			e.ProposeBlocks([]dossier.Finding{f})
		}
	}
	return fresh, nil
}

// FindFinding returns a finding by its identity; nil if there is none.
func (e *Enforcement) FindFinding(ctx context.Context, id string) (*dossier.Finding, error) {
	f, err := e.deps.Ledger.Finding(ctx, id)
	if errors.Is(err, ledger.ErrUnknown) {
		return nil, nil
	}
	return &f, err
}

// ProposeBlocks proposes a block for the host of each finding, also of our own
// networks: a tenant's machine is one of ours. Weak evidence proposes nothing.
func (e *Enforcement) ProposeBlocks(found []dossier.Finding) {
	for _, f := range found {
		if f.IsWeak() {
			continue
		}
		e.queueProposal(dossier.Proposal{Target: netip.PrefixFrom(f.Addr, f.Addr.BitLen()), Who: "detector " + f.Detector, Why: f.Summary, Findings: []string{f.ID}})
	}
}

// decisionMemory is how long guards are sent decisions that have ended, so that
// they know whether a block expired or was undone.
const decisionMemory = flow.Time(time.Hour)

// updateDecisions has proposals judged, and reads all decisions, also those that
// an operator made meanwhile.
func (e *Enforcement) updateDecisions(ctx context.Context, now flow.Time) error {
	e.mu.Lock()
	receipts := e.receipts
	e.receipts = nil
	proposals := append(e.proposeOffenders(now), e.proposals...)
	e.proposals = nil
	e.mu.Unlock()
	if len(receipts) > 0 {
		if err := e.deps.Ledger.AddReceipts(ctx, receipts); err != nil {
			return err
		}
	}
	spared, err := e.deps.Ledger.Spared(ctx, now)
	if err != nil {
		return err
	}
	proposals = slices.DeleteFunc(e.addStanding(now, proposals), func(p dossier.Proposal) bool { return spared[p.Target] })
	var decided []dossier.Decision
	var allow []netip.Prefix
	err = e.deps.Ledger.Judge(ctx, now, func(j *decide.Judge) error {
		allow, decided = j.Allow(), nil
		if j.Stopped() {
			j.Expire(now)
			return nil // decisions are stopped, so nothing is proposed
		}
		decided = e.judgeProposals(now, j, proposals)
		return nil
	})
	if err != nil {
		return err
	}
	known, err := e.deps.Ledger.Since(ctx, now-decisionMemory)
	if err != nil {
		return err
	}
	if known == nil {
		known = []dossier.Decision{} // known to be none
	}
	e.mu.Lock()
	changed := changedDecisions(e.known, known, decided)
	e.known, e.allow = known, allow
	e.mu.Unlock()
	e.metrics.countDecisions(known)
	if err := e.publishPolicies(ctx); err != nil {
		return err
	}
	for i := range decided {
		d := &decided[i]
		e.log.Info("decision made", "decision", d.ID, "target", d.Target, "verdict", d.Verdict, "why", d.Why)
		e.metrics.decided.WithLabelValues(string(d.Verdict)).Inc()
		e.deps.Notify(decisionNotice(now, d))
	}
	for i := range changed {
		e.deps.Notify(decisionNotice(now, &changed[i]))
	}
	return nil
}

// changedDecisions are those that an operator or the time changed since the last
// update, besides those decided now. After a start, when nothing is known yet,
// there are none.
func changedDecisions(before, known, decided []dossier.Decision) (changed []dossier.Decision) {
	if before == nil {
		return nil
	}
	same := map[string]dossier.Verdict{}
	for _, d := range before {
		same[d.ID] = d.Verdict
	}
	for _, d := range decided {
		same[d.ID] = d.Verdict
	}
	for _, d := range known {
		if verdict, ok := same[d.ID]; !ok || verdict != d.Verdict {
			changed = append(changed, d)
		}
	}
	return changed
}

func decisionNotice(now flow.Time, d *dossier.Decision) notify.Notice {
	return notify.Notice{Time: now, Kind: "decision", Text: fmt.Sprintf("%s: %s until %s: %s", d.Target, d.Verdict, d.Until, d.Why), Decision: d}
}

// addStanding puts the standing decision before the proposals if it does not
// exist yet, or has expired.
func (e *Enforcement) addStanding(now flow.Time, proposals []dossier.Proposal) []dossier.Proposal {
	s := e.c.Standing
	if s.Most == 0 || now < e.again {
		return proposals
	}
	rule := dossier.Proposal{
		Target: netip.MustParsePrefix("0.0.0.0/0"), Who: "station", Why: s.Why, TTL: s.For, Standing: &dossier.Standing{Rule: "daw", Most: s.Most},
	}
	return append([]dossier.Proposal{rule}, proposals...)
}

// again is the pause before the standing decision is proposed again after the
// budget refused it.
const again = flow.Time(10 * time.Minute)

// judgeProposals returns the decisions that are new. The worst come first,
// so after one that the budget refused, none is tried.
func (e *Enforcement) judgeProposals(now flow.Time, j *decide.Judge, proposals []dossier.Proposal) (fresh []dossier.Decision) {
	for _, p := range proposals {
		d, err := j.Propose(now, p)
		if d.ID != "" && len(d.Steps) > 0 && d.Steps[0].Time == now {
			fresh = append(fresh, d)
		}
		if !errors.Is(err, decide.ErrBudget) {
			continue
		}
		if p.Standing == nil {
			break
		}
		e.again = now + again
	}
	return fresh
}

// proposeOffenders asks the station for proposals, and notifies people of alarms.
// Call it with mu held.
func (e *Enforcement) proposeOffenders(now flow.Time) []dossier.Proposal {
	e.checkSilence(now)
	alarmed := e.station.Alarm()
	offenders := e.station.Look(now)
	if alarm := e.station.Alarm(); alarm != alarmed {
		text := "hosts no longer come to their limits that never did before"
		if alarm {
			text = "a worm may be spreading: more hosts come to their limits that never did before than on earlier days; the worst of these are proposed for blocks, twice as many each period"
		}
		e.log.Warn("alarm changed", "alarm", alarm)
		e.deps.Notify(notify.Notice{Time: now, Kind: "alarm", Text: text})
	}
	e.metrics.offenders.Set(float64(e.station.Offenders()))
	rising, p, ratios := e.station.Trend()
	if n := len(ratios); n > 0 {
		e.metrics.ratio.Set(ratios[n-1])
	}
	if rising && !e.rising {
		e.deps.Notify(notify.Notice{Time: now, Kind: "trend", Text: fmt.Sprintf("a slow worm may be spreading: the daily share of failing connections rises over %d days (p = %.2g)", len(ratios), p)})
	}
	if e.rising = rising; !rising {
		e.listed = map[string]bool{}
	}
	proposals := make([]dossier.Proposal, len(offenders))
	for i, o := range offenders {
		proposals[i] = proposeOffender(o)
	}
	return proposals
}

func proposeOffender(o daw.Offender) dossier.Proposal {
	return dossier.Proposal{
		Target: netip.PrefixFrom(o.Addr, o.Addr.BitLen()), Who: "station",
		Why: fmt.Sprintf("%s is among the worst of unusually many hosts that came to their limits for the first time (%.3g failures/s, %d today)", o.Addr, o.Rate, o.Failures),
	}
}

// listBusiest notifies people, once a guard while the share of failures rises, which of
// its sources fail most. They are no offenders: a slow worm stays below the limits,
// and so does a host with many dead bookmarks. Call it with mu held.
func (e *Enforcement) listBusiest(a *Agent, all []daw.Offender) {
	all = ownOffenders(a, all)
	if !e.rising || len(all) == 0 || e.listed[a.Name] {
		return
	}
	e.listed[a.Name] = true
	var text strings.Builder
	fmt.Fprintf(&text, "hosts at guard %s with the most failing connections today, to be looked at while their share rises:", a.Name)
	for i, o := range all {
		if i > 0 {
			text.WriteString(",")
		}
		fmt.Fprintf(&text, " %s (%d)", o.Addr, o.Failures)
	}
	e.deps.Notify(notify.Notice{Time: currentTime(), Kind: "trend", Text: text.String()})
}

// checkSilence notes guards that stopped reporting, and those that report again.
func (e *Enforcement) checkSilence(now flow.Time) {
	silent := map[string]bool{}
	for _, name := range e.station.Silent(now) {
		silent[name] = true
		if !e.silent[name] {
			e.log.Warn("guard stopped reporting; it keeps its last policy", "agent", name)
			e.deps.Notify(notify.Notice{Time: now, Kind: "agent", Text: "guard " + name + " stopped reporting; it keeps its last policy"})
		}
	}
	for name := range e.silent {
		if !silent[name] {
			e.log.Info("guard reports again", "agent", name)
		}
	}
	e.silent = silent
	e.metrics.silent.Set(float64(len(silent)))
}
