//go:build linux

package guard

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/daw"
	"dragnet/internal/admin"
	"dragnet/internal/metric"
)

// metrics of a role. They are updated once a minute, with the log.
type metrics struct {
	packets, missed, holds, refused, fragments, shared, unshared, rejected prometheus.Counter
	failures, limited, blocked, held, requested, spoofed, missing          prometheus.Gauge

	// Counts at the last update.
	stats      Stats
	missedThen uint64

	// ticked is when the role last did its periodic work, in nanoseconds since
	// 1970; 0 before the first time.
	ticked atomic.Int64
}

// silentWithin is how long the periodic work of each second may take before the
// role counts as hung.
const silentWithin = 30 * time.Second

func (m *metrics) register(a *admin.Server) {
	make := metric.Under(a.Metrics(), "dragnet_guard_")
	m.packets = make.Counter("packets_total", "Packets looked at.")
	m.missed = make.Counter("packets_missed_total", "Packets that the kernel dropped because the guard was too slow.")
	m.holds = make.Counter("holds_total", "Times that a source began to be held back.")
	m.refused = make.Counter("refused_requests_total", "Requests of sources at their limit that passed, since 'holds' sources were held back already.")
	m.fragments = make.Counter("fragments_dropped_total", "Fragments that hide the flags of a TCP segment.")
	m.shared = make.Counter("replies_shared_total", "Replies that came by another edge.")
	m.unshared = make.Counter("replies_not_shared_total", "Replies that may belong to another edge and were too many to pass on.")
	m.rejected = make.Counter("edge_datagrams_rejected_total", "Datagrams to 'edges.listen' that none of the other edges can have sent just now.")
	m.spoofed = make.Gauge("spoofed_requests_today", "Requests whose source is bound to another station.")
	m.missing = make.Gauge("interfaces_missing", "Interfaces of 'kernel.interfaces' that are gone, so that no limits act there.")
	m.requested = make.Gauge("requests_today", "Requests of watched sources since midnight.")
	m.failures = make.Gauge("failures_today", "Failures counted since midnight.")
	m.limited = make.Gauge("sources_at_limit", "Sources that reached a limit today.")
	m.blocked = make.Gauge("sources_blocked", "Sources that are blocked.")
	m.held = make.Gauge("sources_held", "Sources that are held back.")
	a.AddLive(func(context.Context) error {
		if at := m.ticked.Load(); at != 0 && time.Since(time.Unix(0, at)) > silentWithin {
			return fmt.Errorf("no periodic work since %v", time.Unix(0, at).UTC().Format(time.RFC3339))
		}
		return nil
	})
}

// update sets the metrics to a report of the day and to counts since the start.
func (m *metrics) update(r *daw.EdgeReport, s Stats, missed uint64, held int) {
	m.packets.Add(float64(s.Packets - m.stats.Packets))
	m.holds.Add(float64(s.Held - m.stats.Held))
	m.refused.Add(float64(s.Refused - m.stats.Refused))
	m.fragments.Add(float64(s.Fragments - m.stats.Fragments))
	m.shared.Add(float64(s.Shared - m.stats.Shared))
	m.unshared.Add(float64(s.Unshared - m.stats.Unshared))
	m.spoofed.Set(float64(r.Verdicts[daw.Spoofed]))
	m.missed.Add(float64(missed - m.missedThen))
	m.stats, m.missedThen = s, missed
	m.requested.Set(float64(r.Requests))
	m.failures.Set(float64(r.Failed()))
	m.limited.Set(float64(r.Limited))
	m.blocked.Set(float64(r.Blocked))
	m.held.Set(float64(held))
}
