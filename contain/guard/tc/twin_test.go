//go:build linux

package tc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/cilium/ebpf"

	"dragnet/daw"
	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"
)

var monday = flow.FromTime(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))

// What the programs return (enum tcx_action_base).
const (
	next = ^uint32(0)
	drop = 2
)

var customer = daw.Scope{
	Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")},
	Exempt:  []netip.Prefix{netip.MustParsePrefix("10.9.9.0/24")},
	Ports:   []uint16{80, 443},
}

// pair is the programs in the kernel beside daw.Edge.
type pair struct {
	t       testing.TB
	kernel  *Programs
	twin    *daw.Edge
	p       daw.Parameters
	s       daw.Scope
	now     flow.Time
	judged  int
	dropped map[daw.RequestVerdict]int
}

func newPair(t testing.TB, p daw.Parameters, s daw.Scope, now flow.Time) *pair {
	t.Helper()
	testkit.Root(t)
	twin, err := daw.New(p, s, now)
	if err != nil {
		t.Fatal(err)
	}
	k, resumed, err := Load(Options{testClock: true}, twin)
	if err != nil {
		var verifier *ebpf.VerifierError
		if errors.As(err, &verifier) {
			t.Fatalf("%+v", verifier)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { k.Close() })
	if resumed {
		t.Fatal("resumed from nothing")
	}
	x := &pair{t: t, kernel: k, twin: twin, p: p, s: s, dropped: map[daw.RequestVerdict]int{}}
	x.check(k.SetScope(s, nil))
	x.check(k.SetBehaviour(Behaviour{Acting: true}))
	x.clock(now)
	return x
}

func (x *pair) check(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

func (x *pair) clock(now flow.Time) {
	x.now = now
	x.check(x.kernel.objects.ClockNs.Set(int64(now)))
}

func (x *pair) run(program *ebpf.Program, frame []byte) uint32 {
	x.t.Helper()
	if len(frame) < 64 {
		frame = append(bytes.Clone(frame), make([]byte, 64-len(frame))...)
	}
	ret, err := program.Run(&ebpf.RunOptions{Data: frame})
	x.check(err)
	return ret
}

// judge sends a frame through both, in the direction given, and compares.
func (x *pair) judge(inside bool, frame []byte) {
	x.t.Helper()
	var p packet.Packet
	decoded := p.Decode(packet.LinkEthernet, frame, len(frame)) == nil && p.Decoded && !p.IsMapped()
	x.judged++
	if !inside {
		if got := x.run(x.kernel.objects.ToInside, frame); got != next {
			x.t.Fatalf("packet %d: a reply is not passed on: %d", x.judged, got)
		}
		if decoded {
			x.reply(&p)
		}
		return
	}
	got, want := x.run(x.kernel.objects.FromInside, frame), next
	if decoded && p.Proto == flow.TCP && p.Flags&(flow.SYN|flow.ACK|flow.RST) == flow.SYN {
		c := daw.Conn{Src: p.NetworkSrc(), Dst: p.Dst, SrcPort: p.SrcPort, DstPort: p.DstPort, Seq: p.Seq, Link: binary.BigEndian.Uint64(append([]byte{0, 0}, frame[6:12]...))}
		v := x.twin.Request(x.now, &c)
		x.dropped[v]++
		if !v.Passes() {
			want = drop
		}
	} else if p.HidesTCPFlags() && !p.IsMapped() && flow.Within(x.s.Sources, p.NetworkSrc()) && !flow.Within(x.s.Exempt, p.NetworkSrc()) {
		want = drop
	}
	if got != want {
		x.t.Fatalf("packet %d: the kernel says %d, daw %d: %+v", x.judged, int32(got), int32(want), p)
	}
}

// reply counts a reply in the twin, as contain/guard does.
func (x *pair) reply(p *packet.Packet) {
	c := daw.Conn{Src: p.Dst, Dst: p.Src, SrcPort: p.DstPort, DstPort: p.SrcPort, Seq: p.Ack - 1}
	flags := p.Flags & (flow.SYN | flow.ACK | flow.RST)
	switch {
	case p.Proto == flow.TCP && flags == flow.SYN|flow.ACK:
		x.twin.Success(x.now, &c)
	case p.Proto == flow.TCP && flags == flow.RST|flow.ACK:
		x.twin.Failure(x.now, daw.Reset, &c)
	case p.Proto == flow.ICMP && p.ICMPType == 3 && p.ICMPCode != 4, p.Proto == flow.ICMPv6 && p.ICMPType == 1:
		if q, ok := p.Quoted(); ok && q.Proto == flow.TCP && q.Src == p.Dst {
			x.twin.Failure(x.now, daw.Unreachable, &daw.Conn{Src: q.Src, Dst: q.Dst, SrcPort: q.SrcPort, DstPort: q.DstPort, Seq: q.Seq})
		}
	}
}

// compare compares the whole state.
func (x *pair) compare() {
	x.t.Helper()
	tables, err := x.kernel.ReadTables()
	x.check(err)
	mirror, err := daw.New(x.p, x.s, x.now)
	x.check(err)
	x.check(mirror.Import(tables))
	if k, w := mirror.Snapshot(), x.twin.Snapshot(); !bytes.Equal(k, w) {
		at := 0
		for at < min(len(k), len(w)) && k[at] == w[at] {
			at++
		}
		x.t.Fatalf("after packet %d: the state differs from octet %d on (of %d and %d):\nkernel %+v\ndaw    %+v", x.judged, at, len(k), len(w), mirror.Report(x.now), x.twin.Report(x.now))
	}
}

// segment is a TCP segment in a frame.
func segment(src, dst netip.AddrPort, flags uint8, seq, ack uint32) []byte {
	tcp := make([]byte, 20)
	binary.BigEndian.PutUint16(tcp, src.Port())
	binary.BigEndian.PutUint16(tcp[2:], dst.Port())
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12], tcp[13] = 5<<4, flags
	return frameOf(src.Addr(), dst.Addr(), 6, tcp)
}

func frameOf(src, dst netip.Addr, proto byte, body []byte) []byte {
	frame := []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0}
	if src.Is4() {
		ip := make([]byte, 20)
		ip[0], ip[8], ip[9] = 0x45, 64, proto
		binary.BigEndian.PutUint16(ip[2:], uint16(20+len(body)))
		copy(ip[12:], src.AsSlice())
		copy(ip[16:], dst.AsSlice())
		return append(append(frame, ip...), body...)
	}
	frame[12], frame[13] = 0x86, 0xdd
	ip := make([]byte, 40)
	ip[0], ip[6], ip[7] = 0x60, proto, 64
	binary.BigEndian.PutUint16(ip[4:], uint16(len(body)))
	copy(ip[8:], src.AsSlice())
	copy(ip[24:], dst.AsSlice())
	return append(append(frame, ip...), body...)
}

