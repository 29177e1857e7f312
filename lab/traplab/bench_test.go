package traplab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkSessions opens 10,000 connections of a honeypot at a time, each of
// which has sent the start of a request, and reports what the agent's memory
// grows by (resident set, MB).
func BenchmarkSessions(b *testing.B) {
	const n = 10_000
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil || limit.Max < n+1000 {
		b.Skipf("%d open files are allowed, %v", limit.Max, err)
	}
	for b.Loop() {
		l := newLab(b)
		l.startTrap("array: {idle: 1m, per_client: 20000, sessions: 20000}")
		before := resident(b, l.process.Pid())
		began := time.Now()
		conns := make([]net.Conn, 0, n)
		err := l.honeypot.Do(func() error {
			for i := range n {
				c, err := net.DialTimeout("tcp4", fmt.Sprintf("198.51.%d.%d:80", i/250%250, 1+i%250), 5*time.Second)
				if err != nil {
					return fmt.Errorf("connection %d: %w", i, err)
				}
				conns = append(conns, c)
				if _, err := c.Write([]byte("POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(began)
		time.Sleep(time.Second)
		b.ReportMetric(float64(resident(b, l.process.Pid())), "MB")
		b.ReportMetric(float64(before), "MB-before")
		b.ReportMetric(float64(n)/took.Seconds(), "connections/s")
		for _, c := range conns {
			err = errors.Join(err, c.Close())
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}

// resident is the resident set of a process, in MB.
func resident(b *testing.B, pid int) (mb int) {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			var kb int
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				b.Fatal(err)
			}
			return kb >> 10
		}
	}
	return 0
}
