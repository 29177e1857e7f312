package protobuf

import (
	"bytes"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"pgregory.net/rapid"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// anyFlow draws a flow that a source may give: what is not known is zero.
func anyFlow(t *rapid.T) flow.Flow {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "six") {
			return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "raw"))).Unmap()
		}
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "raw")))
	})
	f := flow.Flow{
		Start: flow.Time(rapid.Int64Range(0, latest).Draw(t, "start")), Orig: addr.Draw(t, "orig"), Resp: addr.Draw(t, "resp"),
		OrigPort: rapid.Uint16().Draw(t, "port"), RespPort: rapid.Uint16().Draw(t, "port"), Proto: flow.Proto(rapid.Uint8().Draw(t, "proto")),
		State: flow.State(rapid.Uint8Range(0, uint8(flow.OTH)).Draw(t, "state")), Sampling: rapid.Uint32().Draw(t, "sampling"), Domain: rapid.Uint32().Draw(t, "domain"),
		Known: flow.Columns(rapid.Uint16Range(0, uint16(flow.AllColumns)).Draw(t, "known")),
	}
	if rapid.Bool().Draw(t, "exported") {
		f.Exporter = addr.Draw(t, "exporter")
	}
	for i := range numbers {
		if n := &numbers[i]; f.Known.Has(n.known) {
			n.set(&f, rapid.Uint64Range(0, n.most).Draw(t, "number"))
		}
	}
	if f.Known.Has(flow.History) {
		f.History = rapid.StringMatching("[ -~]{0,40}").Draw(t, "history")
	}
	return f
}

func TestWhatIsAppendedIsParsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyFlow(t)
		var got flow.Flow
		if err := Parse(Append(nil, &want), &got); err != nil || got != want {
			t.Fatalf("%v\n%+v\n%+v", err, got, want)
		}
	})
}

// TestSchema has protoc read a message by the schema, and write one that we read.
func TestSchema(t *testing.T) {
	protoc := testkit.Tool(t, "protoc")
	run := func(mode string, in []byte) []byte {
		cmd := exec.Command(protoc, mode+"=dragnet.flow.v1.Flow", "flow.proto")
		cmd.Stdin = bytes.NewReader(in)
		var problems strings.Builder
		cmd.Stderr = &problems
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("protoc %s: %v\n%s", mode, err, problems.String())
		}
		return out
	}
	want := flow.Flow{
		Start: 1_700_000_000_000_000_001, Duration: time.Second, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("2001:db8::1"), OrigPort: 40000, RespPort: 443,
		Proto: flow.TCP, State: flow.SF, OrigFlags: 0x1b, RespFlags: 0x1a, ICMPError: 0x303, Known: flow.AllColumns, Sampling: 64, Domain: 7, OrigISN: 1, RespISN: 1<<32 - 1,
		History: "ShAf", OrigBytes: 1, RespBytes: 2, OrigPkts: 3, RespPkts: 4, OrigIPBytes: 5, RespIPBytes: 1<<64 - 1, MissedBytes: 6, Exporter: netip.MustParseAddr("198.51.100.1"),
	}
	text := string(run("--decode", Append(nil, &want)))
	for _, line := range []string{
		"start_time_ns: 1700000000000000001", "duration_ns: 1000000000", `src_addr: "\300\000\002\001"`, "src_port: 40000", "dst_port: 443", "proto: 6", `conn_state: "SF"`,
		"pkts_orig: 3", "pkts_resp: 4", "bytes_orig: 5", "bytes_resp: 18446744073709551615", "payload_bytes_orig: 1", "payload_bytes_resp: 2", "missed_bytes: 6",
		"tcp_flags_orig: 27", "tcp_flags_resp: 26", "isn_orig: 1", "isn_resp: 4294967295", "icmp_error: 771", `history: "ShAf"`, "sampling_rate: 64", "observation_domain_id: 7",
		`exporter_addr: "\3063d\001"`,
	} {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			t.Errorf("protoc does not read %q:\n%s", line, text)
		}
	}
	var got flow.Flow
	if err := Parse(run("--encode", []byte(text)), &got); err != nil || got != want {
		t.Errorf("%v\n%+v\n%+v", err, got, want)
	}
}

func TestMessagesThatLie(t *testing.T) {
	good := flow.Flow{Start: 1, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), Proto: flow.TCP}
	whole := Append(nil, &good)
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"nothing":            {nil, ErrAddress},
		"truncated":          {whole[:len(whole)-1], ErrTruncated},
		"length beyond":      {append(protowire.AppendTag(nil, history, protowire.BytesType), 0xff, 0xff, 0xff, 0xff, 0xf), ErrTruncated},
		"port of 65536":      {appendNumber(append([]byte(nil), whole...), srcPort, 65536), ErrNumber},
		"duration below 0":   {appendNumber(append([]byte(nil), whole...), duration, 1<<63), ErrNumber},
		"start below 0":      {appendNumber(append([]byte(nil), whole...), startTime, 1<<64-1), ErrTime},
		"address of 5 bytes": {appendText(append([]byte(nil), whole...), srcAddr, "12345"), ErrAddress},
		"unknown state":      {appendText(append([]byte(nil), whole...), connState, "XX"), ErrText},
		"escape in history":  {appendText(append([]byte(nil), whole...), history, "\x1b[2J"), ErrText},
		"history of 2 KiB":   {appendText(append([]byte(nil), whole...), history, strings.Repeat("S", 2048)), ErrText},
		"open group":         {protowire.AppendTag(append([]byte(nil), whole...), 99, protowire.StartGroupType), ErrTruncated},
		"field of tomorrow":  {appendText(append([]byte(nil), whole...), 99, "later"), nil},
		"as it is":           {whole, nil},
	} {
		var f flow.Flow
		if err := Parse(c.b, &f); err != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	full := flow.Flow{
		Start: 1, Duration: 2, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("2001:db8::1"), Proto: flow.TCP, State: flow.SF, Known: flow.AllColumns,
		History: "Sh", Sampling: 1, Exporter: netip.MustParseAddr("192.0.2.3"),
	}
	f.Add(Append(nil, &full))
	f.Add(protowire.AppendTag(nil, 5, protowire.StartGroupType))
	f.Fuzz(func(t *testing.T, b []byte) {
		var one, again flow.Flow
		if Parse(b, &one) != nil {
			return
		}
		if one.Start < 0 || one.Duration < 0 || !one.Orig.IsValid() || !one.Resp.IsValid() {
			t.Fatalf("%+v", one)
		}
		if err := Parse(Append(nil, &one), &again); err != nil || one != again {
			t.Fatalf("%v\n%+v\n%+v", err, one, again)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	f := flow.Flow{
		Start: 1_700_000_000_000_000_001, Duration: time.Second, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), OrigPort: 40000, RespPort: 443, Proto: flow.TCP,
		State: flow.SF, Known: flow.Lasting | flow.Counts | flow.Flags, OrigPkts: 10, RespPkts: 12, OrigIPBytes: 1000, RespIPBytes: 14000, Exporter: netip.MustParseAddr("192.0.2.9"),
	}
	m := Append(nil, &f)
	b.SetBytes(int64(len(m)))
	for b.Loop() {
		if err := Parse(m, &f); err != nil {
			b.Fatal(err)
		}
	}
}