// unreachable is an ICMP error about a request.
func unreachable(from netip.Addr, request []byte) []byte {
	quoted := request[14:]
	if from.Is4() {
		return frameOf(from, netip.AddrFrom4([4]byte(quoted[12:16])), 1, append([]byte{3, 1, 0, 0, 0, 0, 0, 0}, quoted[:28]...))
	}
	return frameOf(from, netip.AddrFrom16([16]byte(quoted[8:24])), 58, append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, quoted...))
}

const (
	fSYN = 2
	fRST = 4
	fACK = 16
)

// traffic draws packets of a network in which some hosts scan.
type traffic struct {
	r       *rand.Rand
	pending []request
	n       uint32
}

type request struct {
	src, dst netip.AddrPort
	seq      uint32
}

func (w *traffic) address() netip.Addr {
	host := w.r.IntN(40)
	if w.r.IntN(4) == 0 {
		host = w.r.IntN(5000)
	}
	switch w.r.IntN(8) {
	case 0, 1, 2:
		b := netip.MustParseAddr("2001:db8::").As16()
		b[5], b[6], b[7] = byte(host%2), byte(host%3), byte(host%5)
		binary.BigEndian.PutUint32(b[12:], w.r.Uint32N(30))
		return netip.AddrFrom16(b)
	case 3:
		return netip.AddrFrom4([4]byte{10, 9, 9, byte(host)}) // exempt
	}
	return netip.AddrFrom4([4]byte{10, byte(host >> 16), byte(host >> 8), byte(host)})
}

