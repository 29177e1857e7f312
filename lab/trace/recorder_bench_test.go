package trace_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dragnet/internal/netlab"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkRecorder opens and closes 5,000 connections a second on one host for
// ten seconds, and measures what part of a processor the flight recorder takes:
// the daemon's own time, and that of its kernel programs, which is part of the
// time of those who connect. Both ends of each connection are on the host, so it
// is twice what a server with as many sees.
func BenchmarkRecorder(b *testing.B) {
	const rate, seconds = 5000, 10
	for _, enabled := range []bool{false, true} {
		b.Run(fmt.Sprintf("enabled=%v", enabled), func(b *testing.B) {
			l := netlab.For(b)
			nodes, err := l.Nodes("busy")
			if err != nil {
				b.Fatal(err)
			}
			n := nodes[0]
			if out, err := n.Run(b.Context(), "sh", "-c", "ip link set lo up; ip addr add 10.1.0.0/16 dev lo"); err != nil {
				b.Fatalf("%v: %s", err, out)
			}
			dir := b.TempDir()
			config := filepath.Join(dir, "ident.yaml")
			text := fmt.Sprintf("state: %s\nlisten: [\"127.0.0.1:113\"]\nrecorder: {enabled: %v}\n", dir, enabled)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			agent, err := n.Start(filepath.Join(binaries, "dragnet-agent"), "run", "ident", "--config", config)
			if err != nil {
				b.Fatal(err)
			}
			if err := agent.Await(b.Context(), "started"); err != nil {
				b.Fatal(err)
			}
			stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			cpu, inKernel := processorTime(b, agent.Pid()), programTime(b)
			begun := time.Now()
			done := connectAtRate(b, n, rate, seconds*time.Second)
			took := time.Since(begun)
			cpu, inKernel = processorTime(b, agent.Pid())-cpu, programTime(b)-inKernel
			b.ReportMetric(float64(done)/took.Seconds(), "connections/s")
			b.ReportMetric(100*cpu.Seconds()/took.Seconds(), "%core-daemon")
			b.ReportMetric(100*inKernel.Seconds()/took.Seconds(), "%core-programs")
			b.ReportMetric(float64(diskUse(b, filepath.Join(dir, "events")))/float64(max(done, 1)), "octets/connection")
		})
	}
}

// connectAtRate opens and closes connections within a node.
func connectAtRate(b *testing.B, n *netlab.Node, rate int, during time.Duration) (done int) {
	b.Helper()
	err := n.Do(func() error {
		l, err := net.Listen("tcp4", "10.1.0.1:7000")
		if err != nil {
			return err
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
		begun := time.Now()
		for time.Since(begun) < during {
			if due := int(time.Since(begun).Seconds() * float64(rate)); done >= due {
				time.Sleep(time.Millisecond)
				continue
			}
			// Another address every time: ports of closed connections are kept.
			from := netip.AddrFrom4([4]byte{10, 1, byte(done>>8) | 1, byte(done)})
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: from.As4()})
			if err == nil {
				err = unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 1, 0, 1}, Port: 7000})
			}
			unix.Close(fd)
			if err != nil {
				return err
			}
			done++
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return done
}

// processorTime is the user and system time of a process and its threads.
func processorTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	var user, system int64
	var skip [11]string
	args := []any{}
	for i := range skip {
		args = append(args, &skip[i])
	}
	// The name, field 2, has no blank in our agent.
	rest := string(text)
	for range 2 {
		_, rest, _ = cutField(rest)
	}
	if _, err := fmt.Sscan(rest, append(args, &user, &system)...); err != nil {
		b.Fatal(err)
	}
	return time.Duration(user+system) * time.Second / 100
}

func cutField(s string) (field, rest string, ok bool) {
	for i := range s {
		if s[i] == ' ' {
			return s[:i], s[i+1:], true
		}
	}
	return s, "", false
}

// programTime is the time of the recorder's programs.
func programTime(b *testing.B) (sum time.Duration) {
	b.Helper()
	names := map[string]bool{"forked": true, "executed": true, "exited": true, "changed": true}
	for id := ebpf.ProgramID(0); ; {
		next, err := ebpf.ProgramGetNextID(id)
		if err != nil {
			return sum
		}
		id = next
		p, err := ebpf.NewProgramFromID(id)
		if err != nil {
			continue
		}
		if info, err := p.Info(); err == nil && names[info.Name] {
			if s, err := p.Stats(); err == nil {
				sum += s.Runtime
			}
		}
		p.Close()
	}
}

func diskUse(b *testing.B, dir string) (sum int64) {
	b.Helper()
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			sum += info.Size()
		}
	}
	return sum
}
