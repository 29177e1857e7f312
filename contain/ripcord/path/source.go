package path

import (
	"net/netip"

	"dragnet/contain/ripcord/state"
)

// isUnicast reports whether an address can be that of a single host.
func isUnicast(a netip.Addr) bool {
	if a.Is4() {
		b := a.As4()
		return b[0] != 0 && b[0] != 127 && b[0] < 224
	}
	b := a.As16()
	for _, x := range b[:12] {
		if x != 0 {
			return b[0] != 0xff
		}
	}
	return false // ::, ::1, IPv4-compatible
}

// checkSource accepts an address the host is known by, or learns it.
func (p *Path) checkSource(a netip.Addr, f *frame) state.Reason {
	now := p.nowMS()
	if s := p.Sources[a]; s != nil {
		if now-s.Seen > 500 {
			s.Seen = now
		}
		return 0
	}
	left := &p.Budget[0]
	if a.Is6() {
		left = &p.Budget[1]
	}
	if !isUnicast(a) || *left <= 0 {
		return state.Spoofed
	}
	*left--
	p.Sources[a] = &state.Source{Seen: now}
	p.count(state.Learnt)
	p.emitEvent(f, &segment{}, state.Out, state.Learnt)
	return 0
}

// checkARP looks at the address an ARP packet claims for its sender (RFC 826);
// 0 is a probe (RFC 5227).
func (p *Path) checkARP(f *frame) state.Reason {
	if !f.has(f.l3, 18) {
		return state.Malformed
	}
	if b := f.b[f.l3:]; f.u32(f.l3) != 0x0001_0800 || b[4] != 6 || b[5] != 4 {
		return state.NotIP
	}
	f.src = netip.AddrFrom4([4]byte(f.b[f.l3+14:]))
	if f.src.IsUnspecified() {
		return 0
	}
	return p.checkSource(f.src, f)
}

func (p *Path) checkHost(f *frame) state.Reason {
	// A host without an address asks for one by DHCP.
	if f.src == netip.IPv4Unspecified() && f.proto == protoUDP && f.piece == whole && f.sport == 68 && f.dport == 67 {
		return 0
	}
	// Router and neighbour solicitation, and multicast listener reports (RFC
	// 4861, RFC 4862, RFC 3810), may come from no address.
	if f.src == netip.IPv6Unspecified() && f.proto == protoICMP6 && f.piece == whole {
		switch f.typ {
		case 131, 132, 133, 135, 143:
			return 0
		}
	}
	if why := p.checkSource(f.src, f); why > state.PassedIn {
		return why
	}
	if f.proto == protoICMP6 && f.typ == 136 {
		// An advertisement may claim the host's own addresses only.
		if f.piece != whole || f.len < 24 {
			return state.Malformed
		}
		return p.checkSource(netip.AddrFrom16([16]byte(f.b[f.l4+8:])).Unmap(), f)
	}
	return 0
}