func (w *traffic) target(v6 bool) netip.AddrPort {
	w.n++
	n := w.n
	if w.r.IntN(3) == 0 {
		n = w.r.Uint32N(50) // known ones
	}
	port := []uint16{80, 443, 80, 22}[w.r.IntN(4)]
	if v6 {
		b := netip.MustParseAddr("2001:500::").As16()
		binary.BigEndian.PutUint32(b[4:], n)
		return netip.AddrPortFrom(netip.AddrFrom16(b), port)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(20 + n>>22), byte(n >> 14), byte(n >> 6), byte(n << 2)}), port)
}

// next is a packet, and whether it comes from inside.
func (w *traffic) next() (inside bool, frame []byte) {
	if len(w.pending) > 0 && w.r.IntN(5) < 2 {
		i := w.r.IntN(len(w.pending))
		q := w.pending[i]
		w.pending[i] = w.pending[len(w.pending)-1]
		w.pending = w.pending[:len(w.pending)-1]
		ack := q.seq + 1
		if w.r.IntN(10) == 0 {
			ack++ // forged
		}
		switch w.r.IntN(6) {
		case 0, 1, 2:
			return false, segment(q.dst, q.src, fRST|fACK, 0, ack)
		case 3:
			return false, unreachable(q.dst.Addr(), segment(q.src, q.dst, fSYN, ack-1, 0))
		}
		return false, segment(q.dst, q.src, fSYN|fACK, w.r.Uint32(), ack)
	}
	src := w.address()
	q := request{netip.AddrPortFrom(src, uint16(w.r.Uint32N(4)+1024)), w.target(src.Is6()), w.r.Uint32N(1 << 20)}
	w.pending = append(w.pending, q)
	if len(w.pending) > 400 {
		w.pending = w.pending[100:] // silent
	}
	if w.r.IntN(20) == 0 {
		return w.r.IntN(2) == 0, segment(q.src, q.dst, byte(w.r.Uint32()), q.seq, w.r.Uint32())
	}
	return true, segment(q.src, q.dst, fSYN, q.seq, 0)
}

// TestKernelDoesAsDAW sends the same random packets through both, over days and steps
// of the clock, with tables that fill up: the verdict on each packet is the same, and
// so is all of the state.
func TestKernelDoesAsDAW(t *testing.T) {
	for name, change := range map[string]func(*daw.Parameters){
		"as published": func(*daw.Parameters) {},
		"spatial":      func(p *daw.Parameters) { p.Phi, p.Tau, p.Omega = 60, 3, 100; p.Bucket = 10 },
		"budgets":      func(p *daw.Parameters) { p.Weekly, p.Monthly, p.Omega, p.Bucket, p.Phi = 40, 90, 20, 5, 0 },
		"no memory":    func(p *daw.Parameters) { p.Requests, p.Silence = 0, 0 },
		"full tables": func(p *daw.Parameters) {
			p.Records, p.Entries, p.Omega, p.Bucket, p.Lambda = 16, 8, 6, 3, 0.2
			p.Requests, p.Waiting = 40, 20
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := daw.DefaultParameters()
			p.Entries, p.Records, p.Requests, p.Recent, p.Answered, p.Waiting = 16, 4096, 1<<13, 100, 50, 500
			p.Lambda, p.Omega, p.Bucket, p.Grace, p.Seed = 0.3, 30, 8, 5, 12345
			change(&p)
			x := newPair(t, p, customer, monday+flow.Time(20*time.Hour))
			w := &traffic{r: rand.New(rand.NewPCG(1, 2))}
			n := 120_000
			if testkit.Short(t) {
				n = 12_000
			}
			now := x.now
			for i := range n {
				now += flow.Time(w.r.Int64N(int64(300 * time.Millisecond)))
				switch w.r.IntN(4000) {
				case 0:
					now -= flow.Time(w.r.Int64N(int64(2 * time.Hour))) // the clock is set back
				case 1:
					now += flow.Time(w.r.Int64N(int64(30 * time.Hour)))
				case 2:
					now += flow.Time(w.r.Int64N(int64(time.Minute)))
				}
				if w.r.IntN(3) == 0 {
					x.clock(now - flow.Time(w.r.Int64N(int64(time.Second)/2))) // out of order
				} else {
					x.clock(now)
				}
				x.judge(w.next())
				if i%2000 == 1999 {
					x.compare()
				}
			}
			x.compare()
			t.Logf("%d packets, verdicts %v, %+v", x.judged, x.dropped, x.twin.Report(x.now).Counts)
			for _, v := range []daw.RequestVerdict{daw.Temporal, daw.Network48, daw.Spatial} {
				if want := name != "no memory" && (v == daw.Spatial) == (name == "spatial"); want && x.dropped[v] == 0 {
					t.Errorf("no request was dropped by the limit %v", v)
				}
			}
			if r := x.twin.Report(x.now); name == "as published" && (r.Successes == 0 || r.Silences == 0 || r.Outcomes[daw.Forged] == 0 || r.Outcomes[daw.Recent] == 0) {
				t.Errorf("some outcome is missing: %+v", r.Counts)
			}
		})
	}
}

