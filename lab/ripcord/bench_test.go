package ripcord_test

import (
	"context"
	"net"
	"net/netip"
	"sort"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"dragnet/internal/netlab"
)

// bare joins two interfaces of a node by programs that only redirect.
func bare(n *netlab.Node, a, b string) error {
	return n.Do(func() error {
		for _, pair := range [][2]string{{a, b}, {b, a}} {
			from, err := net.InterfaceByName(pair[0])
			if err != nil {
				return err
			}
			to, err := net.InterfaceByName(pair[1])
			if err != nil {
				return err
			}
			prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
				asm.Mov.Imm(asm.R1, int32(to.Index)), asm.Mov.Imm(asm.R2, 0), asm.FnRedirect.Call(), asm.Return(),
			}})
			if err != nil {
				return err
			}
			defer prog.Close()
			l, err := link.AttachTCX(link.TCXOptions{Interface: from.Index, Program: prog, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return err
			}
			netlinks = append(netlinks, l)
		}
		return nil
	})
}

// joins are three gateways to compare, each between a host and a victim of its
// own.
func joins(b *testing.B, offloads bool) map[string]*lab {
	all := map[string]*lab{}
	for _, kind := range []string{"bridge", "redirect", "ripcord"} {
		l := newLab(b, offloads, "")
		switch kind {
		case "bridge":
			l.check(l.gateway.Bridge("br0", "inside", "outside"))
		case "redirect":
			l.check(bare(l.gateway, "inside", "outside"))
		default:
			l.start()
		}
		all[kind] = l
	}
	return all
}

// BenchmarkThroughput runs iperf3 through a bridge, a bare redirect and the
// gateway in turn, one stream of TCP; ratios are of medians. What comes per
// second of both ends' processor time, in which the gateway's work is done too,
// depends less on what else the machine does.
func BenchmarkThroughput(b *testing.B) {
	needs(b, "iperf3")
	for name, offloads := range map[string]bool{"offloads": true, "plain": false} {
		b.Run(name, func(b *testing.B) {
			all := joins(b, offloads)
			for _, l := range all {
				_, err := l.victim.Start("iperf3", "-s")
				l.check(err)
				time.Sleep(300 * time.Millisecond)
			}
			rates, work := map[string][]float64{}, map[string][]float64{}
			for b.Loop() {
				for kind, l := range all {
					ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
					rate, perWork, err := l.host.MeasureStream(ctx, victimIPs[0].String(), 2*time.Second)
					cancel()
					l.check(err)
					rates[kind] = append(rates[kind], rate)
					work[kind] = append(work[kind], perWork)
				}
			}
			report(b, rates, "Gbit/s")
			report(b, work, "Gbit/cpu-s")
		})
	}
}

// BenchmarkRoundTrip measures the time of one octet there and back over TCP.
func BenchmarkRoundTrip(b *testing.B) {
	all := joins(b, false)
	conns := map[string]*net.TCPConn{}
	for kind, l := range all {
		at := netip.AddrPortFrom(victimIPs[0], 7)
		l.listen(l.victim, at, echo)
		conns[kind] = l.mustDial(l.host, netip.AddrPort{}, at)
	}
	times := map[string][]float64{}
	one := make([]byte, 1)
	for b.Loop() {
		for kind, c := range conns {
			start := time.Now()
			for range 50 {
				if _, err := c.Write(one); err != nil {
					b.Fatal(err)
				}
				if _, err := c.Read(one); err != nil {
					b.Fatal(err)
				}
			}
			times[kind] = append(times[kind], float64(time.Since(start).Microseconds())/50)
		}
	}
	report(b, times, "µs")
}

func report(b *testing.B, values map[string][]float64, unit string) {
	median := map[string]float64{}
	for kind, v := range values {
		sort.Float64s(v)
		median[kind] = v[len(v)/2]
		b.ReportMetric(median[kind], kind+"-"+unit)
	}
	b.ReportMetric(median["ripcord"]/median["bridge"], "of-bridge-"+unit)
	b.ReportMetric(median["ripcord"]/median["redirect"], "of-redirect-"+unit)
}
