//go:build linux

package trap

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"

	"dragnet/flow"
)

// maxAttackers bounds the attackers of a report.
const maxAttackers = 16

// attackers finds who had sessions with honeypots, from the kernel's list of
// connections. Reading it takes long while there are many, so one reading serves
// all sessions that began before it.
type attackers struct {
	mu   sync.Mutex // guards all below; who waits for it uses what was read
	read time.Time
	all  []*netlink.ConntrackFlow
}

// maxAge bounds how long a reading is used: by then what it shows may be over.
const maxAge = time.Second

// find lists the connections that were brought to a honeypot and are still tracked
// (established ones, and others for a while after their end), of a session that
// began at a time.
// The addresses of the first ones, as many as sure, cannot be forged.
func (a *attackers) find(honeypot netip.Addr, began time.Time) (found []Attacker, sure int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := time.Now(); !a.read.After(began) || now.Sub(a.read) > maxAge || now.Before(a.read) {
		v4, err4 := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V4)
		v6, err6 := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.FAMILY_V6)
		if err := errors.Join(err4, err6); err != nil {
			return []Attacker{}, 0, err
		}
		a.all, a.read = append(v4, v6...), now
	}
	found, sure = listAttackers(a.all, honeypot)
	return found, sure, nil
}

// listAttackers lists the openers of connections that were brought to a honeypot,
// each address once. The opener of a TCP connection that was established received an
// answer, so its address is not forged: these come first. The source of a SYN alone
// is left out; datagrams, and what ended by a reset, may be forged.
func listAttackers(all []*netlink.ConntrackFlow, honeypot netip.Addr) (found []Attacker, sure int) {
	found = []Attacker{}
	var unsure []Attacker
	for _, f := range all {
		behind, _ := netip.AddrFromSlice(f.Reverse.SrcIP)
		source, _ := netip.AddrFromSlice(f.Forward.SrcIP)
		meant, _ := netip.AddrFromSlice(f.Forward.DstIP)
		a := Attacker{source.Unmap(), netip.AddrPortFrom(meant.Unmap(), f.Forward.DstPort), flow.Proto(f.Forward.Protocol)}
		if behind.Unmap() != honeypot || a.Addr == honeypot {
			continue
		}
		switch state := stateOf(f); {
		case a.Proto == flow.TCP && state >= nl.TCP_CONNTRACK_ESTABLISHED && state <= nl.TCP_CONNTRACK_TIME_WAIT:
			found = add(found, a)
		case a.Proto != flow.TCP || state == nl.TCP_CONNTRACK_CLOSE:
			unsure = add(unsure, a)
		}
	}
	sure = len(found)
	for _, a := range unsure {
		found = add(found, a)
	}
	return found, sure
}

// add appends an attacker unless its address is there or there are too many.
func add(all []Attacker, a Attacker) []Attacker {
	same := func(b Attacker) bool { return a.Addr == b.Addr }
	if len(all) >= maxAttackers || slices.ContainsFunc(all, same) {
		return all
	}
	return append(all, a)
}

func stateOf(f *netlink.ConntrackFlow) uint8 {
	if tcp, ok := f.ProtoInfo.(*netlink.ProtoInfoTCP); ok {
		return tcp.State
	}
	return 0
}
