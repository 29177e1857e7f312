package suricata

import (
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/source/lines"
	"dragnet/source/sourcetest"
)

// Events as the User Guide shows them.
const (
	tcpFlow = `{"timestamp":"2026-11-22T10:00:05.123456+0000","flow_id":1,"in_iface":"eth0","event_type":"flow","src_ip":"192.0.2.10","src_port":40000,"dest_ip":"198.51.100.5","dest_port":22,"proto":"TCP","flow":{"pkts_toserver":3,"pkts_toclient":2,"bytes_toserver":206,"bytes_toclient":140,"start":"2026-11-22T12:00:01.000500+0200","end":"2026-11-22T12:00:03.000500+0200","age":2,"state":"closed","reason":"timeout","alerted":false},"tcp":{"tcp_flags":"1b","tcp_flags_ts":"13","tcp_flags_tc":"1b","syn":true,"fin":true,"ack":true,"state":"closed"}}`
	refused = `{"timestamp":"2026-11-22T10:00:05.123456+0000","event_type":"flow","src_ip":"192.0.2.10","src_port":40001,"dest_ip":"198.51.100.5","dest_port":23,"proto":"TCP","flow":{"pkts_toserver":1,"pkts_toclient":1,"bytes_toserver":74,"bytes_toclient":60,"start":"2026-11-22T10:00:01.000000+0000","end":"2026-11-22T10:00:01.100000+0000"},"tcp":{"tcp_flags_ts":"02","tcp_flags_tc":"14"}}`
	ping    = `{"timestamp":"2026-11-22T10:00:05.123456+0000","event_type":"flow","src_ip":"2001:db8::1","dest_ip":"2001:db8::2","proto":"IPv6-ICMP","icmp_type":128,"icmp_code":0,"flow":{"pkts_toserver":1,"pkts_toclient":1,"bytes_toserver":118,"bytes_toclient":118,"start":"2026-11-22T10:00:01.000000+0000","end":"2026-11-22T10:00:01.100000+0000"}}`
	unheard = `{"timestamp":"2026-11-22T10:00:05.123456+0000","event_type":"flow","src_ip":"192.0.2.10","src_port":5,"dest_ip":"198.51.100.5","dest_port":53,"proto":"UDP","flow":{"pkts_toserver":1,"pkts_toclient":0,"bytes_toserver":74,"bytes_toclient":0,"start":"2026-11-22T10:00:01.000000+0000","end":"2026-11-22T10:00:01.000000+0000"}}`
	alert   = `{"timestamp":"2026-11-22T10:00:05.123456+0000","event_type":"alert","src_ip":"192.0.2.10","src_port":40000,"dest_ip":"198.51.100.5","dest_port":22,"proto":"TCP"}`
)

// read reads a log in pieces of n bytes.
func read(t *testing.T, text string, n int) ([]flow.Flow, *lines.Reader) {
	t.Helper()
	r := lines.NewReader(&pieces{text, n}, "eve.json", &Format)
	return sourcetest.ReadAll(t, r), r
}

type pieces struct {
	text string
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.text == "" {
		return 0, io.EOF
	}
	n := copy(b[:min(len(b), p.n)], p.text)
	p.text = p.text[n:]
	return n, nil
}

