package failures

import (
	"strings"

	"dragnet/flow"
)

// Columns are the optional columns that the detector reads.
const Columns = flow.Failures | flow.History | flow.Flags

// FlowSignal is what a flow indicates about its originator.
type FlowSignal uint8

// The signals.
const (
	Nothing FlowSignal = iota
	Success
	Silence // no answer; weak, since silence may be loss
	Refusal // a RST to the SYN, or an ICMP error
	Probe   // half-open, or a segment that opens nothing: no use but scanning
)

// SignalOf reads a flow. Only TCP has failures by silence and by RST; an ICMP
// error that quotes the flow counts for every protocol.
func SignalOf(f *flow.Flow) FlowSignal {
	if f.ICMPError != 0 {
		return Refusal
	}
	if f.Proto != flow.TCP {
		return Nothing
	}
	if flags, ok := sentFlags(f); ok && flags&flow.SYN == 0 {
		return strangeSignal(f, flags)
	}
	switch f.State {
	case flow.REJ:
		return Refusal
	case flow.S0, flow.RSTOS0, flow.SH:
		if acknowledged(f) {
			return Nothing // the answers took another path than the monitor's
		}
		return Silence
	}
	switch {
	case !f.Established():
		return Nothing
	case f.Known.Has(flow.History) && f.History != "" && !acknowledged(f) && strings.HasPrefix(f.History, "S"):
		return Probe
	}
	return Success
}

// acknowledged reports whether the originator is known to have sent an
// acknowledgement or data.
func acknowledged(f *flow.Flow) bool {
	return f.Known.Has(flow.History) && strings.ContainsAny(f.History, "AD") || f.Known.Has(flow.Flags) && f.OrigFlags&flow.ACK != 0
}

// Handshake reports whether f shows that its originator receives what is sent
// to its address: it acknowledged the responder's sequence number.
func Handshake(f *flow.Flow) bool {
	return f.Proto == flow.TCP && f.Established() && SignalOf(f) == Success
}

// sentFlags are all flags that the originator sent.
func sentFlags(f *flow.Flow) (flow.TCPFlags, bool) {
	return f.OrigFlags & (flow.SYN | flow.ACK | flow.RST | flow.FIN | flow.PSH | flow.URG), f.Known.Has(flow.Flags)
}

// strangeSignal is the signal of a flow whose originator sent no SYN: of an ACK
// only where it was refused, since a connection older than the log begins with
// one, too.
func strangeSignal(f *flow.Flow, flags flow.TCPFlags) FlowSignal {
	if f.RespFlags&^(flow.RST|flow.ACK) != 0 {
		return Nothing
	}
	switch flags {
	case 0, flow.FIN, flow.FIN | flow.PSH | flow.URG:
		return Probe
	case flow.ACK:
		if f.RespFlags == flow.RST {
			return Probe
		}
	}
	return Nothing
}
