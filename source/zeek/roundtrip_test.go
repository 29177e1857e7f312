package zeek

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/flow"
)

// TestReadsBackWhatIsWritten writes random flows as Zeek would under random
// settings, and reads them back.
func TestReadsBackWhatIsWritten(t *testing.T) {
	for name, write := range map[string]func(*rapid.T, []flow.Flow) string{"TSV": writeTSV, "JSON": writeJSON} {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want := rapid.SliceOfN(rapid.Custom(anyFlow), 0, 20).Draw(t, "flows")
				log := write(t, want)
				size := rapid.IntRange(1, 3000).Draw(t, "chunk size")
				got, r := readAll(fatal{TB: nil, t: t}, []byte(log), flow.AllColumns, size)
				if diff := cmp.Diff(want, got, sameFlow); diff != "" {
					t.Fatalf("%v\n%s\nflows (-written +read):\n%s", r.Coverage().Problems, log, diff)
				}
			})
		})
	}
}

// fatal lets a rapid.T stand for a testing.TB where only Fatal and Helper are
// called.
type fatal struct {
	testing.TB
	t *rapid.T
}

func (f fatal) Fatal(args ...any) { f.t.Fatal(args...) }
func (f fatal) Helper()           {}

func anyFlow(t *rapid.T) flow.Flow {
	v6 := rapid.Bool().Draw(t, "v6")
	addr := func(name string) netip.Addr {
		if v6 {
			b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 0, 0, 1, 0x20, 0xff}), 16, 16).Draw(t, name)
			return netip.AddrFrom16([16]byte(b)).Unmap()
		}
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, name)))
	}
	count := func(name string) uint64 { return rapid.Uint64().Draw(t, name) }
	f := flow.Flow{
		Start: flow.Time(rapid.Int64Range(0, int64(lastTime)).Draw(t, "start")),
		Orig:  addr("orig"), Resp: addr("resp"),
		OrigPort: rapid.Uint16().Draw(t, "orig port"), RespPort: rapid.Uint16().Draw(t, "resp port"),
		Proto: flow.Proto(rapid.Uint8().Draw(t, "proto")),
		State: flow.State(rapid.IntRange(0, int(flow.OTH)).Draw(t, "state")),
	}
	if f.Orig.Is6() && f.Proto == flow.ICMP || f.Orig.Is4() && f.Proto == flow.ICMPv6 {
		f.Proto = flow.UDP // Zeek writes icmp for the one that fits the address
	}
	if rapid.Bool().Draw(t, "lasting") {
		f.Known |= flow.Lasting
		f.Duration = time.Duration(rapid.Int64Range(0, 1<<62).Draw(t, "duration"))
	}
	if rapid.Bool().Draw(t, "payload") {
		f.Known |= flow.Payload
		f.OrigBytes, f.RespBytes, f.MissedBytes = count("orig bytes"), count("resp bytes"), count("missed bytes")
	}
	if rapid.Bool().Draw(t, "counts") {
		f.Known |= flow.Counts
		f.OrigPkts, f.OrigIPBytes, f.RespPkts, f.RespIPBytes = count("orig pkts"), count("orig ip bytes"), count("resp pkts"), count("resp ip bytes")
	}
	if rapid.Bool().Draw(t, "history") {
		f.Known |= flow.History
		f.History = rapid.StringMatching(`[\^]?[SHADFRCGTWIQshadfrcgtwiq]{0,80}`).Draw(t, "text")
	}
	return f
}

// values is a flow as Zeek names and writes it; columns without a value are
// not set.
func values(f flow.Flow) map[string]string {
	seconds := func(nanos int64) string { return fmt.Sprintf("%d.%09d", nanos/1e9, nanos%1e9) }
	v := map[string]string{
		"ts": seconds(int64(f.Start)), "uid": "CAbc",
		"id.orig_h": f.Orig.String(), "id.orig_p": fmt.Sprint(f.OrigPort),
		"id.resp_h": f.Resp.String(), "id.resp_p": fmt.Sprint(f.RespPort),
		"ip_proto": fmt.Sprint(uint8(f.Proto)), "proto": "unknown_transport",
		"conn_state": f.State.String(),
	}
	switch f.Proto {
	case flow.TCP, flow.UDP:
		v["proto"] = f.Proto.String()
	case flow.ICMP, flow.ICMPv6:
		v["proto"] = "icmp"
	}
	if f.State == flow.StateUnknown {
		delete(v, "conn_state")
	}
	if f.Known.Has(flow.Lasting) {
		v["duration"] = seconds(int64(f.Duration))
	}
	if f.Known.Has(flow.Payload) {
		v["orig_bytes"], v["resp_bytes"], v["missed_bytes"] = fmt.Sprint(f.OrigBytes), fmt.Sprint(f.RespBytes), fmt.Sprint(f.MissedBytes)
	}
	if f.Known.Has(flow.Counts) {
		v["orig_pkts"], v["orig_ip_bytes"] = fmt.Sprint(f.OrigPkts), fmt.Sprint(f.OrigIPBytes)
		v["resp_pkts"], v["resp_ip_bytes"] = fmt.Sprint(f.RespPkts), fmt.Sprint(f.RespIPBytes)
	}
	if f.Known.Has(flow.History) {
		v["history"] = f.History
	}
	return v
}

