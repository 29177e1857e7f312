//go:build linux

package ripcord

import (
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dragnet/contain/ripcord/tables"
	"dragnet/flow"
)

// maxLines bounds the log lines about drops per report.
const maxLines = 20

// handleEvent handles an event of the programs.
func (g *Gateway) handleEvent(e tables.PacketEvent, ns uint64) {
	switch e.Reason {
	case tables.Learnt:
		g.log.Info("learnt an address of the host", "address", e.Host.Addr())
	case tables.Block, tables.CoarseBlock:
		last := g.config.Block
		if e.Reason == tables.CoarseBlock {
			last = g.config.Coarse.Duration
		}
		at := time.Now().Add(-time.Duration(bootNS() - ns))
		if err := g.record.writeBlock(e, at, last); err != nil {
			g.log.Error("record block failed", "err", err)
		}
		if e.Reason == tables.CoarseBlock && !g.observe {
			g.noteRequest(silenceRequest{at: at, host: e.Host, peer: e.Peer, proto: flow.Proto(e.Proto)})
		}
		g.tally.countEvent(e)
	default:
		g.tally.countEvent(e)
	}
}

// cause groups events in the log.
type cause struct {
	reason     tables.Reason
	host, peer netip.Addr
	proto      uint8
	port       uint16
}

// tally sums up events until the next report, so that a flood makes few log
// lines.
type tally struct {
	mu     sync.Mutex
	counts map[cause]int
	beyond int
	wanted [2]bool
}

// maxCauses bounds the memory of a tally.
const maxCauses = 4096

func (t *tally) countEvent(e tables.PacketEvent) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.counts == nil {
		t.counts = map[cause]int{}
	}
	if e.Reason == tables.Spoofed && e.Side == tables.Out {
		t.wanted[familyIndex(e.Host.Addr())] = true
	}
	c := cause{e.Reason, e.Host.Addr(), e.Peer.Addr(), e.Proto, e.Peer.Port()}
	if _, known := t.counts[c]; !known && len(t.counts) >= maxCauses {
		t.beyond++
		return
	}
	t.counts[c]++
}

// takeWanted reports for which families the host tried other addresses since
// the last call.
func (t *tally) takeWanted() [2]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.wanted
	t.wanted = [2]bool{}
	return w
}

func (t *tally) logCounts(log *slog.Logger) {
	t.mu.Lock()
	counts, beyond := t.counts, t.beyond
	t.counts, t.beyond = nil, 0
	t.mu.Unlock()
	causes := slices.SortedFunc(maps.Keys(counts), func(a, b cause) int { return counts[b] - counts[a] })
	for i, c := range causes {
		if i >= maxLines {
			beyond += counts[c]
			continue
		}
		log.Info(c.reason.String(), "packets", counts[c], "host", c.host, "peer", netip.AddrPortFrom(c.peer, c.port), "proto", c.proto)
	}
	if beyond > 0 {
		log.Info("packets dropped for other reasons", "packets", beyond)
	}
}
