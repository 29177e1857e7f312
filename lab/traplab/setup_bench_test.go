package traplab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// BenchmarkSetup opens connections to an unused address that the gate brings to
// the honeypot, and to another that a plain DNAT rule brings there, in turns, and
// reports the medians.
func BenchmarkSetup(b *testing.B) {
	l := newLab(b)
	ln := l.listen(l.honeypot, "tcp4", ":8080")
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	// Without the trap: one rule, as somebody would write it.
	rules := filepath.Join(l.dir, "plain.nft")
	if err := os.WriteFile(rules, []byte("table ip plain {\n chain pre {\n type nat hook prerouting priority dstnat; policy accept;\n"+
		"iifname \"outside\" ip daddr 192.0.2.192/27 dnat to 10.66.0.2\n }\n}\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	measure := func() (all []time.Duration) {
		err := l.attacker.Do(func() error {
			for n := range 3000 {
				began := time.Now()
				c, err := net.DialTimeout("tcp4", fmt.Sprintf("192.0.2.%d:8080", 193+n%30), 5*time.Second)
				if err != nil {
					return err
				}
				if took := time.Since(began); n >= 200 {
					all = append(all, took)
				}
				c.Close()
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		slices.Sort(all)
		return all
	}
	var plain, gate []time.Duration
	for b.Loop() {
		for range 3 {
			if out, err := l.router.Run(b.Context(), "nft", "-f", rules); err != nil {
				b.Fatal(err, out)
			}
			plain = append(plain, measure()...)
			if out, err := l.router.Run(b.Context(), "nft", "delete table ip plain"); err != nil {
				b.Fatal(err, out)
			}
			l.redirect = "  honeypots: [{address: 10.66.0.2}]\n  per_second: 1000000"
			l.startTrap()
			gate = append(gate, measure()...)
			if err := l.process.Stop(); err != nil {
				b.Fatal(err)
			}
			if out, err := l.router.Run(b.Context(), l.agent, "trap", "remove", "--config", filepath.Join(l.dir, "trap.yaml")); err != nil {
				b.Fatal(err, out)
			}
		}
	}
	slices.Sort(plain)
	slices.Sort(gate)
	micro := func(all []time.Duration, share float64) float64 {
		return float64(all[int(share*float64(len(all)))].Nanoseconds()) / 1000
	}
	b.ReportMetric(micro(plain, 0.5), "µs-dnat")
	b.ReportMetric(micro(gate, 0.5), "µs-gate")
	b.ReportMetric(micro(plain, 0.1), "µs-dnat-p10")
	b.ReportMetric(micro(gate, 0.1), "µs-gate-p10")
	b.ReportMetric(100*(micro(gate, 0.5)/micro(plain, 0.5)-1), "%-added")
}

// BenchmarkExact reports how long it takes from the attack on the honeypot, which sends
// one copy, until a sensor of the trap's node has its signature in use.
func BenchmarkExact(b *testing.B) {
	total := time.Duration(0)
	for b.Loop() {
		w := newWhole(b)
		w.file("clean/1", string(cleanRequest(1)))
		node := w.file("node.yaml", fmt.Sprintf("store: {directory: %[1]s/data}\nadmin: {listen: \"\"}\napi: {listen: 127.0.0.1:9121}\ncentre: {clean: [%[1]s/clean]}\n", w.dir))
		p, err := w.router.Start(w.dragnet, "run", "node", "--config", node)
		if err == nil {
			err = p.Await(b.Context(), "node started")
		}
		if err != nil {
			b.Fatal(err)
		}
		for _, role := range []string{"trap", "sensor"} {
			w.enrol(w.router, w.path("data"), role, w.path(role))
		}
		w.startTrap("report: true", "channel: {state: "+w.path("trap")+"}")
		conf := w.file("sensor.yaml", fmt.Sprintf("live: {interface: lan}\npayload: {match: true}\nchannel: {state: %s}\n", w.path("sensor")))
		s, err := w.router.Start(w.agent, "run", "sensor", "--config", conf)
		if err == nil {
			err = s.Await(b.Context(), `in use","component":"sensor","signatures":0`)
		}
		if err != nil {
			b.Fatal(err)
		}
		w.startInert(1)
		began := time.Now()
		w.attack()
		if err := s.Await(b.Context(), `in use","component":"sensor","signatures":1`); err != nil {
			b.Fatal(err)
		}
		total += time.Since(began)
	}
	b.ReportMetric(total.Seconds()/float64(b.N), "s-to-exact")
}
