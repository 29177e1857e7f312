package dossier_test

import (
	"fmt"
	"net/netip"
	"testing"

	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
)

func TestPatternOfAFinding(t *testing.T) {
	addr := netip.MustParseAddr
	attacker, honeypot := addr("203.0.113.5"), addr("10.66.0.2")
	brought := dossier.FlowEvidence{Orig: attacker, Resp: addr("192.0.2.200"), Port: 80, Proto: "tcp"}
	sends := func(to, proto string, port uint16) dossier.FlowEvidence {
		return dossier.FlowEvidence{Orig: honeypot, Resp: addr(to), Port: port, Proto: proto}
	}
	var scan []dossier.FlowEvidence
	for n := range 18 {
		scan = append(scan, sends(fmt.Sprintf("198.51.100.%d", n), "tcp", 80))
	}
	for name, x := range map[string]struct {
		detector string
		host     netip.Addr
		flows    []dossier.FlowEvidence
		want     string
	}{
		"a server beside a scan": {"trap", attacker, append([]dossier.FlowEvidence{brought, sends("203.0.113.66", "udp", 69)}, scan...),
			"in src=203.0.113.5 proto=tcp dport=80 then out dst=203.0.113.66 proto=udp dport=69"},
		"back to the attacker": {"trap", attacker, append([]dossier.FlowEvidence{brought, sends("203.0.113.5", "tcp", 4444)}, scan...),
			"in src=203.0.113.5 proto=tcp dport=80 then out dst=203.0.113.5 proto=tcp dport=4444"},
		"only a scan": {"trap", attacker, append([]dossier.FlowEvidence{brought}, scan...), "in src=203.0.113.5 proto=tcp dport=80 then out proto=tcp dport=80"},
		"two servers": {"trap", attacker, []dossier.FlowEvidence{brought, sends("203.0.113.66", "udp", 69), sends("203.0.113.67", "udp", 69)},
			"in src=203.0.113.5 proto=tcp dport=80 then (out dst=203.0.113.66 proto=udp dport=69 or out dst=203.0.113.67 proto=udp dport=69)"},
		"several ports brought": {"trap", attacker, []dossier.FlowEvidence{brought, {Orig: attacker, Resp: brought.Resp, Port: 22, Proto: "tcp"}, sends("203.0.113.66", "udp", 69)},
			"in src=203.0.113.5 then out dst=203.0.113.66 proto=udp dport=69"},
		"who took the honeypot over was not seen": {"trap", honeypot, []dossier.FlowEvidence{sends("203.0.113.66", "udp", 69)}, "out dst=203.0.113.66 proto=udp dport=69"},
		"a match":             {"signature", attacker, []dossier.FlowEvidence{brought}, "in src=203.0.113.5 proto=tcp dport=80"},
		"a match of a server": {"signature", attacker, []dossier.FlowEvidence{{Orig: honeypot, Resp: attacker, Port: 445, Proto: "tcp"}}, "out dst=203.0.113.5 proto=tcp dport=445"},
		"a scanner":           {"failures", attacker, []dossier.FlowEvidence{brought, {Orig: attacker, Resp: brought.Resp, Port: 22, Proto: "tcp"}}, "in src=203.0.113.5"},
		"IPv6": {"signature", addr("2001:db8::5"), []dossier.FlowEvidence{{Orig: addr("2001:db8::5"), Resp: addr("2001:db8::6"), Port: 80, Proto: "tcp"}},
			"in src=2001:db8::5 proto=tcp dport=80"},
	} {
		f := dossier.Finding{ID: "X", Detector: x.detector, Host: flow.Host{Addr: x.host}, Evidence: dossier.Evidence{Flows: x.flows}}
		p, err := f.Pattern()
		if err != nil || p.String() != x.want {
			t.Errorf("%s: %v, %v; want %s", name, p, err, x.want)
			continue
		}
		if _, err := pattern.Parse(p.String(), pattern.NoFiles); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	nothing := dossier.Finding{ID: "X", Detector: "trap", Host: flow.Host{Addr: attacker}}
	if p, err := nothing.Pattern(); err == nil && p.String() != "in src=203.0.113.5" {
		t.Errorf("without evidence: %v", p)
	}
}
