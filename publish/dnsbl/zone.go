// Package dnsbl answers DNS queries about what is published, as DNS lists do (RFC
// 5782), hands the zone to secondaries, and writes it for rbldnsd.
package dnsbl

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"dragnet/flow"
	"dragnet/publish"
)

// listed is the answer for every host on the list (RFC 5782, section 2.1).
const listed = "127.0.0.2"

// Test entries: 127.0.0.2 and ::ffff:7f00:2 must be listed, 127.0.0.1 and
// ::ffff:7f00:1 must not (RFC 5782, section 5).
var (
	test4 = netip.MustParseAddr("127.0.0.2")
	test6 = netip.MustParseAddr("::ffff:127.0.0.2")
)

const testReason = "test entry of the list (RFC 5782, section 5)"

// zone is what is answered from: one view and how it is shown.
type zone struct {
	name      string // with the dot at the end
	view      *publish.View
	least     int
	ttl       uint32
	objection string
	soa       dns.RR
	ns        []dns.RR
}

// newZone makes the zone of a view; the serial number is the view's time.
func newZone(c *Configuration, v *publish.View) *zone {
	z := &zone{name: dns.CanonicalName(c.Zone), view: v, least: c.MinConfidence, ttl: uint32(c.TTL.Seconds()), objection: c.Objections}
	first := dns.CanonicalName(c.Nameservers[0])
	header := func(t uint16, ttl uint32) dns.RR_Header {
		return dns.RR_Header{Name: z.name, Rrtype: t, Class: dns.ClassINET, Ttl: ttl}
	}
	z.soa = &dns.SOA{Hdr: header(dns.TypeSOA, z.ttl), Ns: first, Mbox: dns.CanonicalName(c.Hostmaster),
		Serial: uint32(v.Time.Time().Unix()), Refresh: z.ttl, Retry: max(z.ttl/4, 1), Expire: 7 * 24 * 3600, Minttl: z.ttl}
	for _, name := range c.Nameservers {
		z.ns = append(z.ns, &dns.NS{Hdr: header(dns.TypeNS, 24*3600), Ns: dns.CanonicalName(name)})
	}
	return z
}

// find returns why a host is listed, and until when.
func (z *zone) find(host netip.Addr, now flow.Time) (reason string, until flow.Time, ok bool) {
	switch {
	case !host.IsValid():
		return "", 0, false
	case host == test4 || host == test6:
		return testReason, flow.MaxTime, true
	}
	rows := z.view.At(host, now)
	if len(rows) == 0 {
		return "", 0, false
	}
	best := publish.Best(rows)
	if best.Confidence < z.least {
		return "", 0, false
	}
	return string(z.appendText(nil, best)), publish.Until(rows), true
}

// appendText appends at most one string of a TXT record.
func (z *zone) appendText(b []byte, r *publish.Row) []byte {
	from := len(b)
	b = r.AppendReason(b)
	if z.objection != "" {
		b = append(append(b, "; objections: "...), z.objection...)
	}
	return b[:min(len(b), from+255)]
}

// name is what the part of a name before the zone can stand for. "1.0.0.2" is
// 2.0.0.1, and also where all of 2001::/16 begins.
type name struct {
	host  netip.Addr     // valid if it is a whole address
	parts []netip.Prefix // whose addresses have names below it
}

func parseName(labels string) (found name, ok bool) {
	n := strings.Count(labels, ".") + 1
	if labels == "" || n > 32 {
		return found, false
	}
	if n <= 4 {
		if host, part, ok := parse4(labels, n); ok {
			found.add(host, part)
		}
	}
	if host, part, ok := parse6(labels, n); ok {
		found.add(host, part)
	}
	return found, found.host.IsValid() || found.parts != nil
}

func (n *name) add(host netip.Addr, part netip.Prefix) {
	if part.IsValid() {
		n.parts = append(n.parts, part)
	} else {
		n.host = host
	}
}

func parse4(labels string, n int) (host netip.Addr, part netip.Prefix, ok bool) {
	var a [4]byte
	i := n
	for label := range strings.SplitSeq(labels, ".") {
		i--
		v, err := strconv.ParseUint(label, 10, 8)
		if err != nil || len(label) > 1 && label[0] == '0' {
			return host, part, false
		}
		a[i] = byte(v)
	}
	if n == 4 {
		return netip.AddrFrom4(a), part, true
	}
	return host, netip.PrefixFrom(netip.AddrFrom4(a), 8*n), true
}

