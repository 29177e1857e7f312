package steppingstone

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/packet"
	"dragnet/packet/capture"
)

// segment is one TCP packet for a capture, raw IP.
type segment struct {
	at       flow.Time
	from, to netip.AddrPort
	seq      uint32
	size     int
	flags    flow.TCPFlags
}

func (s segment) frame() []byte {
	b := make([]byte, 40)
	b[0], b[8], b[9] = 0x45, 64, 6
	binary.BigEndian.PutUint16(b[2:], uint16(40+s.size))
	copy(b[12:], s.from.Addr().AsSlice())
	copy(b[16:], s.to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[20:], s.from.Port())
	binary.BigEndian.PutUint16(b[22:], s.to.Port())
	binary.BigEndian.PutUint32(b[24:], s.seq)
	b[32], b[33] = 5<<4, byte(s.flags)
	return b // the payload is cut off, as tcpdump -s does
}

func captureOf(t testing.TB, all []segment) *capture.Reader {
	t.Helper()
	slices.SortStableFunc(all, func(a, b segment) int { return int(min(max(a.at-b.at, -1), 1)) })
	var out bytes.Buffer
	w, err := capture.NewWriter(&out, packet.LinkRaw)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if err := w.Write(&capture.Record{Time: s.at, Link: packet.LinkRaw, Data: s.frame(), Wire: 40 + s.size}); err != nil {
			t.Fatal(err)
		}
	}
	r, err := capture.NewReader(&out)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// segmentsOf are the packets of a recorded connection, with given ends.
func segmentsOf(c *Connection, inside, outside netip.AddrPort) (all []segment) {
	opener, other := inside, outside
	if c.Inbound {
		opener, other = outside, inside
	}
	all = append(all, segment{at: c.First, from: opener, to: other, flags: flow.SYN})
	for i, events := range [][]Event{c.Arriving, c.Leaving} {
		seq, from, to := uint32(1<<32-5000), outside, inside // it wraps
		if i == 1 {
			from, to = to, from
		}
		for _, e := range events {
			for left := e.Size; left > 0; left -= 1400 {
				s := segment{e.Time, from, to, seq, min(left, 1400), flow.ACK | flow.PSH}
				all = append(all, s)
				if seq%7 == 0 { // sent again
					s.at += flow.Time(300 * time.Millisecond)
					all = append(all, s)
				}
				seq += uint32(s.size)
			}
		}
	}
	return all
}

// TestCapturesOfChains writes recorded chains as packets, with retransmissions, and
// looks for them in the capture: each host's two connections, and no others.
func TestCapturesOfChains(t *testing.T) {
	recorded := loadChains(t, "testdata/judge.jsonl.gz")[:8]
	var all []segment
	stone := netip.MustParseAddr("192.0.2.1")
	want := map[string]bool{}
	for i, x := range recorded {
		before := netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}), uint16(40000+i))
		after := netip.AddrPortFrom(netip.AddrFrom4([4]byte{203, 0, 113, byte(i)}), 22)
		in, out := netip.AddrPortFrom(stone, 22), netip.AddrPortFrom(stone, uint16(50000+i))
		x.after.First -= flow.Time(login)
		all = append(all, segmentsOf(x.before, in, before)...)
		all = append(all, segmentsOf(x.after, out, after)...)
		want[before.String()+" "+after.String()] = true
	}
	all = append(all, segment{at: 1, from: netip.AddrPortFrom(stone, 1), to: netip.MustParseAddrPort("192.0.2.2:2"), flags: flow.SYN})
	c := DefaultConfiguration()
	c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	table := NewTable(c)
	if err := table.Read(captureOf(t, all)); err != nil {
		t.Fatal(err)
	}
	if table.Other != 1 || len(table.Connections()) != 16 {
		t.Errorf("%d packets are not at the edge, %d connections", table.Other, len(table.Connections()))
	}
	for _, k := range table.Connections() {
		if k.Inbound != (k.Inside.Port() == 22) {
			t.Errorf("%v: inbound %v", k, k.Inbound)
		}
	}
	pairs, err := Detect(t.Context(), c, table.Connections())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		key := p.Before.Outside.String() + " " + p.After.Outside.String()
		if !want[key] {
			t.Errorf("found %s", p.Summary())
		}
		delete(want, key)
	}
	if len(want) > 0 {
		t.Errorf("not found: %v", want)
	}
	for _, f := range Findings("edge", pairs) {
		if f.ID == "" || f.Host.Addr.As4()[0] != 198 || len(f.Evidence.Flows) != 2 {
			t.Errorf("%+v", f)
		}
	}
}

// TestTableIsBounded has more connections than are kept, and more data in one than
// is compared.
func TestTableIsBounded(t *testing.T) {
	c := DefaultConfiguration()
	c.Networks, c.MaxConnections = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, 64
	table := NewTable(c)
	inside := netip.MustParseAddrPort("192.0.2.1:22")
	var all []segment
	for i := range 1000 {
		from := netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), uint16(1024+i))
		all = append(all, segment{at: flow.Time(i), from: from, to: inside, seq: 1, size: 1, flags: flow.SYN})
	}
	large := netip.MustParseAddrPort("198.51.100.9:9999")
	for i := range maxEvents + 100 {
		all = append(all, segment{at: flow.Time(i * 2e6), from: large, to: inside, seq: uint32(i), size: 1, flags: flow.ACK})
	}
	if err := table.Read(captureOf(t, all)); err != nil {
		t.Fatal(err)
	}
	if len(table.open) > 64 || table.Forgotten < 900 || table.Cut != 1 {
		t.Errorf("%d connections kept, %d forgotten, %d cut", len(table.open), table.Forgotten, table.Cut)
	}
	if k := table.open[[2]netip.AddrPort{inside, large}]; k == nil || len(k.Arriving) != maxEvents {
		t.Errorf("the one with most data: %v", k)
	}
}

func FuzzRead(f *testing.F) {
	inside, outside := netip.MustParseAddrPort("192.0.2.1:22"), netip.MustParseAddrPort("198.51.100.1:40000")
	for _, flags := range []flow.TCPFlags{flow.SYN, flow.ACK} {
		f.Add(segment{1, outside, inside, 1<<32 - 1, 5, flags}.frame(), int64(5), 60)
	}
	c := DefaultConfiguration()
	c.Networks, c.MaxConnections = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, 4
	f.Fuzz(func(t *testing.T, frame []byte, at int64, wire int) {
		table := NewTable(c)
		var p packet.Packet
		for i := range 3 {
			if p.Decode(packet.LinkRaw, frame, max(wire, len(frame))) == nil && p.Decoded {
				table.add(flow.Time(at)+flow.Time(i), &p)
			}
		}
		Detect(t.Context(), c, table.Connections())
	})
}
