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

// Documents is where orders are put for agents that are enrolled:
// agents.Registry.
type Documents interface {
	Configure(ctx context.Context, role, name string, format uint32, body []byte) (version string, err error)
}

// Handlers take what guards send on the agents' channel.
func (r *Response) Handlers() map[string]agents.Handler {
	return map[string]agents.Handler{guard.ReportKind: {Roles: []string{"guard"}, Handle: r.take}}
}

// take takes a bulletin. One that waited long, while the node was away, says
// nothing about the present; what it asks for and proves still counts.
func (r *Response) take(ctx context.Context, _ *state.Tx, from agents.From, item *agentv1.Item) error {
	if item.Format != guard.ReportFormat {
		return agents.Refuse(fmt.Errorf("bulletin of format %d; this node knows %d", item.Format, guard.ReportFormat))
	}
	sent, err := wire.FlowTime(item.Time)
	if err != nil {
		return agents.Refuse(fmt.Errorf("bulletin: %w", err))
	}
	var b daw.AgentReport
	if err := json.Unmarshal(item.Body, &b); err != nil {
		return agents.Refuse(fmt.Errorf("bulletin: %w", err))
	}
	// The certificate says who it is; the bulletin's own name is for people.
	b.Agent = from.Name
	old := clock()-sent > flow.Time(r.c.Alarm.Silent)
	if _, err := r.exchange(b, old); err != nil {
		return agents.Refuse(err)
	}
	return nil
}

// publish puts the orders that have changed where enrolled agents find them.
func (r *Response) publish(ctx context.Context, to Documents) error {
	var all error
	for i := range r.c.Agents {
		a := &r.c.Agents[i]
		r.mu.Lock()
		orders := r.orders(a)
		r.mu.Unlock()
		body, err := json.Marshal(orders)
		if err != nil {
			return err
		}
		if bytes.Equal(body, r.published[a.Name]) {
			continue
		}
		_, err = to.Configure(ctx, "guard", a.Name, guard.PolicyFormat, body)
		switch {
		case err == nil:
			r.published[a.Name] = body
		case !errors.Is(err, agents.ErrUnknown): // else it is not enrolled, and may use the socket
			all = errors.Join(all, fmt.Errorf("orders for %s: %w", a.Name, err))
		}
	}
	return all
}

// dropLife is how long a firewall's drop is handed on: no agent remembers the
// request any longer.
const dropLife = flow.Time(2 * time.Minute)

// drops are those for one agent, numbered so that each counts once however
// often the agent is told.
type drops struct {
	first uint64 // number of the oldest that is kept
	logs  []daw.FailLog
	came  []flow.Time
}

// newDrops numbers from the time on, so that numbers never come again after a
// restart.
func newDrops(now flow.Time) *drops { return &drops{first: uint64(now)} }

func (d *drops) add(now flow.Time, l daw.FailLog) bool {
	d.expire(now)
	if len(d.logs) >= daw.MaxFailLogs {
		return false
	}
	d.logs, d.came = append(d.logs, l), append(d.came, now)
	return true
}

func (d *drops) expire(now flow.Time) {
	n := 0
	for n < len(d.came) && now-d.came[n] > dropLife {
		n++
	}
	d.first += uint64(n)
	d.logs, d.came = d.logs[n:], d.came[n:]
}
