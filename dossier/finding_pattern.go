package dossier

import (
	"fmt"
	"net/netip"
	"strings"

	"dragnet/dossier/pattern"
)

// IsWeak reports whether a finding is evidence of a lower class: what a trap sent,
// or what a signature learnt from that matches. A trap that was taken over can send
// anything, and an address that was never verified can be forged, so no host is
// blocked for it unless a person decides so.
func (f *Finding) IsWeak() bool {
	return f.Detector == "trap" || f.Detector == "signature" || f.Unverified
}

// service is a port of a protocol.
type service struct {
	proto string
	port  uint16
}

func (s service) String() string { return fmt.Sprintf("proto=%s dport=%d", s.proto, s.port) }

// maxServers and scanned bound a pattern's clues: as many servers are named, and a
// port at as many addresses or more is a scan of that port.
const (
	maxServers = 6
	scanned    = 3
)

// Pattern derives from the evidence whom to ask other organisations for: the hosts
// that the finding's host contacted, and that went on as the honeypot did that it
// took over. Addresses that the honeypot reached at a port of which it scanned
// many others are left out if it reached one that it did not scan for.
func (f *Finding) Pattern() (*pattern.Pattern, error) {
	var brought, sent []FlowEvidence
	for _, e := range f.Evidence.Flows {
		if e.Orig == f.Addr {
			brought = append(brought, e)
		} else if e.Resp != f.Addr || f.Detector == "trap" {
			sent = append(sent, e)
		}
	}
	var text string
	switch {
	case f.Detector == "trap" && len(sent) == 0: // about the honeypot: no other host was seen
		text = nextContacts(brought)
	case len(brought) == 0 && len(f.Evidence.Flows) > 0: // it sent attacks to those who connected
		text = "out dst=" + f.Addr.String() + ofService(f.Evidence.Flows)
	default:
		text = "in src=" + f.Addr.String() + ofService(brought)
		if next := nextContacts(sent); next != "" {
			text += " then " + next
		}
	}
	if text == "" {
		return nil, fmt.Errorf("finding %s has no flows as evidence, of which a pattern could be made", f.ID)
	}
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		return nil, fmt.Errorf("finding %s: %w", f.ID, err)
	}
	return p, nil
}

// ofService fixes what all flows have in common.
func ofService(flows []FlowEvidence) string {
	if len(flows) == 0 {
		return ""
	}
	first := service{flows[0].Proto, flows[0].Port}
	for _, e := range flows {
		if (service{e.Proto, e.Port}) != first {
			return ""
		}
	}
	return " " + first.String()
}

// nextContacts are clues for what a honeypot contacted; empty if nothing.
func nextContacts(flows []FlowEvidence) string {
	reached := map[service]map[netip.Addr]bool{}
	for _, e := range flows {
		s := service{e.Proto, e.Port}
		if reached[s] == nil {
			reached[s] = map[netip.Addr]bool{}
		}
		reached[s][e.Resp] = true
	}
	var servers, scans []string
	known := map[string]bool{}
	for _, e := range flows {
		s := service{e.Proto, e.Port}
		if len(reached[s]) >= scanned {
			if clue := "out " + s.String(); !known[clue] {
				known[clue], scans = true, append(scans, clue)
			}
			continue
		}
		if clue := fmt.Sprintf("out dst=%s %s", e.Resp, s); !known[clue] && len(servers) < maxServers {
			known[clue], servers = true, append(servers, clue)
		}
	}
	if len(servers) == 0 {
		servers = scans[:min(len(scans), maxServers)]
	}
	if len(servers) > 1 {
		return "(" + strings.Join(servers, " or ") + ")"
	}
	return strings.Join(servers, "")
}
