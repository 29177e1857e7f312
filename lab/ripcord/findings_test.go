package ripcord_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"dragnet/dossier"
)

// TestSeveralNetworksAskForSilence has victims in three networks pull, one after the
// other, and reads what the gateway says of its host.
func TestSeveralNetworksAskForSilence(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	victims := []string{victimIPs[0].String(), "10.8.0.77", "10.9.0.77"}
	for _, a := range victims[1:] {
		_, err := l.victim.Run(t.Context(), "ip", "addr", "add", a+"/32", "dev", "eth0")
		l.check(err)
		l.check(l.host.RouteOn(netip.MustParsePrefix(a+"/32"), "eth0"))
	}
	findings := func() (found struct{ Items []dossier.Finding }) {
		out, err := l.run("ripcord", "findings", "--config", l.config, "-o", "json")
		l.check(err)
		out, _, _ = strings.Cut(out, "nothing in")
		l.check(json.Unmarshal([]byte(out), &found))
		return found
	}
	for i, a := range victims {
		if got := findings().Items; len(got) != 0 {
			t.Fatalf("after %d networks: %+v", i, got)
		}
		to := netip.AddrPortFrom(netip.MustParseAddr(a), 666)
		l.stream(netip.AddrPortFrom(hostIPs[0], uint16(5000+i)), to)
		l.until("the pull is granted", func() bool {
			out, err := l.pull(hostIPs[0].String(), "--to", a, "--proto", "udp", "--port", "666", "--for", "1m", "--watch", "0s")
			return err == nil && out.Status == "done"
		})
	}
	l.until("there is a finding", func() bool { return len(findings().Items) == 1 })
	f := findings().Items[0]
	if f.Host.Addr != hostIPs[0] || f.Kind != "asked-to-stop" || f.Evidence.Counts["pulls"] != 3 || len(f.Evidence.Flows) != 3 {
		t.Errorf("%+v", f)
	}
	if !strings.Contains(l.agent.Output(), "asked to be silent by several networks") {
		t.Error("the log does not say it")
	}
}
