package ripcord_test

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"strings"
	"testing"
)

// TestAgentIsConfined reads from the kernel what the running agent may do.
func TestAgentIsConfined(t *testing.T) {
	t.Parallel()
	admin := netip.MustParseAddrPort("127.0.0.1:9150")
	l := newLab(t, false, "admin: {listen: \""+admin.String()+"\"}\n")
	l.start()
	nobody, err := user.Lookup("nobody")
	l.check(err)
	status := func(key string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.agent.Pid()))
		l.check(err)
		for line := range strings.Lines(string(b)) {
			if rest, ok := strings.CutPrefix(line, key+":"); ok {
				return strings.Join(strings.Fields(rest), " ")
			}
		}
		return ""
	}
	l.until("the system calls are filtered", func() bool { return status("Seccomp") == "2" })
	const netAdmin, bpf = 1 << 12, 1 << 39
	want := fmt.Sprintf("%016x", uint64(netAdmin|bpf))
	for key, want := range map[string]string{
		"Uid":    strings.Join([]string{nobody.Uid, nobody.Uid, nobody.Uid, nobody.Uid}, " "),
		"CapEff": want, "CapPrm": want, "CapBnd": want, "CapInh": "0000000000000000", "NoNewPrivs": "1", "Groups": "",
	} {
		if got := status(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	// It still does its work: the block of a closed port is recorded.
	if _, err := l.dial(l.host, netip.AddrPort{}, netip.AddrPortFrom(victimIPs[0], 81)); err == nil {
		t.Fatal("somebody listens on port 81")
	}
	l.until("the block is on record", func() bool { return strings.Contains(l.receipts(), victimIPs[0].String()+":81") })
	// It still serves its metrics, the programs' counters among them.
	l.until("the metrics show packets", func() bool {
		c := l.mustDial(l.gateway, netip.AddrPort{}, admin)
		defer c.Close()
		_, err := io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n")
		l.check(err)
		text, err := io.ReadAll(c)
		l.check(err)
		return strings.Contains(string(text), `dragnet_ripcord_events_total{reason="passed-out"} `) &&
			!strings.Contains(string(text), `dragnet_ripcord_events_total{reason="passed-out"} 0`) &&
			strings.Contains(string(text), "dragnet_build_info{")
	})
	l.check(l.agent.Stop())
	if strings.Contains(l.agent.Output(), `"level":"ERROR"`) || strings.Contains(l.agent.Output(), "not permitted") {
		t.Error(l.agent.Output())
	}
}
