package path

import (
	"net/netip"

	"dragnet/contain/ripcord/tables"
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
func (p *Path) checkSource(a netip.Addr, f *frame) tables.Reason {
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
	if !isUnicast(a) || *left <= 0 || a.Is6() && !p.mayLearnIPv6(a, now) {
		return tables.Spoofed
	}
	*left--
	p.Sources[a] = &tables.Source{Seen: now}
	p.count(tables.Learnt)
	p.emitEvent(f, &segment{}, tables.Out, tables.Learnt)
	return 0
}

const neighbourMS = 600_000

// mayLearnIPv6 reports whether the host may take an IPv6 address for itself:
// no other node on the link has it, and it is link-local or in a prefix of the link.
func (p *Path) mayLearnIPv6(a netip.Addr, now uint32) bool {
	if claimed, ok := p.Neighbours[a]; ok && now-claimed < neighbourMS {
		return false
	}
	if a.IsLinkLocalUnicast() {
		return true
	}
	prefix, _ := a.Prefix(64)
	if _, ok := p.Prefixes[prefix]; ok {
		return true
	}
	if p.Budget[2] <= 0 {
		return false
	}
	p.Budget[2]--
	p.Prefixes[prefix] = now
	return true
}

// noteNeighbour records what routers and neighbours say (RFC 4861).
func (p *Path) noteNeighbour(f *frame) {
	if f.b[f.l3+7] != 255 {
		return // from beyond the link
	}
	now := p.nowMS()
	if !f.src.IsUnspecified() {
		p.Neighbours[f.src] = now
	}
	if f.typ == 136 && f.len >= 24 {
		if target := netip.AddrFrom16([16]byte(f.b[f.l4+8:])); !target.Is4In6() {
			p.Neighbours[target] = now
		}
	}
	if f.typ != 134 || f.len < 16 {
		return
	}
	for at, i := uint32(16), 0; i < 8 && at+8 <= f.len; i++ {
		option := f.b[f.l4+int(at):]
		if option[1] == 0 {
			return
		}
		if option[0] == 3 && option[1] == 4 && option[2] == 64 && at+32 <= f.len {
			prefix, _ := netip.AddrFrom16([16]byte(option[16:])).Prefix(64)
			if _, known := p.Prefixes[prefix]; known || len(p.Prefixes) < 16 {
				p.Prefixes[prefix] = now
			}
		}
		at += uint32(option[1]) * 8
	}
}

// checkARP looks at the address an ARP packet claims for its sender (RFC 826);
// 0 is a probe (RFC 5227).
func (p *Path) checkARP(f *frame) tables.Reason {
	if !f.has(f.l3, 18) {
		return tables.Malformed
	}
	if b := f.b[f.l3:]; f.u32(f.l3) != 0x0001_0800 || b[4] != 6 || b[5] != 4 {
		return tables.NotIP
	}
	f.src = netip.AddrFrom4([4]byte(f.b[f.l3+14:]))
	if f.src.IsUnspecified() {
		return 0
	}
	return p.checkSource(f.src, f)
}

func (p *Path) checkHost(f *frame) tables.Reason {
	// A host without an address asks for one by DHCP.
	if f.src == netip.IPv4Unspecified() && f.proto == protoUDP && f.piece == whole && f.sport == 68 && f.dport == 67 &&
		f.dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return 0
	}
	// Router and neighbour solicitation, and multicast listener reports (RFC
	// 4861, RFC 4862, RFC 3810), may come from no address.
	if f.src == netip.IPv6Unspecified() && f.proto == protoICMP6 && f.piece == whole && f.dst.IsMulticast() {
		switch f.typ {
		case 131, 132, 133, 135, 143:
			return 0
		}
	}
	if why := p.checkSource(f.src, f); why > tables.PassedIn {
		return why
	}
	if f.proto == protoICMP6 && f.typ == 136 {
		// An advertisement may claim the host's own addresses only.
		if f.piece != whole || f.len < 24 {
			return tables.Malformed
		}
		if p.Sources[netip.AddrFrom16([16]byte(f.b[f.l4+8:])).Unmap()] == nil {
			return tables.Spoofed
		}
	}
	return 0
}
