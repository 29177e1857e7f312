// Package suricata reads the flow events of Suricata's eve.json (Suricata User
// Guide, "Eve JSON Format", event type flow). Other events are passed over.
//
// Suricata counts bytes from the link layer's header on, so OrigIPBytes and
// RespIPBytes are larger than Zeek's by that header, 14 bytes a packet on
// Ethernet.
package suricata

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/source/biflow"
	"dragnet/source/lines"
)

// Format is that of eve.json.
var Format = lines.Format{Name: "Suricata eve.json", Is: is, Parse: parse, Whole: json.Valid}

// is looks for the key that each event has.
func is(prefix []byte) bool {
	line, _, _ := bytes.Cut(bytes.TrimLeft(prefix, " \r\n"), []byte("\n"))
	return bytes.HasPrefix(line, []byte("{")) && bytes.Contains(line, []byte(`"event_type":`)) && bytes.Contains(line, []byte(`"timestamp":`))
}

// event is what is read of a flow event.
type event struct {
	Type     string `json:"event_type"`
	Src      string `json:"src_ip"`
	Dst      string `json:"dest_ip"`
	SrcPort  uint16 `json:"src_port"`
	DstPort  uint16 `json:"dest_port"`
	Proto    string `json:"proto"`
	ICMPType *uint8 `json:"icmp_type"`
	ICMPCode uint8  `json:"icmp_code"`
	Flow     struct {
		OrigPkts  uint64 `json:"pkts_toserver"`
		RespPkts  uint64 `json:"pkts_toclient"`
		OrigBytes uint64 `json:"bytes_toserver"`
		RespBytes uint64 `json:"bytes_toclient"`
		Start     string `json:"start"`
		End       string `json:"end"`
	} `json:"flow"`
	TCP *struct {
		Orig string `json:"tcp_flags_ts"`
		Resp string `json:"tcp_flags_tc"`
	} `json:"tcp"`
}

var errNotJSON = errors.New("not one whole JSON object")

func parse(line []byte, f *flow.Flow) (bool, error) {
	// Most events are not flows, and need not be parsed to see that.
	if !bytes.Contains(line, []byte(`"event_type":"flow"`)) && !bytes.Contains(line, []byte(`"event_type": "flow"`)) {
		if !bytes.HasPrefix(line, []byte("{")) || !bytes.HasSuffix(line, []byte("}")) {
			return false, errNotJSON
		}
		return false, nil
	}
	var e event
	if err := json.Unmarshal(line, &e); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return false, fmt.Errorf("%s is not a %s", kind.Field, kind.Type)
		}
		return false, errNotJSON
	}
	if e.Type != "flow" {
		return false, nil
	}
	return true, e.flow(f)
}

func (e *event) flow(f *flow.Flow) (err error) {
	if f.Orig, err = address("src_ip", e.Src); err != nil {
		return err
	}
	if f.Resp, err = address("dest_ip", e.Dst); err != nil {
		return err
	}
	if f.Proto, err = protocol(e.Proto); err != nil {
		return err
	}
	start, err := instant("flow.start", e.Flow.Start)
	if err != nil {
		return err
	}
	end, err := instant("flow.end", e.Flow.End)
	if err != nil {
		return err
	}
	f.Start, f.Duration = flow.FromTime(start), max(0, end.Sub(start))
	f.OrigPkts, f.RespPkts, f.OrigIPBytes, f.RespIPBytes = e.Flow.OrigPkts, e.Flow.RespPkts, e.Flow.OrigBytes, e.Flow.RespBytes
	f.Known = flow.Lasting | flow.Counts
	f.Sampling = 1
	f.OrigPort, f.RespPort = e.SrcPort, e.DstPort
	return e.state(f)
}

// state fills what depends on the protocol.
func (e *event) state(f *flow.Flow) (err error) {
	orig, resp := f.OrigPkts > 0, f.RespPkts > 0
	switch f.Proto {
	case flow.ICMP, flow.ICMPv6:
		f.State = flow.OTH
		if e.ICMPType != nil {
			f.OrigPort, f.RespPort, _ = packet.ICMPPorts(f.Proto, *e.ICMPType, e.ICMPCode)
		}
	case flow.UDP:
		f.State = flow.S0
		if resp {
			f.State = flow.SF
		}
	case flow.TCP:
		if e.TCP == nil {
			return nil
		}
		if f.OrigFlags, err = flags("tcp.tcp_flags_ts", e.TCP.Orig); err != nil {
			return err
		}
		if f.RespFlags, err = flags("tcp.tcp_flags_tc", e.TCP.Resp); err != nil {
			return err
		}
		f.Known |= flow.Flags
		f.State = biflow.TCPState(f.OrigFlags, f.RespFlags, orig, resp)
	default:
		f.State = flow.OTH
	}
	return nil
}

func address(key, s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return a, fmt.Errorf("%s %s is not an address", key, quote(s))
	}
	return a.Unmap().WithZone(""), nil
}

// protocol reads Suricata's name, of which one is not ours.
func protocol(s string) (flow.Proto, error) {
	if s == "IPv6-ICMP" {
		return flow.ICMPv6, nil
	}
	p, err := flow.ParseProto(s)
	if err != nil {
		return 0, fmt.Errorf("proto %s is not a protocol", quote(s))
	}
	return p, nil
}

func instant(key, s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04:05.999999999-0700", time.RFC3339Nano} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s %s is not a time", key, quote(s))
}

// flags reads two hexadecimal digits; none are none.
func flags(key, s string) (flow.TCPFlags, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 16, 8)
	if err != nil {
		return 0, fmt.Errorf("%s %s is not a byte in hexadecimal", key, quote(s))
	}
	return flow.TCPFlags(n), nil
}

// quote cuts a long value short.
func quote(s string) string {
	const enough = 40
	if len(s) > enough {
		return fmt.Sprintf("%q...", s[:enough])
	}
	return fmt.Sprintf("%q", s)
}
