//go:build linux

package bpf

import (
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/contain/ripcord/tables"
	"dragnet/internal/testkit"
)

// BenchmarkPacket times the programs alone (BPF_PROG_TEST_RUN), beside one that
// only redirects.
func BenchmarkPacket(b *testing.B) {
	testkit.Root(b)
	w, err := Load(Options{Host: 1, Net: 1, Settings: tables.DefaultSettings(), Room: [2]uint32{1 << 16, 1 << 16}})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	bare, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R1, 1), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
	}})
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	host, peer := netip.MustParseAddrPort("10.0.0.5:40000"), netip.MustParseAddrPort("192.0.2.1:80")
	// Only the host's numbers are shifted: a test run goes on with what it
	// made, and an acknowledgement must stay what it was.
	c := tables.Conn{Out: 12345, State: tables.Established, Seen: tables.SYNOut | tables.SYNIn, AckHi: 9000, InNext: 9000, ISNIn: 8999}
	if err := w.PutConn(tables.Ends{Host: host, Peer: peer}, c); err != nil {
		b.Fatal(err)
	}
	blocked := c
	blocked.State, blocked.Until = tables.Ended, 1<<30
	ended := netip.AddrPortFrom(host.Addr(), 40001)
	if err := w.PutConn(tables.Ends{Host: ended, Peer: peer}, blocked); err != nil {
		b.Fatal(err)
	}
	if err := w.PutSource(host.Addr(), tables.Source{}); err != nil {
		b.Fatal(err)
	}
	stamp := []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	sack := append([]byte{1, 1, 5, 26}, make([]byte, 24)...)
	payload := make([]byte, 1400)
	out := func(from netip.AddrPort, options, payload []byte) []byte {
		return pathtest.Segment{Src: from, Dst: peer, Seq: 1, Ack: 9000, Flags: pathtest.ACK, Options: options, Payload: payload}.Frame()
	}
	for _, k := range []struct {
		name    string
		program *ebpf.Program
		frame   []byte
	}{
		{"redirect only", bare, out(host, stamp, payload)},
		{"data out", w.objects.FromHost, out(host, stamp, payload)},
		{"data in", w.objects.FromNet, pathtest.Segment{Src: peer, Dst: host, Seq: 9000, Ack: 1, Flags: pathtest.ACK, Options: stamp, Payload: payload}.Frame()},
		{"acknowledgement out, 3 SACK blocks", w.objects.FromHost, out(host, sack, nil)},
		{"UDP out", w.objects.FromHost, pathtest.UDP(host, peer, payload)},
		{"blocked", w.objects.FromHost, out(ended, stamp, payload)},
	} {
		b.Run(k.name, func(b *testing.B) {
			for b.Loop() {
				_, d, err := k.program.Benchmark(k.frame, 100_000, nil)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(d.Nanoseconds()), "ns/packet")
			}
		})
	}
}

// BenchmarkMillion fills a table with a million connections, and reads all of
// them, as a sweep does.
func BenchmarkMillion(b *testing.B) {
	testkit.Root(b)
	const n = 1 << 20
	w, err := Load(Options{Host: 1, Net: 1, Settings: tables.DefaultSettings(), Room: [2]uint32{n, 16}})
	if err != nil {
		b.Fatal(err)
	}
	defer w.Close()
	keys, conns := make([]key4, n), make([]tables.Conn, n)
	for i := range keys {
		keys[i] = key4{Host: [4]byte{10, 0, 0, 5}, Peer: [4]byte{192, 0, byte(i >> 16), 1}, HPort: portBytes(uint16(i)), PPort: [2]byte{0, 80}}
	}
	if put, err := w.objects.Conns4.BatchUpdate(keys, conns, nil); err != nil || put != n {
		b.Fatal(put, err)
	}
	v4, _ := w.Memory()
	for b.Loop() {
		seen := 0
		w.Conns(func(tables.Ends, tables.Conn) bool { seen++; return true })
		if seen != n {
			b.Fatalf("%d connections were read of %d", seen, n)
		}
	}
	b.ReportMetric(float64(v4)/n, "B/connection")
	b.ReportMetric(float64(v4)/1e6, "MB")
}