func TestFlowEvents(t *testing.T) {
	if !Format.Is([]byte(alert)) || Format.Is([]byte(`{"ts":1,"_path":"conn"}`)) || Format.Is(nil) {
		t.Error("the wrong files are taken for eve.json")
	}
	text := strings.Join([]string{tcpFlow, alert, refused, ping, unheard}, "\n")
	for _, n := range []int{1, 100, 1 << 20} {
		flows, r := read(t, text, n)
		if len(flows) != 4 || r.Mark().Offset != int64(len(text)) || r.Mark().Line != 5 || r.Coverage().Skipped != 0 || r.Coverage().Flows != 4 {
			t.Fatalf("%d flows, %+v, %+v", len(flows), r.Mark(), r.Coverage())
		}
		start, _ := time.Parse(time.RFC3339Nano, "2026-11-22T10:00:01.0005Z")
		want := flow.Flow{Start: flow.FromTime(start), Duration: 2 * time.Second, Orig: netip.MustParseAddr("192.0.2.10"), Resp: netip.MustParseAddr("198.51.100.5"),
			OrigPort: 40000, RespPort: 22, Proto: flow.TCP, State: flow.SF, OrigFlags: 0x13, RespFlags: 0x1b, Sampling: 1,
			OrigPkts: 3, RespPkts: 2, OrigIPBytes: 206, RespIPBytes: 140, Known: flow.Lasting | flow.Counts | flow.Flags}
		if flows[0] != want {
			t.Errorf("%+v, want %+v", flows[0], want)
		}
		if flows[1].State != flow.REJ || flows[2].OrigPort != 128 || flows[2].RespPort != 129 || flows[2].Proto != flow.ICMPv6 || flows[3].State != flow.S0 {
			t.Errorf("%+v", flows[1:])
		}
	}
}

func TestLinesThatCannotBeUsed(t *testing.T) {
	replace := func(old, with string) string { return strings.Replace(tcpFlow, old, with, 1) }
	for want, line := range map[string]string{
		"eve.json:2: src_ip \"\" is not an address":            replace(`"src_ip":"192.0.2.10",`, ""),
		"eve.json:2: dest_ip \"example\" is not an address":    replace("198.51.100.5", "example"),
		"eve.json:2: src_port is not a uint16":                 replace("40000", "70000"),
		"eve.json:2: proto \"SNA\" is not a protocol":          replace(`"TCP"`, `"SNA"`),
		"eve.json:2: flow.start \"yesterday\" is not a time":   replace("2026-11-22T12:00:01.000500+0200", "yesterday"),
		"eve.json:2: tcp.tcp_flags_ts \"xy\" is not a byte in": replace(`"13"`, `"xy"`),
		"eve.json:2: not one whole JSON object":                tcpFlow[:200],
		"eve.json:2: longer than 1 MiB":                        replace("eth0", strings.Repeat("x", 3<<20)),
		"eve.json:2: flow.pkts_toserver is not a uint64":       replace(`"pkts_toserver":3`, `"pkts_toserver":-3`),
	} {
		flows, r := read(t, alert+"\n"+line+"\n"+refused+"\n", 1000)
		cov := r.Coverage()
		if len(flows) != 1 || cov.Skipped != 1 || !strings.HasPrefix(cov.Problems[0].String(), want) || r.Mark().Line != 3 {
			t.Errorf("%d flows, %v, want %s", len(flows), cov.Problems, want)
		}
	}
}

// TestALogThatGrows: half a line waits for its other half, also after a restart.
func TestALogThatGrows(t *testing.T) {
	p := &pieces{tcpFlow + "\n" + refused[:100], 1 << 20}
	r := lines.NewReader(p, "eve.json", &Format)
	if batch, err := r.Next(); len(batch) != 1 || err != nil {
		t.Fatal(batch, err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	at := r.Mark()
	if at.Offset != int64(len(tcpFlow)+1) || at.Line != 1 {
		t.Errorf("%+v", at)
	}
	p.text = refused[100:] + "\n"
	if batch, err := r.Next(); len(batch) != 1 || err != nil || batch[0].State != flow.REJ {
		t.Fatal(batch, err)
	}
	again := lines.NewReader(&pieces{refused + "\n", 7}, "eve.json", &Format)
	again.Resume(at)
	if batch, err := again.Next(); len(batch) != 1 || err != nil || again.Mark() != r.Mark() {
		t.Errorf("%v %v, %+v and %+v", batch, err, again.Mark(), r.Mark())
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{tcpFlow, refused, ping, unheard, alert, "", "{}", tcpFlow[:200]} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		flows, r := read(t, text, 64)
		if r.Mark().Offset > int64(len(text)) || uint64(len(flows)) != r.Coverage().Flows {
			t.Fatalf("%+v of %d bytes", r.Mark(), len(text))
		}
		for _, one := range flows {
			if !one.Orig.IsValid() || !one.Resp.IsValid() || one.Duration < 0 {
				t.Fatalf("%+v", one)
			}
		}
	})
}
