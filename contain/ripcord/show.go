//go:build linux

package ripcord

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/tables"
)

// GatewayStatus is the contents of a gateway's pinned tables; the agent
// need not run.
type GatewayStatus struct {
	// Running is whether an agent runs: without one pulls are not answered.
	Running bool `json:"running"`
	// Attached is whether the programs are on both interfaces: otherwise no packet
	// passes.
	Attached bool              `json:"attached"`
	Counters map[string]uint64 `json:"counters"`
	Sources  []netip.Addr      `json:"sources"`
	// Connections is the number in the tables, Ended the number of them that
	// the peer has ended and that are still blocked.
	Connections int `json:"connections"`
	Ended       int `json:"ended"`
	// Stops are coarse conversations that were ended.
	Stops []StoppedConversation `json:"stops"`
	// MemoryIPv4 and MemoryIPv6 are the sizes of the tables of connections, in
	// bytes.
	MemoryIPv4 uint64 `json:"memory_ipv4"`
	MemoryIPv6 uint64 `json:"memory_ipv6"`
}

// StoppedConversation is a coarse conversation that was ended.
type StoppedConversation struct {
	Peer     netip.Prefix `json:"peer"`
	Proto    uint8        `json:"proto"`
	HostPort uint16       `json:"host_port"`
	PeerPort uint16       `json:"peer_port"`
	// New is set where only new TCP connections are concerned.
	New     bool   `json:"new"`
	Seconds uint32 `json:"seconds"`
}

// ReadStatus reads the pinned tables.
func ReadStatus(pins string) (*GatewayStatus, error) {
	w, err := bpf.Open(pins)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	sum, err := w.Counters()
	if err != nil {
		return nil, err
	}
	s := &GatewayStatus{Counters: map[string]uint64{}, Sources: []netip.Addr{}, Stops: []StoppedConversation{}}
	for r, n := range sum {
		s.Counters[tables.Reason(r).String()] = n
	}
	for a := range w.Sources() {
		s.Sources = append(s.Sources, a)
	}
	slices.SortFunc(s.Sources, netip.Addr.Compare)
	s.Attached = bpf.Attached(pins)
	lock, err := lockPins(pins)
	switch {
	case err == nil:
		err = lock.Close()
	case errors.Is(err, errOwned):
		s.Running, err = true, nil
	}
	if err != nil {
		return nil, err
	}
	now := bootMS()
	w.Conns(func(_ tables.Ends, c tables.Conn) bool {
		s.Connections++
		if c.State == tables.Ended && int32(c.Until-now) > 0 {
			s.Ended++
		}
		return true
	})
	for k, stop := range w.Stops() {
		left := int32(stop.Until - now)
		if k.Later || left <= 0 {
			continue
		}
		s.Stops = append(s.Stops, StoppedConversation{
			Peer: unmapPrefix(k.Peer), Proto: k.Proto, HostPort: k.HPort, PeerPort: k.PPort,
			New: stop.SYNOnly != 0, Seconds: uint32(left) / 1000,
		})
	}
	slices.SortFunc(s.Stops, func(a, b StoppedConversation) int { return strings.Compare(a.Peer.String(), b.Peer.String()) })
	s.MemoryIPv4, s.MemoryIPv6 = w.Memory()
	return s, nil
}

// unmapPrefix returns the IPv4 prefix mapped into an IPv6 one, if it is one.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
