package ripcord_test

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/internal/netlab"
)

// The addresses that players use; no kernel answers for them.
var (
	playedHost = netip.MustParseAddrPort("10.7.0.77:80")
	playedNet  = netip.MustParsePrefix("10.99.0.0/16")
)

// players play both ends of TCP connections, by a program at each end that answers a
// segment by what it says: SYN, SYN|ACK, ACK, FIN|ACK, FIN|ACK, ACK. They need a
// fraction of the processor that two kernels' sockets do, so that more connections
// reach the gateway than two cores can open otherwise.
type players struct {
	lab    *lab
	out    *raw
	opened int
	done   *ebpf.Map
}

func (l *lab) players() *players {
	l.t.Helper()
	done, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	l.check(err)
	l.t.Cleanup(func() { done.Close() })
	l.check(answerAll(l.host, true, done))
	l.check(answerAll(l.victim, false, done))
	p := &players{lab: l, out: l.raw(l.victim, l.host), done: done}
	// A bridge sees where the host is, and the gateway its address.
	r := l.raw(l.host, l.victim)
	r.send(pathtest.Segment{Src: playedHost, Dst: netip.AddrPortFrom(playedNet.Addr(), 9), Seq: 1, Flags: pathtest.SYN}.Frame())
	return p
}

// answerAll attaches the program of one end to a node's eth0. done counts, at the
// end that calls, connections of which every segment has crossed.
func answerAll(n *netlab.Node, called bool, done *ebpf.Map) error {
	return attachIngress(n, "eth0", func(index int) asm.Instructions { return answers(index, called, done) })
}

// Offsets in a frame of Ethernet, IPv4 and TCP without options, of frameLen octets.
const (
	etherAt, versionAt, protoAt, srcAt, dstAt = 12, 14, 23, 26, 30
	sportAt, dportAt, seqAt, ackAt, flagsAt   = 34, 36, 38, 42, 47
	frameLen                                  = 54
)