func parse6(labels string, n int) (host netip.Addr, part netip.Prefix, ok bool) {
	var digits [32]byte
	for i := range digits {
		digits[i] = '0'
	}
	i := n
	for label := range strings.SplitSeq(labels, ".") {
		i--
		if len(label) != 1 {
			return host, part, false
		}
		digits[i] = label[0]
	}
	var a [16]byte
	if _, err := hex.Decode(a[:], digits[:]); err != nil {
		return host, part, false
	}
	if n == 32 {
		return netip.AddrFrom16(a), part, true
	}
	return host, netip.PrefixFrom(netip.AddrFrom16(a), 4*n), true
}

// hasBelow reports whether any listed host lies in a prefix.
func (z *zone) hasBelow(p netip.Prefix, now flow.Time) bool {
	if p.Contains(test4) || p.Contains(test6) {
		return true
	}
	found := false
	z.view.EachFrom(p.Addr(), func(r *publish.Row) bool {
		if !p.Contains(r.Host) {
			return false
		}
		found = r.Until > now && r.Confidence >= z.least
		return !found
	})
	return found
}

// nameOf is the name under which a host is listed.
func (z *zone) nameOf(host netip.Addr) string {
	b := make([]byte, 0, 64+len(z.name)+1)
	if host.Is4() {
		a := host.As4()
		for i := 3; i >= 0; i-- {
			b = append(strconv.AppendUint(b, uint64(a[i]), 10), '.')
		}
		return string(append(b, z.name...))
	}
	a := host.As16()
	for i := 15; i >= 0; i-- {
		const digits = "0123456789abcdef"
		b = append(b, digits[a[i]&15], '.', digits[a[i]>>4], '.')
	}
	return string(append(b, z.name...))
}

// records are the A and the TXT record of a host.
func (z *zone) records(host netip.Addr, reason string, ttl uint32) (*dns.A, *dns.TXT) {
	name := z.nameOf(host)
	return &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: ttl}, A: []byte{127, 0, 0, 2}},
		&dns.TXT{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: ttl}, Txt: []string{reason}}
}

// each visits the wanted hosts of the zone with their reasons, which are
// overwritten by the next, the test entries first.
func (z *zone) each(now flow.Time, wanted func(netip.Addr) bool, do func(host netip.Addr, reason []byte) error) (err error) {
	for _, host := range []netip.Addr{test4, test6} {
		if err == nil && wanted(host) {
			err = do(host, []byte(testReason))
		}
	}
	var text []byte
	z.view.EachHost(now, func(rows []publish.Row) bool {
		if best := publish.Best(rows); err == nil && best.Confidence >= z.least && wanted(best.Host) {
			text = z.appendText(text[:0], best)
			err = do(best.Host, text)
		}
		return err == nil
	})
	return err
}

// Files writes dnsbl/ip4.rbldnsd (a data set ip4set) and dnsbl/ip6.rbldnsd
// (ip6trie) for rbldnsd.
func Files(c Configuration) publish.Files {
	return func(v *publish.View, to publish.Out) error {
		z := newZone(&c, v)
		for _, family := range []struct {
			path   string
			suffix string
			holds  func(netip.Addr) bool
		}{{"dnsbl/ip4.rbldnsd", "", netip.Addr.Is4}, {"dnsbl/ip6.rbldnsd", "/128", netip.Addr.Is6}} {
			out, err := to.Create(family.path)
			if err != nil {
				return err
			}
			soa := z.soa.(*dns.SOA)
			fmt.Fprintf(out, "$SOA %d %s %s %d %d %d %d %d\n", z.ttl, soa.Ns, soa.Mbox, soa.Serial, soa.Refresh, soa.Retry, soa.Expire, soa.Minttl)
			fmt.Fprintf(out, "$NS %d", 24*3600)
			for _, ns := range z.ns {
				fmt.Fprintf(out, " %s", ns.(*dns.NS).Ns)
			}
			fmt.Fprintf(out, "\n$TTL %d\n", z.ttl)
			var b []byte
			err = z.each(v.Time, family.holds, func(host netip.Addr, reason []byte) error {
				b = append(host.AppendTo(b[:0]), family.suffix...)
				b = append(b, " :"+listed+":"...)
				if bytes.IndexByte(reason, '$') >= 0 { // it would stand for the address
					reason = bytes.ReplaceAll(reason, []byte("$"), []byte("$$"))
				}
				_, err := out.Write(append(append(b, reason...), '\n'))
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	}
}
