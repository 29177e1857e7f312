package enforcement

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"dragnet/contain/guard"
	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/wire"
	agentv1 "dragnet/wire/agent/v1"
)

// takeReport handles a guard's report. One that was delayed, since the node was
// down, says nothing about the present; its proposals and receipts still count.
func (e *Enforcement) takeReport(ctx context.Context, _ *state.Tx, from agents.From, item *agentv1.Item) error {
	if item.Format != guard.ReportFormat {
		return agents.Refuse(fmt.Errorf("report of format %d; this node knows %d", item.Format, guard.ReportFormat))
	}
	sent, err := wire.FlowTime(item.Time)
	if err != nil {
		return agents.Refuse(fmt.Errorf("report: %w", err))
	}
	var b daw.AgentReport
	if err := json.Unmarshal(item.Body, &b); err != nil {
		return agents.Refuse(fmt.Errorf("report: %w", err))
	}
	// The certificate identifies the guard; the name in the report is for people.
	b.Agent = from.Name
	old := currentTime()-sent > flow.Time(e.c.Station.Silent)
	if err := e.addReport(b, old); err != nil {
		return agents.Refuse(err)
	}
	return nil
}

// publishPolicies sends enrolled guards the policies that have changed.
func (e *Enforcement) publishPolicies(ctx context.Context) error {
	if e.deps.Agents == nil {
		return nil
	}
	var all error
	for i := range e.c.Agents {
		a := &e.c.Agents[i]
		e.mu.Lock()
		policy := e.makePolicy(a)
		e.mu.Unlock()
		body, err := json.Marshal(policy)
		if err != nil {
			return err
		}
		if bytes.Equal(body, e.published[a.Name]) {
			continue
		}
		_, err = e.deps.Agents.Configure(ctx, "guard", a.Name, guard.PolicyFormat, body)
		switch {
		case err == nil:
			e.published[a.Name] = body
		case !errors.Is(err, agents.ErrUnknown): // else it is not enrolled yet
			all = errors.Join(all, fmt.Errorf("policy of guard %s: %w", a.Name, err))
		}
	}
	return all
}

// dropLife is how long a firewall's drop is passed on: no agent remembers the
// request for longer.
const dropLife = flow.Time(2 * time.Minute)

// drops are the firewall drops for one agent, numbered so that each counts once
// however often it is sent.
type drops struct {
	first uint64 // number of the oldest that is held
	logs  []daw.FailLog
	came  []flow.Time
}

// newDrops starts numbering at the time, so that no number is used again after a
// restart.
func newDrops(now flow.Time) *drops { return &drops{first: uint64(now)} }

func (d *drops) addDrop(now flow.Time, l daw.FailLog) bool {
	d.removeExpired(now)
	if len(d.logs) >= daw.MaxFailLogs {
		return false
	}
	d.logs, d.came = append(d.logs, l), append(d.came, now)
	return true
}

func (d *drops) removeExpired(now flow.Time) {
	n := 0
	for n < len(d.came) && now-d.came[n] > dropLife {
		n++
	}
	d.first += uint64(n)
	d.logs, d.came = d.logs[n:], d.came[n:]
}
