package squid

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/source/lines"
	"dragnet/source/sourcetest"
)

const (
	miss    = "1286536309.450    180 192.168.0.224 TCP_MISS/200 411 GET http://www.example.com/a?b - HIER_DIRECT/198.51.100.7 text/html"
	tunnel  = "1286536310.000   5000 2001:db8::9 TCP_TUNNEL/200 4110 CONNECT example.org:8443 ann HIER_DIRECT/2001:db8::1 -"
	cached  = "1286536310.000      1 192.168.0.224 TCP_MEM_HIT/200 411 GET http://www.example.com/ - HIER_NONE/- text/html"
	literal = "1286536310.000      1 192.168.0.224 TCP_MISS/503 411 GET http://198.51.100.8:81/ - HIER_NONE/- text/html"
)

func read(t *testing.T, text string) ([]flow.Flow, flow.Coverage) {
	t.Helper()
	r := lines.NewReader(strings.NewReader(text), "access.log", &Format)
	return sourcetest.ReadAll(t, r), r.Coverage()
}

func TestRequests(t *testing.T) {
	flows, cov := read(t, strings.Join([]string{miss, tunnel, cached, literal, ""}, "\n"))
	if len(flows) != 3 || cov.Skipped != 1 || cov.Problems[0].Place != "access.log:3" {
		t.Fatalf("%+v, %+v", flows, cov)
	}
	want := flow.Flow{Start: 1286536309_270000000, Duration: 180 * time.Millisecond, Orig: netip.MustParseAddr("192.168.0.224"), Resp: netip.MustParseAddr("198.51.100.7"),
		RespPort: 80, Proto: flow.TCP, State: flow.SF, Sampling: 1, Known: flow.Lasting}
	if flows[0] != want {
		t.Errorf("%+v, want %+v", flows[0], want)
	}
	if flows[1].RespPort != 8443 || flows[1].Resp.String() != "2001:db8::1" || flows[2].RespPort != 81 || flows[2].State != flow.StateUnknown {
		t.Errorf("%+v", flows[1:])
	}
}

func TestOnlyAccessLogsAreTaken(t *testing.T) {
	for text, want := range map[string]bool{
		miss + "\n" + cached: true, cached: true, "": false, "a b c": false,
		"192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 612": false,
		strings.Replace(miss, "1286536309.450", "now", 1):                       false,
		strings.Replace(miss, "TCP_MISS/200", "done", 1):                        false,
	} {
		if Format.Is([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	for want, line := range map[string]string{
		errColumns.Error(): "a b c", errTime.Error(): strings.Replace(miss, " 180 ", " -1 ", 1),
		errClient.Error(): strings.Replace(miss, "192.168.0.224", "pc.example.com", 1),
	} {
		if _, cov := read(t, line+"\n"); cov.Skipped != 1 || cov.Problems[0].Reason != want {
			t.Errorf("%q: %+v", line, cov)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{miss, tunnel, cached, literal, ""} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		_ = Format.Is([]byte(text))
		flows, cov := read(t, text)
		if uint64(len(flows)) != cov.Flows {
			t.Fatalf("%d flows, %+v", len(flows), cov)
		}
		for _, one := range flows {
			if !one.Orig.IsValid() || !one.Resp.IsValid() || one.Duration < 0 {
				t.Fatalf("%+v", one)
			}
		}
	})
}
