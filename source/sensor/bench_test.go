//go:build linux

package sensor

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// BenchmarkLive has iperf3 send between two namespaces, over TCP in both
// directions and over UDP, beside short connections, as fast as it can; one op is
// three seconds of it. The sensor watches the receiver.
func BenchmarkLive(b *testing.B) {
	iperf := testkit.Tool(b, "iperf3")
	client, server := wire(b)
	if _, err := server.Start(iperf, "-s", "-p", "5001"); err != nil {
		b.Fatal(err)
	}
	if _, err := server.Start(iperf, "-s", "-p", "5002"); err != nil {
		b.Fatal(err)
	}
	var l net.Listener
	if err := server.Do(func() (err error) { l, err = net.Listen("tcp4", "10.0.0.2:8080"); return err }); err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	}()
	time.Sleep(500 * time.Millisecond)
	s, out := watch(b, server, func(c *Configuration) { c.Live.Buffer = 64 << 20 })
	bits, connections := 0.0, 0
	b.ResetTimer()
	for range b.N {
		ctx, cancel := context.WithTimeout(b.Context(), 3*time.Second)
		var wg sync.WaitGroup
		var mu sync.Mutex
		for _, args := range [][]string{{"-p", "5001", "-P", "2", "--bidir", "-M", "1400"}, {"-p", "5002", "-u", "-b", "200M"}} {
			wg.Go(func() {
				text, err := client.Run(b.Context(), iperf, append([]string{"-c", "10.0.0.2", "-t", "3", "-J"}, args...)...)
				type sum struct {
					Bits float64 `json:"bits_per_second"`
				}
				var r struct {
					End struct {
						Received sum `json:"sum_received"`
						Reverse  sum `json:"sum_received_bidir_reverse"`
						UDP      sum `json:"sum"`
					} `json:"end"`
				}
				if err == nil {
					err = json.Unmarshal([]byte(text), &r)
				}
				if err != nil {
					b.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				bits += r.End.Received.Bits + r.End.Reverse.Bits
				if r.End.Received.Bits == 0 {
					bits += r.End.UDP.Bits
				}
			})
		}
		for ctx.Err() == nil {
			var c net.Conn
			if err := client.Do(func() (err error) { c, err = net.DialTimeout("tcp4", "10.0.0.2:8080", time.Second); return err }); err == nil {
				_, _ = io.Copy(io.Discard, c)
				c.Close()
				connections++
			}
		}
		wg.Wait()
		cancel()
	}
	b.StopTimer()
	if err := s.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
	established := 0
	for _, f := range out.all() {
		if f.RespPort == 8080 && f.State == flow.SF {
			established++
		}
	}
	b.ReportMetric(bits/float64(b.N)/1e9, "Gbit/s")
	b.ReportMetric(float64(out.counts.Packets)/b.Elapsed().Seconds(), "packets/s")
	b.ReportMetric(float64(out.counts.Dropped), "dropped")
	b.ReportMetric(float64(connections-established), "connections-missing")
	b.ReportMetric(float64(connections), "connections")
}
