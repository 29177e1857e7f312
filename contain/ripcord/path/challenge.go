package path

import (
	"encoding/binary"
	"net/netip"

	"dragnet/contain/ripcord/tables"
)

// noteHop records where a packet of the host goes, for what the gateway says in
// the host's name.
func (p *Path) noteHop(f *frame) {
	if f.b[0]&1 == 0 {
		p.Hops[f.dst] = tables.Hop{Next: [6]byte(f.b), Own: [6]byte(f.b[6:])}
	}
}

// challenge makes of a RST the gateway's own challenge: an acknowledgement, sent
// as the host sends, whose number a peer without this connection answers with a
// RST (RFC 9293, section 3.10.7.1). Its sequence number is old, as a
// keep-alive's, so that a peer that has the connection ignores the rest of it.
func (p *Path) challenge(f *frame, s *segment, c *conn) tables.Reason {
	hop, ok := p.Hops[f.src]
	head := 20
	if f.v6 {
		head = 40
	}
	if !ok || s.len != 0 || f.l4 != f.l3+head {
		return tables.InexactReset
	}
	sum := f.l4 + 16
	f.putWord(f.l4+4, c.OutUna-1, sum, false)
	f.putWord(f.l4+8, c.AckHi, sum, false)
	f.putWord(f.l4+12, uint32(f.b[f.l4+12])<<24|flagACK<<16|0xffff, sum, false)
	urgent := uint32(f.u16(f.l4 + 18))
	binary.BigEndian.PutUint16(f.b[f.l4+18:], 0)
	f.addToSum(sum, uint64(^urgent&0xffff))
	binary.BigEndian.PutUint16(f.b[f.l4:], f.dport)
	binary.BigEndian.PutUint16(f.b[f.l4+2:], f.sport)
	if f.v6 {
		f.b[f.l3+7] = 64
		f.swapAddresses(f.l3+8, 16)
	} else {
		was := uint32(f.u16(f.l3 + 8))
		f.b[f.l3+8] = 64
		f.addToSum(f.l3+10, uint64(^was&0xffff+uint32(f.u16(f.l3+8))))
		f.swapAddresses(f.l3+12, 4)
	}
	copy(f.b, hop.Next[:])
	copy(f.b[6:], hop.Own[:])
	c.Probe = c.AckHi
	c.Seen |= tables.Probed
	c.Until = s.now + challengeMS
	return tables.Challenge
}

// swapAddresses exchanges two addresses of n octets.
func (f *frame) swapAddresses(at, n int) {
	for i := range n {
		f.b[at+i], f.b[at+n+i] = f.b[at+n+i], f.b[at+i]
	}
}

// grantCookie masks the Fast Open cookie of a SYN|ACK of the host, so that the
// host does not know what its peer holds; 0 without a key.
func (p *Path) grantCookie(f *frame, o *options) uint64 {
	k := tables.Grant{Host: f.src, Peer: f.dst}
	known, ok := p.Cookies[k]
	if !ok {
		known.Mask = p.drawNonce(netip.AddrPortFrom(f.src, f.sport), netip.AddrPortFrom(f.dst, f.dport))
	}
	if known.Mask == 0 {
		return 0
	}
	known.Value = binary.BigEndian.Uint64(f.b[f.l4+20+o.cookie:]) ^ known.Mask
	p.Cookies[k] = known
	return known.Mask
}

// checkCookie looks whether the cookie in a SYN of the peer was granted to it,
// and returns what it was masked with.
func (p *Path) checkCookie(f *frame, s *segment, o *options) uint64 {
	known, ok := p.Cookies[tables.Grant{Host: f.dst, Peer: f.src}]
	s.cookie = ok && known.Value == binary.BigEndian.Uint64(f.b[f.l4+20+o.cookie:])
	return known.Mask
}

// maySendEarly reports whether the host's SYN may have data: its peer took part in a
// handshake before, and granted it the cookie that the SYN shows.
func (p *Path) maySendEarly(f *frame, o *options) bool {
	known, ok := p.PeerCookies[tables.Grant{Host: f.src, Peer: f.dst}]
	return ok && o.cookie > 0 && known == f.cookieAt(o)
}

// cookieAt is the Fast Open cookie in a segment's options.
func (f *frame) cookieAt(o *options) uint64 { return binary.BigEndian.Uint64(f.b[f.l4+20+o.cookie:]) }