var allNames = []string{
	"ts", "uid", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "proto", "service", "duration", "orig_bytes", "resp_bytes",
	"conn_state", "local_orig", "missed_bytes", "history", "orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes", "ip_proto", "_node_name", "extra",
}

// writeTSV begins a new header, with another order of columns and another
// separator, between any two lines.
func writeTSV(t *rapid.T, flows []flow.Flow) string {
	var log strings.Builder
	var names []string
	var sep, unset, empty string
	for i, f := range flows {
		if i == 0 || rapid.IntRange(0, 4).Draw(t, "new header") == 0 {
			names = rapid.Permutation(allNames).Draw(t, "order")
			sep = rapid.SampledFrom([]string{"\t", ",", "|", " ", "\x01"}).Draw(t, "separator")
			unset = rapid.SampledFrom([]string{"-", "", "NULL"}).Draw(t, "unset")
			empty = rapid.SampledFrom([]string{"(empty)", "EMPTY", ""}).Filter(func(s string) bool { return s != unset }).Draw(t, "empty")
			fmt.Fprintf(&log, "#separator \\x%02x\n#set_separator%s;\n#empty_field%s%s\n#unset_field%s%s\n#path%sconn\n#fields%s%s\n",
				sep[0], sep, sep, empty, sep, unset, sep, sep, strings.Join(names, sep))
		}
		v := values(f)
		line := make([]string, len(names))
		for i, name := range names {
			value, set := v[name]
			switch {
			case !set:
				value = unset
			case value == "":
				value = empty
			}
			line[i] = value
		}
		log.WriteString(strings.Join(line, sep) + "\n")
	}
	return log.String()
}

// writeJSON writes keys in any order, dotted or nested, times in each form
// that holds them exactly.
func writeJSON(t *rapid.T, flows []flow.Flow) string {
	var log strings.Builder
	for _, f := range flows {
		v := values(f)
		nested := rapid.Bool().Draw(t, "nested")
		var members []string
		var id []string
		for _, name := range rapid.Permutation(allNames).Draw(t, "order") {
			value, set := v[name]
			if !set {
				if rapid.Bool().Draw(t, "null") {
					members = append(members, strconv.Quote(name)+":null")
				}
				continue
			}
			if name == "ts" {
				value = anyTime(t, f.Start)
			} else if slices.Contains([]string{"uid", "id.orig_h", "id.resp_h", "proto", "conn_state", "history"}, name) {
				quoted, _ := json.Marshal(value)
				value = string(quoted)
			}
			if end, ok := strings.CutPrefix(name, "id."); ok && nested {
				id = append(id, strconv.Quote(end)+":"+value)
			} else {
				members = append(members, strconv.Quote(name)+": "+value)
			}
		}
		if nested {
			members = append(members, `"id":{`+strings.Join(id, ",")+"}")
		}
		members = append(members, `"_path":"conn"`)
		log.WriteString("{" + strings.Join(members, ", ") + "}\n")
	}
	return log.String()
}

func anyTime(t *rapid.T, at flow.Time) string {
	forms := []string{
		fmt.Sprintf("%d.%09d", at/1e9, at%1e9),
		fmt.Sprintf("%d.%09de-3", at/1e6, at%1e6*1000),
		strconv.Quote(at.String()),
		strconv.Quote(at.Time().In(time.FixedZone("", 5400)).Format(time.RFC3339Nano)),
	}
	if at%1e6 == 0 && at >= 1e11*1e6 {
		forms = append(forms, fmt.Sprint(int64(at/1e6)))
	}
	return rapid.SampledFrom(forms).Draw(t, "time")
}
