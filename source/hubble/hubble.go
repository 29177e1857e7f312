// Package hubble reads the flows of Hubble, Cilium's observer of Kubernetes
// networks, as JSON lines: what the Cilium agent exports to a file and what
// 'hubble observe -o jsonpb' prints, {"flow":{...}}, and the older form without
// that wrapping (Cilium documentation, "Configuring Hubble exporter"; flow.proto).
//
// A line is one packet that was seen at one point of a node, and by default only
// some packets of a connection are, so that there are no counts. Packets of a
// connection are joined to a flow, if one reading of the log has them.
package hubble

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/source/biflow"
	"dragnet/source/lines"
)

// Format is that of Hubble's flows.
var Format = lines.Format{Name: "Hubble flows", Is: is, Record: parse, Whole: json.Valid}

// is looks for keys that each flow has, and that of the wrapping or the time.
func is(prefix []byte) bool {
	line, _, _ := bytes.Cut(bytes.TrimLeft(prefix, " \r\n"), []byte("\n"))
	switch {
	case !bytes.HasPrefix(line, []byte("{")):
		return false
	case bytes.Contains(line, []byte(`"verdict":`)) && bytes.Contains(line, []byte(`"IP":`)):
		return true
	}
	// A log may begin with what the observer says of its nodes, or of loss.
	return bytes.HasPrefix(line, []byte(`{"lost_events":`)) || bytes.HasPrefix(line, []byte(`{"node_status":`))
}

// wrapped is a line of the export: one of its kinds of events.
type wrapped struct {
	Flow *event `json:"flow"`
	Lost *struct {
		Source string `json:"source"`
		Count  number `json:"num_events_lost"`
	} `json:"lost_events"`
	event
}

// number is a 64-bit number, which protobuf's JSON writes as a string.
type number string

func (n *number) UnmarshalJSON(b []byte) error {
	*n = number(bytes.Trim(b, `"`))
	return nil
}

// event is what is read of a flow.
type event struct {
	Time    string `json:"time"`
	Verdict string `json:"verdict"`
	IP      *struct {
		Source      string `json:"source"`
		Destination string `json:"destination"`
	} `json:"IP"`
	L4 struct {
		TCP *struct {
			ports
			Flags map[string]bool `json:"flags"`
		} `json:"TCP"`
		UDP    *ports `json:"UDP"`
		SCTP   *ports `json:"SCTP"`
		ICMPv4 *icmp  `json:"ICMPv4"`
		ICMPv6 *icmp  `json:"ICMPv6"`
	} `json:"l4"`
	// IsReply is absent where Cilium does not know.
	IsReply *bool `json:"is_reply"`
}

type ports struct {
	Source      uint16 `json:"source_port"`
	Destination uint16 `json:"destination_port"`
}

type icmp struct {
	Type uint8 `json:"type"`
	Code uint8 `json:"code"`
}

var (
	errNotJSON = errors.New("not one whole JSON object")
	errTime    = errors.New("time is not one")
	errAddress = errors.New("IP.source or IP.destination is not an address")
)

func parse(line []byte, r *biflow.Record) (bool, error) {
	var w wrapped
	if err := json.Unmarshal(line, &w); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			return false, fmt.Errorf("%s is not a %s", kind.Field, kind.Type)
		}
		return false, errNotJSON
	}
	if w.Lost != nil {
		return false, fmt.Errorf("lost %.20s events here, as Hubble says (%.40s)", w.Lost.Count, w.Lost.Source)
	}
	e := w.Flow
	if e == nil {
		e = &w.event
	}
	if e.IP == nil {
		return false, nil // of another layer, or of the agent
	}
	return true, e.record(r)
}

func (e *event) record(r *biflow.Record) error {
	t, err := time.Parse(time.RFC3339Nano, e.Time)
	if err != nil {
		return errTime
	}
	orig, err1 := netip.ParseAddr(e.IP.Source)
	resp, err2 := netip.ParseAddr(e.IP.Destination)
	if errors.Join(err1, err2) != nil {
		return errAddress
	}
	r.Start, r.Sampling = flow.FromTime(t), 1
	r.Orig, r.Resp = orig.Unmap().WithZone(""), resp.Unmap().WithZone("")
	if e.IsReply != nil {
		r.Origin = biflow.OriginSource
		if *e.IsReply {
			r.Origin = biflow.OriginDestination
		}
	}
	e.transport(r)
	// A packet that policy dropped was an attempt that failed.
	if e.Verdict == "DROPPED" && r.Proto == flow.TCP && r.OrigFlags&(flow.SYN|flow.ACK) == flow.SYN {
		r.State = flow.S0
	}
	return nil
}

func (e *event) transport(r *biflow.Record) {
	ends := func(proto flow.Proto, p ports) { r.Proto, r.OrigPort, r.RespPort = proto, p.Source, p.Destination }
	switch l := &e.L4; {
	case l.TCP != nil:
		ends(flow.TCP, l.TCP.ports)
		r.Known = flow.Flags
		for name, bit := range tcpFlags {
			if l.TCP.Flags[name] {
				r.OrigFlags |= bit
			}
		}
	case l.UDP != nil:
		ends(flow.UDP, *l.UDP)
	case l.SCTP != nil:
		ends(sctp, *l.SCTP)
	case l.ICMPv4 != nil:
		r.Proto = flow.ICMP
		r.SetICMP(l.ICMPv4.Type, l.ICMPv4.Code)
	case l.ICMPv6 != nil:
		r.Proto = flow.ICMPv6
		r.SetICMP(l.ICMPv6.Type, l.ICMPv6.Code)
	}
}

const sctp flow.Proto = 132

var tcpFlags = map[string]flow.TCPFlags{
	"FIN": flow.FIN, "SYN": flow.SYN, "RST": flow.RST, "PSH": flow.PSH, "ACK": flow.ACK,
}
