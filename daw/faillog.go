package daw

import (
	"fmt"
	"net/netip"

	"dragnet/flow"
)

// FailLog reports that a firewall dropped a SYN without answering, so that the
// edge of the SYN's source can count the failure (Tang 2006, section 2.3.10).
// The receiver must authenticate the station: the message carries no proof.
type FailLog struct {
	Time    flow.Time  `json:"time"`
	Src     netip.Addr `json:"src"`
	Dst     netip.Addr `json:"dst"`
	SrcPort uint16     `json:"sport"`
	DstPort uint16     `json:"dport"`
	// Device names the firewall that dropped the packet.
	Device string `json:"device"`
}

// Validate reports why the message is unusable.
func (l *FailLog) Validate() error {
	switch {
	case !l.Src.IsValid() || !l.Dst.IsValid():
		return fmt.Errorf("FailLog of %q lacks an address", l.Device)
	case l.Src.Is4() != l.Dst.Is4():
		return fmt.Errorf("FailLog of %q mixes IPv4 and IPv6: %s, %s", l.Device, l.Src, l.Dst)
	case l.Src == l.Dst:
		return fmt.Errorf("FailLog of %q: source and destination are both %s", l.Device, l.Src)
	case l.DstPort == 0:
		return fmt.Errorf("FailLog of %q lacks the destination port", l.Device)
	}
	return nil
}

// Conn is the connection that failed, for Edge.Failure with kind Logged.
func (l *FailLog) Conn() *Conn {
	return &Conn{Src: l.Src, Dst: l.Dst, SrcPort: l.SrcPort, DstPort: l.DstPort}
}
