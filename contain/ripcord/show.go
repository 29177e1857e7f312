//go:build linux

package ripcord

import (
	"net/netip"
	"slices"
	"strings"

	"dragnet/contain/ripcord/bpf"
	"dragnet/contain/ripcord/state"
)

// Status is what a gateway holds, read from its pinned tables; the agent need
// not run.
type Status struct {
	Counters map[string]uint64 `json:"counters"`
	Sources  []netip.Addr      `json:"sources"`
	// Connections are those in the tables, Ended those of them that the peer
	// has ended and that still are.
	Connections int `json:"connections"`
	Ended       int `json:"ended"`
	// Stops are coarse conversations that were ended.
	Stops []Stopped `json:"stops"`
	// MemoryIPv4 and MemoryIPv6 are what the tables of connections cost, in
	// bytes.
	MemoryIPv4 uint64 `json:"memory_ipv4"`
	MemoryIPv6 uint64 `json:"memory_ipv6"`
}

// Stopped is a coarse conversation that was ended.
type Stopped struct {
	Peer     netip.Prefix `json:"peer"`
	Proto    uint8        `json:"proto"`
	HostPort uint16       `json:"host_port"`
	PeerPort uint16       `json:"peer_port"`
	// New is set where only new TCP connections are concerned.
	New     bool   `json:"new"`
	Seconds uint32 `json:"seconds"`
}

// ReadStatus reads the pinned tables.
func ReadStatus(pins string) (*Status, error) {
	w, err := bpf.Open(pins)
	if err != nil {
		return nil, err
	}
	defer w.Close()
	sum, err := w.Counters()
	if err != nil {
		return nil, err
	}
	s := &Status{Counters: map[string]uint64{}, Sources: []netip.Addr{}, Stops: []Stopped{}}
	for r, n := range sum {
		s.Counters[state.Reason(r).String()] = n
	}
	for a := range w.Sources() {
		s.Sources = append(s.Sources, a)
	}
	slices.SortFunc(s.Sources, netip.Addr.Compare)
	now := bootMS()
	w.Conns(func(_ state.Ends, c state.Conn) bool {
		s.Connections++
		if c.State == state.Ended && int32(c.Until-now) > 0 {
			s.Ended++
		}
		return true
	})
	for k, stop := range w.Stops() {
		left := int32(stop.Until - now)
		if k.Later || left <= 0 {
			continue
		}
		s.Stops = append(s.Stops, Stopped{
			Peer: unmapped(k.Peer), Proto: k.Proto, HostPort: k.HPort, PeerPort: k.PPort,
			New: stop.SYNOnly != 0, Seconds: uint32(left) / 1000,
		})
	}
	slices.SortFunc(s.Stops, func(a, b Stopped) int { return strings.Compare(a.Peer.String(), b.Peer.String()) })
	s.MemoryIPv4, s.MemoryIPv6 = w.Memory()
	return s, nil
}

// unmapped is the IPv4 prefix that an IPv6 one stands for, if it does.
func unmapped(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}