// TestRecordedPacketsThroughBoth sends recorded traffic through both, at the times
// recorded; inside is who opens connections. Then the same in a network where most
// servers have died.
func TestRecordedPacketsThroughBoth(t *testing.T) {
	var files []string
	for _, dir := range []string{"zeek-traces", "ndpi", "suricata-verify", "benign"} {
		files = append(files, captures(t, testkit.Data(t, dir))...)
	}
	p := daw.DefaultParameters()
	p.Entries, p.Records, p.Requests, p.Recent, p.Seed = 1, 1<<12, 1<<14, 5, 99
	p.Lambda, p.Omega, p.Bucket, p.Phi, p.Tau = 0.01, 2, 1, 200, 5
	s := daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	for port := range 1 << 16 {
		s.Ports = append(s.Ports, uint16(port))
	}
	x := newPair(t, p, s, monday)
	r := rand.New(rand.NewPCG(3, 4))
	for dead := range 6 {
		for i, name := range files {
			x.replay(name, func() bool { return dead > 0 && r.IntN(4) > 0 })
			if i%20 == 0 {
				x.compare()
			}
		}
		x.compare()
	}
	t.Logf("%d captures, %d packets, verdicts %v, %+v", len(files), x.judged, x.dropped, x.twin.Report(x.now).Counts)
	if x.dropped[daw.Temporal] == 0 || x.dropped[daw.Forward] < 100 {
		t.Error("the captures say nothing")
	}
}

// replay sends the packets of a file, without the replies that are lost.
func (x *pair) replay(name string, lost func() bool) {
	f, err := os.Open(name)
	x.check(err)
	defer f.Close()
	r, err := capture.NewReader(f)
	if err != nil {
		return // not a capture of ours to judge
	}
	last, opens := flow.Time(0), map[netip.Addr]bool{}
	for range 50_000 {
		rec, err := r.Next()
		var skip *capture.SkipError
		if errors.As(err, &skip) {
			continue
		}
		if err != nil {
			return
		}
		if rec.Link != packet.LinkEthernet || len(rec.Data) > 3000 || len(rec.Data) != rec.Wire || !runnable(rec.Data) {
			continue
		}
		var p packet.Packet
		if p.Decode(rec.Link, rec.Data, rec.Wire) == nil && p.Decoded && p.Flags&(flow.SYN|flow.ACK) == flow.SYN {
			opens[p.Src] = true
		}
		gap := rec.Time - last // some captures join years
		if last == 0 || gap > 3*flow.Time(24*time.Hour) {
			gap = flow.Time(time.Minute)
		}
		last = rec.Time
		inside := opens[p.Src]
		if !inside && lost() {
			x.now += gap
			continue
		}
		x.clock(x.now + gap)
		x.judge(inside, rec.Data)
	}
}

// runnable reports whether the kernel's test run takes a frame: it wants an IP
// header to be whole.
func runnable(frame []byte) bool {
	if len(frame) <= 14 {
		return false
	}
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800:
		return len(frame) >= 34
	case 0x86dd:
		return len(frame) >= 54
	}
	return false
}