// answers is the program of one end. The frame is copied to the stack, turned around
// there, and written back; sums stay as they were, since nobody looks at TCP's, and
// IP's does not change.
func answers(index int, called bool, done *ebpf.Map) asm.Instructions {
	const base = -70 // so that every field is aligned
	at := func(offset int) int16 { return int16(base + offset) }
	peerAt, rules := srcAt, []struct{ flags, answer, adds int32 }{{0x12, 0x10, 1}, {0x11, 0x11, 1}}
	if called {
		peerAt, rules = dstAt, []struct{ flags, answer, adds int32 }{{0x02, 0x12, 1}, {0x10, 0x11, 0}, {0x11, 0x10, 1}}
	}
	host := playedHost.Addr().As4()
	p := asm.Instructions{
		asm.Mov.Reg(asm.R6, asm.R1),
		asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, base), asm.Mov.Imm(asm.R4, frameLen),
		asm.FnSkbLoadBytes.Call(), asm.JNE.Imm(asm.R0, 0, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, at(etherAt), asm.Half), asm.HostTo(asm.BE, asm.R1, asm.Half), asm.JNE.Imm(asm.R1, 0x0800, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, at(versionAt), asm.Byte), asm.JNE.Imm(asm.R1, 0x45, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, at(protoAt), asm.Byte), asm.JNE.Imm(asm.R1, 6, "pass"),
		asm.LoadMem(asm.R1, asm.RFP, at(peerAt), asm.Word), asm.HostTo(asm.BE, asm.R1, asm.Word),
		asm.JNE.Imm32(asm.R1, int32(binary.BigEndian.Uint32(host[:])), "pass"),
		asm.LoadMem(asm.R7, asm.RFP, at(flagsAt), asm.Byte), asm.And.Imm(asm.R7, 0x17),
		asm.LoadMem(asm.R8, asm.RFP, at(seqAt), asm.Word), asm.HostTo(asm.BE, asm.R8, asm.Word),
		asm.LoadMem(asm.R9, asm.RFP, at(ackAt), asm.Word),
	}
	for _, r := range rules {
		after := "not " + string(rune('a'+r.flags))
		p = append(p,
			asm.JNE.Imm(asm.R7, r.flags, after),
			asm.StoreImm(asm.RFP, at(flagsAt), int64(r.answer), asm.Byte),
			asm.Add.Imm32(asm.R8, r.adds), asm.Ja.Label("send"),
			asm.Mov.Imm(asm.R0, 0).WithSymbol(after),
		)
	}
	if !called {
		p = append(p,
			asm.JNE.Imm(asm.R7, 0x10, "drop"),
			asm.StoreImm(asm.RFP, -8, 0, asm.Word),
			asm.LoadMapPtr(asm.R1, done.FD()), asm.Mov.Reg(asm.R2, asm.RFP), asm.Add.Imm(asm.R2, -8),
			asm.FnMapLookupElem.Call(), asm.JEq.Imm(asm.R0, 0, "drop"),
			asm.Mov.Imm(asm.R1, 1), asm.StoreXAdd(asm.R0, asm.R1, asm.DWord),
		)
	}
	p = append(p,
		asm.Mov.Imm(asm.R0, 2).WithSymbol("drop"), asm.Return(),
		asm.Mov.Imm(asm.R0, -1).WithSymbol("pass"), asm.Return(), // TCX_NEXT
		// A first SYN acknowledges 0: its answer begins anywhere.
		asm.HostTo(asm.BE, asm.R8, asm.Word).WithSymbol("send"),
		asm.StoreMem(asm.RFP, at(ackAt), asm.R8, asm.Word),
		asm.StoreMem(asm.RFP, at(seqAt), asm.R9, asm.Word),
	)
	swap := func(a, b int, size asm.Size) {
		p = append(p,
			asm.LoadMem(asm.R1, asm.RFP, at(a), size), asm.LoadMem(asm.R2, asm.RFP, at(b), size),
			asm.StoreMem(asm.RFP, at(a), asm.R2, size), asm.StoreMem(asm.RFP, at(b), asm.R1, size))
	}
	for n := range 3 {
		swap(2*n, 6+2*n, asm.Half)
	}
	swap(srcAt, dstAt, asm.Word)
	swap(sportAt, dportAt, asm.Half)
	return append(p,
		asm.Mov.Reg(asm.R1, asm.R6), asm.Mov.Imm(asm.R2, 0), asm.Mov.Reg(asm.R3, asm.RFP), asm.Add.Imm(asm.R3, base),
		asm.Mov.Imm(asm.R4, frameLen), asm.Mov.Imm(asm.R5, 0), asm.FnSkbStoreBytes.Call(), asm.JNE.Imm(asm.R0, 0, "drop"),
		asm.Mov.Imm(asm.R1, int32(index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
	)
}

// sumHeader writes the checksum of the IPv4 header, which bridges look at.
func sumHeader(frame []byte) {
	const at = 24
	binary.BigEndian.PutUint16(frame[at:], 0)
	sum := uint32(0)
	for i := versionAt; i < sportAt; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(frame[i:]))
	}
	sum = sum&0xffff + sum>>16
	binary.BigEndian.PutUint16(frame[at:], ^uint16(sum&0xffff+sum>>16))
}

// play opens connections at a rate for some time, and returns how many it opened and
// how many were complete. What the machine keeps it from is not made up for.
func (p *players) play(d time.Duration, perSecond int) (opened, done int64) {
	p.lab.t.Helper()
	completed := func() (n int64) {
		p.lab.check(p.done.Lookup(uint32(0), &n))
		return n
	}
	before := completed()
	frame := pathtest.Segment{Src: netip.AddrPortFrom(playedNet.Addr(), 1), Dst: playedHost, Flags: pathtest.SYN}.Frame()
	start := time.Now()
	credit, last := 0.0, start
	for now := start; now.Sub(start) < d; now = time.Now() {
		credit = min(credit+now.Sub(last).Seconds()*float64(perSecond), float64(perSecond)/50)
		last = now
		for ; credit >= 1; credit-- {
			n := p.opened
			p.opened++
			opened++
			binary.BigEndian.PutUint16(frame[srcAt+2:], uint16(n%4096+1))
			binary.BigEndian.PutUint16(frame[sportAt:], uint16(1024+n/4096%60000))
			binary.BigEndian.PutUint32(frame[seqAt:], uint32(n)*2654435761)
			sumHeader(frame)
			p.out.send(frame)
		}
		time.Sleep(200 * time.Microsecond)
	}
	time.Sleep(200 * time.Millisecond) // what is under way
	return opened, completed() - before
}
