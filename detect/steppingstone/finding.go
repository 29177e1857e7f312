package steppingstone

import (
	"fmt"
	"net/netip"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// Findings are pairs as findings about the hosts before, which passed through the
// site. Observer is the name of the site.
func Findings(observer string, pairs []Pair) []dossier.Finding {
	all := []dossier.Finding{}
	for _, p := range pairs {
		f := dossier.Finding{
			Detector: "steppingstone", Kind: "stepping-stone", Host: flow.HostAt(p.Before.Outside.Addr(), observer),
			First: max(p.Before.First, p.After.First), Last: min(p.Before.Last, p.After.Last), Summary: p.Summary(),
			Evidence: dossier.Evidence{
				Counts:     map[string]uint64{"onsets": uint64(p.Onsets)},
				Thresholds: map[string]float64{"score": p.Score},
				Flows:      []dossier.FlowEvidence{evidenceOf(p.Before), evidenceOf(p.After)},
				Peers:      []netip.Addr{p.Before.Inside.Addr(), p.After.Outside.Addr()},
			},
		}
		f.Identify(p.Before.String() + " " + p.After.String())
		all = append(all, f)
	}
	return all
}

func evidenceOf(c *Connection) dossier.FlowEvidence {
	e := dossier.FlowEvidence{Time: c.First, Orig: c.Inside.Addr(), Resp: c.Outside.Addr(), Port: c.Outside.Port(), Proto: flow.TCP.String()}
	if c.Inbound {
		e.Orig, e.Resp, e.Port = e.Resp, e.Orig, c.Inside.Port()
	}
	return e
}

// Summary is one sentence, with where to ask next.
func (p *Pair) Summary() string {
	return fmt.Sprintf("what arrives by %v leaves by %v, %v later, beyond chance for %.0f %% of %d beginnings (score %.1f); ask: dragnet trace start %v %d,%d --remote %v --at %s",
		p.Before, p.After, p.Delay.Round(time.Millisecond), 100*p.Followed, p.Onsets, p.Score,
		p.After.Inside.Addr(), p.After.Inside.Port(), p.After.Outside.Port(), p.After.Outside.Addr(), p.After.Last.Time().UTC().Format(time.RFC3339))
}
