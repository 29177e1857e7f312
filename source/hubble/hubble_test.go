package hubble

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/source/lines"
	"dragnet/source/sourcetest"
)

// packet is one line as Cilium's exporter writes it.
func packet(second int, verdict, src, dst string, sport, dport int, flags, reply string) string {
	return fmt.Sprintf(`{"flow":{"time":"2026-11-22T10:00:%02d.000500Z","uuid":"x","verdict":%q,"ethernet":{"source":"ce:6b:5c:8e:14:76","destination":"ae:c5:0c:a2:26:a8"},"IP":{"source":%q,"destination":%q,"ipVersion":"IPv4"},"l4":{"TCP":{"source_port":%d,"destination_port":%d,"flags":{%s}}},"source":{"ID":1,"identity":3195,"namespace":"default"},"destination":{"identity":6,"labels":["reserved:remote-node"]},"Type":"L3_L4","node_name":"n1","event_type":{"type":4,"sub_type":3},"traffic_direction":"EGRESS","trace_observation_point":"TO_STACK",%s"Summary":"TCP"},"node_name":"n1","time":"2026-11-22T10:00:00.000600Z"}`,
		second, verdict, src, dst, sport, dport, flags, reply) + "\n"
}

const (
	yes, no = `"is_reply":true,`, `"is_reply":false,`
	ping    = `{"time":"2026-11-22T10:00:00Z","verdict":"FORWARDED","IP":{"source":"fd00::1","destination":"fd00::2","ipVersion":"IPv6"},"l4":{"ICMPv6":{"type":128}},"is_reply":false}` + "\n"
	dns     = `{"flow":{"time":"2026-11-22T10:00:00Z","verdict":"FORWARDED","IP":{"source":"10.0.0.9","destination":"10.0.0.53"},"l4":{"UDP":{"source_port":5000,"destination_port":53}}}}` + "\n"
	status  = `{"node_status":{"state_change":"NODE_CONNECTED","node_names":["n1"]},"node_name":"n1","time":"2026-11-22T10:00:00Z"}` + "\n"
	lost    = `{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"17"},"time":"2026-11-22T10:00:00Z"}` + "\n"
)

func read(t *testing.T, text string) ([]flow.Flow, flow.Coverage) {
	t.Helper()
	r := lines.NewReader(strings.NewReader(text), "events.log", &Format)
	flows := sourcetest.ReadAll(t, r)
	if r.Mark().Offset > int64(len(text)) {
		t.Fatalf("%+v of %d bytes", r.Mark(), len(text))
	}
	return flows, r.Coverage()
}

func TestPacketsBecomeFlows(t *testing.T) {
	const a, b = "10.0.0.9", "10.0.0.2"
	text := status +
		packet(0, "FORWARDED", a, b, 40000, 80, `"SYN":true`, no) +
		packet(0, "FORWARDED", b, a, 80, 40000, `"SYN":true,"ACK":true`, yes) +
		packet(1, "FORWARDED", a, b, 40000, 80, `"ACK":true,"FIN":true`, no) +
		packet(1, "FORWARDED", b, a, 80, 40000, `"ACK":true,"FIN":true`, yes) +
		packet(2, "DROPPED", a, b, 40001, 22, `"SYN":true`, "") + // policy
		packet(3, "FORWARDED", a, b, 40002, 23, `"SYN":true`, no) +
		packet(3, "FORWARDED", b, a, 23, 40002, `"RST":true,"ACK":true`, yes) + // nothing listens
		packet(4, "FORWARDED", b, a, 31000, 30000, `"ACK":true`, yes) + // started long before; a is the originator, whatever the ports say
		packet(50, "FORWARDED", a, b, 40003, 24, `"SYN":true`, no) + // the answer may come yet
		lost + ping + dns
	flows, cov := read(t, text)
	by := map[string]flow.Flow{}
	for _, f := range flows {
		by[fmt.Sprintf("%s:%d>%s:%d", f.Orig, f.OrigPort, f.Resp, f.RespPort)] = f
	}
	for end, want := range map[string]flow.State{
		"10.0.0.9:40000>10.0.0.2:80": flow.SF, "10.0.0.9:40001>10.0.0.2:22": flow.S0, "10.0.0.9:40002>10.0.0.2:23": flow.REJ,
		"10.0.0.9:30000>10.0.0.2:31000": flow.OTH, "10.0.0.9:40003>10.0.0.2:24": flow.StateUnknown, "fd00::1:128>fd00::2:129": flow.OTH,
		"10.0.0.9:5000>10.0.0.53:53": flow.S0,
	} {
		if f, ok := by[end]; !ok || f.State != want || f.Known.Has(flow.Counts) || f.OrigPkts != 0 {
			t.Errorf("%s: %v %s, want %s", end, ok, f.State, want)
		}
	}
	if len(flows) != 7 || cov.Skipped != 1 || !strings.Contains(cov.Problems[0].Reason, "lost 17 events") {
		t.Errorf("%d flows, %+v", len(flows), cov)
	}
	if f := by["10.0.0.9:40000>10.0.0.2:80"]; f.Duration != 1e9 || f.OrigFlags != flow.SYN|flow.ACK|flow.FIN || f.Resp != netip.MustParseAddr(b) {
		t.Errorf("%+v", f)
	}
}

func TestOnlyHubbleIsTaken(t *testing.T) {
	for text, want := range map[string]bool{
		dns: true, ping: true, status: true, lost: true, "": false, "{}": false,
		`{"event_type":"flow","timestamp":"x"}`: false, `{"ts":1,"id.orig_h":"1.2.3.4"}`: false,
	} {
		if Format.Is([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestLinesThatCannotBeUsed(t *testing.T) {
	for want, line := range map[string]string{
		errTime.Error():    strings.Replace(dns, "2026-11-22T", "yesterday", 1),
		errAddress.Error(): strings.Replace(dns, "10.0.0.9", "pod-1", 1),
		errNotJSON.Error(): dns[:50] + "\n",
		"is not a uint16":  strings.Replace(dns, "5000", "70000", 1),
	} {
		flows, cov := read(t, line+ping)
		if len(flows) != 1 || cov.Skipped != 1 || !strings.Contains(cov.Problems[0].Reason, want) {
			t.Errorf("%d flows, %v, want %s", len(flows), cov.Problems, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{dns, ping, status, lost, packet(1, "DROPPED", "10.0.0.1", "10.0.0.2", 1, 2, `"SYN":true`, yes), "", "{}", `{"flow":null}`, dns[:50]} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		flows, _ := read(t, text)
		for _, one := range flows {
			if !one.Orig.IsValid() || !one.Resp.IsValid() || one.Duration < 0 {
				t.Fatalf("%+v", one)
			}
		}
	})
}
