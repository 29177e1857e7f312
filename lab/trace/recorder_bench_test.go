package trace_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"dragnet/internal/netlab"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// BenchmarkRecorder has a host accept 5,000 connections a second for ten seconds,
// and measures what part of a processor the flight recorder takes: the daemon's
// own time, and that of its kernel programs, which is part of the time of those
// whose connections they see.
func BenchmarkRecorder(b *testing.B) {
	const rate, seconds = 5000, 10
	for _, enabled := range []bool{false, true} {
		b.Run(fmt.Sprintf("enabled=%v", enabled), func(b *testing.B) {
			l := netlab.For(b)
			nodes, err := l.Nodes("server", "clients")
			if err == nil {
				err = l.Wire(nodes[0], "eth0", nodes[1], "eth0")
			}
			for i, address := range []string{"10.1.0.1/16", "10.1.0.2/16"} {
				if err == nil {
					err = nodes[i].Address("eth0", netip.MustParsePrefix(address))
				}
			}
			if err == nil {
				_, err = nodes[1].Run(b.Context(), "sh", "-c", "ip link set lo up; ip addr add 10.1.128.0/17 dev lo")
			}
			if err == nil {
				err = nodes[0].Route(netip.MustParsePrefix("10.1.128.0/17"), netip.MustParseAddr("10.1.0.2"))
			}
			if err != nil {
				b.Fatal(err)
			}
			dir := b.TempDir()
			config := filepath.Join(dir, "ident.yaml")
			text := fmt.Sprintf("state: %s\nlisten: [\"10.1.0.1:113\"]\nrecorder: {enabled: %v}\n", dir, enabled)
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				b.Fatal(err)
			}
			// In a separate pid namespace, as on another host.
			host, err := nodes[0].Start("unshare", "--fork", "--pid", "--mount-proc", "--kill-child", "sh", "-c",
				"SERVE_CONNECTIONS=10.1.0.1:7000 "+os.Args[0]+" & exec "+filepath.Join(binaries, "dragnet-agent")+" run ident --config "+config)
			if err != nil {
				b.Fatal(err)
			}
			for _, text := range []string{"daemon started", "serving"} {
				if err := host.Await(b.Context(), text); err != nil {
					b.Fatal(err)
				}
			}
			children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", host.Pid(), host.Pid()))
			if err != nil {
				b.Fatal(err)
			}
			agent, err := strconv.Atoi(strings.Fields(string(children))[0])
			if err != nil {
				b.Fatal(err)
			}
			stats, err := ebpf.EnableStats(uint32(unix.BPF_STATS_RUN_TIME))
			if err != nil {
				b.Fatal(err)
			}
			defer stats.Close()
			cpu, inKernel := processorTime(b, agent), programTime(b)
			started := time.Now()
			done := connectAtRate(b, nodes[1], rate, seconds*time.Second)
			took := time.Since(started)
			cpu, inKernel = processorTime(b, agent)-cpu, programTime(b)-inKernel
			b.ReportMetric(float64(done)/took.Seconds(), "connections/s")
			b.ReportMetric(100*cpu.Seconds()/took.Seconds(), "%core-daemon")
			b.ReportMetric(100*inKernel.Seconds()/took.Seconds(), "%core-programs")
			b.ReportMetric(float64(diskUse(b, filepath.Join(dir, "events")))/float64(max(done, 1)), "octets/connection")
		})
	}
}

// acceptAll serves connections by closing them.
func acceptAll(address string) {
	l, err := net.Listen("tcp4", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("serving")
	for {
		if c, err := l.Accept(); err == nil {
			c.Close()
		}
	}
}

// connectAtRate opens and closes connections from a node.
func connectAtRate(b *testing.B, n *netlab.Node, rate int, during time.Duration) (done int) {
	b.Helper()
	err := n.Do(func() error {
		started := time.Now()
		for time.Since(started) < during {
			if due := int(time.Since(started).Seconds() * float64(rate)); done >= due {
				time.Sleep(time.Millisecond)
				continue
			}
			// Another address every time: ports of closed connections are kept.
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			err = unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 1, 128 | byte(done>>8), byte(done)}})
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
