package ripcord_test

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/flow"
	"dragnet/internal/netlab"
)

// swallow drops what comes in to a node's eth0, before its kernel looks at it.
func swallow(n *netlab.Node) error {
	return attachIngress(n, "eth0", func(int) asm.Instructions { return asm.Instructions{asm.Mov.Imm(asm.R0, 2), asm.Return()} })
}

// streams are connections of the host to a server, and the frames of data that it may
// send in them again and again.
func (l *lab) streams(n int, payload []byte) (frames [][]byte) {
	l.t.Helper()
	at := netip.AddrPortFrom(victimIPs[0], 80)
	l.listen(l.victim, at, echo)
	view := l.tap(l.host, "eth0")
	want := map[uint16]bool{}
	for range n {
		c := l.mustDial(l.host, netip.AddrPort{}, at)
		want[uint16(c.LocalAddr().(*net.TCPAddr).Port)] = true
		l.check(ask(c, 1))
	}
	l.until("all connections have carried data", func() bool {
		frames = frames[:0]
		seen := map[uint16]bool{}
		for _, p := range view.packets() {
			if !want[p.SrcPort] || p.Flags&flow.SYN != 0 || p.PayloadLen != 1 || seen[p.SrcPort] {
				continue
			}
			seen[p.SrcPort] = true
			frames = append(frames, pathtest.Segment{Src: netip.AddrPortFrom(p.Src, p.SrcPort), Dst: at, Seq: p.Seq, Ack: p.Ack, Flags: pathtest.ACK,
				Options: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 1}, Payload: payload}.Frame())
		}
		return len(frames) == n
	})
	return frames
}

// BenchmarkPacketCost sends packets of the host through a bridge, a bridge that tracks
// connections, a bare redirect and the gateway in turn, and reports the processor time
// of the thread that sends, in which the kernel does all the rest of the way until
// what arrives is dropped. Offloads are off. There are 256 conversations, so that
// tables do not stay in the nearest cache.
func BenchmarkPacketCost(b *testing.B) {
	needs(b, "nft")
	payload := make([]byte, 1000)
	labs, frames := map[string]*lab{}, map[string]map[string][][]byte{"UDP": {}, "TCP": {}}
	for _, kind := range []string{"bridge", "conntrack", "redirect", "ripcord"} {
		l, _ := rateLab(b, kind)
		labs[kind] = l
		frames["TCP"][kind] = l.streams(256, payload)
		for n := range 256 {
			frames["UDP"][kind] = append(frames["UDP"][kind], pathtest.UDP(netip.AddrPortFrom(hostIPs[0], uint16(2000+n)), netip.AddrPortFrom(victimIPs[0], 666), payload))
		}
		l.check(swallow(l.victim))
	}
	for _, proto := range []string{"UDP", "TCP"} {
		b.Run(proto, func(b *testing.B) {
			costs := map[string][]float64{}
			for b.Loop() {
				for kind, l := range labs {
					const n = 100_000
					before := l.received()
					costs[kind] = append(costs[kind], l.costOf(frames[proto][kind], n))
					if got := l.received() - before; got < n*99/100 {
						b.Fatalf("%s: %d of %d packets arrived", kind, got, n)
					}
				}
			}
			report(b, costs, "cpu-ns/packet")
		})
	}
}

// received is how many packets have come in at the victim's interface.
func (l *lab) received() (n uint64) {
	l.t.Helper()
	l.check(l.victim.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err == nil {
			n = link.Attrs().Statistics.RxPackets
		}
		return err
	}))
	return n
}

// costOf sends n packets from the host and returns what one costs the processor, ns.
func (l *lab) costOf(frames [][]byte, n int) float64 {
	l.t.Helper()
	r := l.raw(l.host, l.victim)
	l.check(unix.SetsockoptInt(r.fd, unix.SOL_PACKET, unix.PACKET_QDISC_BYPASS, 1))
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadTime()
	for i := range n {
		r.send(frames[i%len(frames)])
	}
	return float64(threadTime()-before) / float64(n)
}

// threadTime is the processor time of this thread.
func threadTime() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		panic(err) // since Linux 2.6.12
	}
	return time.Duration(ts.Nano())
}
