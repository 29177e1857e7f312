//go:build linux

package ripcord

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// Findings says when requests to be silent make a finding about the host itself.
type Findings struct {
	// Networks is from how many networks, /24 or /48, the host must have been asked
	// to be silent: by a pull that was granted, or by refusing one new connection
	// after the other by RST. Each doubling is another finding.
	Networks int `yaml:"networks"`
	// Window is the span over which they are counted.
	Window time.Duration `yaml:"window"`
}

// FindingsFile is where findings about the host are kept, one JSON object a line.
func FindingsFile(state string) string { return filepath.Join(state, "findings.jsonl") }

const (
	detectorName = "ripcord"
	askedToStop  = "asked-to-stop"
	// maxAskers bounds the memory of networks that asked.
	maxAskers = 4096
	// maxExamples is how many requests a finding quotes.
	maxExamples = 10
)

// silenceRequest is one that was granted.
type silenceRequest struct {
	at         time.Time
	host, peer netip.AddrPort
	proto      flow.Proto
	pull       bool // by the protocol, otherwise by RSTs
}

// asker is a network that asked: its first request, and when it made its last.
type asker struct {
	first silenceRequest
	last  time.Time
}

// requests remembers which networks asked the host to be silent. It is used by one
// goroutine at a time.
type requests struct {
	config   Findings
	networks map[netip.Prefix]*asker
	// reported is the number of networks of the last finding.
	reported int
}

func newRequests(c Findings) *requests {
	return &requests{config: c, networks: map[netip.Prefix]*asker{}}
}

// add counts a request, and returns the finding that it makes.
func (r *requests) add(q silenceRequest) (f dossier.Finding, found bool) {
	for network, a := range r.networks {
		if q.at.Sub(a.last) > r.config.Window {
			delete(r.networks, network)
		}
	}
	network := victimBlock(netip.PrefixFrom(q.peer.Addr(), q.peer.Addr().BitLen()))
	a := r.networks[network]
	if a == nil {
		if len(r.networks) >= maxAskers {
			return f, false
		}
		a = &asker{first: q}
		r.networks[network] = a
	}
	a.last = q.at
	n := len(r.networks)
	if n < r.config.Networks {
		r.reported = 0 // the next time is another episode
		return f, false
	}
	if r.reported > 0 && n < 2*r.reported {
		return f, false
	}
	r.reported = n
	return r.describe(q), true
}

// describe makes a finding of the requests in the window; the host is that of the last.
func (r *requests) describe(q silenceRequest) dossier.Finding {
	askers := slices.SortedFunc(maps.Values(r.networks), func(a, b *asker) int { return a.first.at.Compare(b.first.at) })
	begin := askers[0].first.at
	pulls := 0
	f := dossier.Finding{
		Detector: detectorName, Kind: askedToStop, Host: flow.Host{Addr: q.host.Addr()},
		First: flow.FromTime(begin), Last: flow.FromTime(q.at),
		Evidence: dossier.Evidence{Thresholds: map[string]float64{"networks": float64(r.config.Networks)}, Flows: []dossier.FlowEvidence{}},
	}
	for i, a := range askers {
		one := a.first
		if one.pull {
			pulls++
		}
		if i < maxExamples {
			f.Evidence.Flows = append(f.Evidence.Flows, dossier.FlowEvidence{
				Time: flow.FromTime(one.at), Orig: one.host.Addr(), Resp: one.peer.Addr(), Port: one.peer.Port(), Proto: one.proto.String(),
			})
		}
	}
	f.Evidence.Counts = map[string]uint64{"networks": uint64(len(askers)), "pulls": uint64(pulls), "refusals": uint64(len(askers) - pulls)}
	f.Summary = fmt.Sprintf("%v was asked to be silent by %d networks within %v, %d of which proved that they receive what it sends and %d refused its connections by RST",
		q.host.Addr(), len(askers), q.at.Sub(begin).Round(time.Second), pulls, len(askers)-pulls)
	f.Identify(fmt.Sprint(len(askers)))
	return f
}

// noteRequest counts a request that was granted, and keeps and logs the finding that
// it makes.
func (g *Gateway) noteRequest(q silenceRequest) {
	g.mu.Lock()
	f, found := g.requests.add(q)
	g.mu.Unlock()
	if !found {
		return
	}
	g.found.Inc()
	g.log.Warn("the host was asked to be silent by several networks: it may be compromised", "host", f.Host.Addr,
		"networks", f.Evidence.Counts["networks"], "pulls", f.Evidence.Counts["pulls"], "finding", f.ID)
	if err := g.record.writeFinding(&f); err != nil {
		g.log.Error("record finding failed", "err", err)
	}
}

// maxFindingLine bounds a line of a file of findings, in octets.
const maxFindingLine = 1 << 20

// ReadFindings reads the findings about the host, the latest last.
func ReadFindings(state string) (found []dossier.Finding, err error) {
	file, err := os.Open(FindingsFile(state))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(state); err != nil {
			return nil, fmt.Errorf("state: %w", err)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, maxFindingLine)
	for n := 1; lines.Scan(); n++ {
		var f dossier.Finding
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil || f.Version != dossier.FindingVersion || strings.TrimSpace(f.ID) == "" {
			return found, fmt.Errorf("%s, line %d: not a finding", file.Name(), n)
		}
		found = append(found, f)
	}
	return found, lines.Err()
}
