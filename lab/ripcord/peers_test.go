package ripcord_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/contain/ripcord"
	"dragnet/contain/ripcord/path/pathtest"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// clean checks that nothing the gateway let through was refused for its
// checksum by either kernel, and that it dropped nothing of honest peers.
func (l *lab) clean(allowed ...string) {
	l.t.Helper()
	for _, n := range []*netlab.Node{l.host, l.victim} {
		out, err := n.Run(l.t.Context(), "cat", "/proc/net/snmp", "/proc/net/snmp6")
		l.check(err)
		refused := func(name, value string) {
			if strings.Contains(name, "Csum") && value != "0" {
				l.t.Errorf("%s: %s is %s", n.Name, name, value)
			}
		}
		lines := strings.Split(out, "\n")
		for i, line := range lines {
			names := strings.Fields(line)
			if len(names) == 2 && !strings.HasSuffix(names[0], ":") { // snmp6
				refused(names[0], names[1])
			} else if i+1 < len(lines) && len(names) > 2 {
				// Names and values are on a line each, under the same heading.
				values := strings.Fields(lines[i+1])
				if len(values) == len(names) && values[0] == names[0] {
					for j := range names[1:] {
						refused(names[0]+names[j+1], values[j+1])
					}
				}
			}
		}
	}
	ok := map[string]bool{}
	for _, name := range allowed {
		ok[name] = true
	}
	for _, name := range []string{"malformed", "fragment", "options", "flags", "spoofed", "signed", "handshake", "no-ack", "ack-range",
		"closed", "blocked", "stopped", "reset-limit", "table-full", "no-handshake"} {
		if n := l.counter(name); n > 0 && !ok[name] {
			l.t.Errorf("%d packets of honest peers were dropped as %s", n, name)
		}
	}
}

// transfer sends random octets both ways over one connection and compares.
func (l *lab) transfer(client *netlab.Node, to netip.AddrPort, size int) error {
	c, err := l.dial(client, netip.AddrPort{}, to)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	data := make([]byte, size)
	r := rand.NewChaCha8([32]byte{1, byte(size)})
	r.Read(data)
	sum := sha256.New()
	var send error
	var done sync.WaitGroup
	done.Go(func() {
		_, send = c.Write(data)
		send = errors.Join(send, c.CloseWrite()) // half-close: the other way goes on
	})
	n, err := io.Copy(sum, c)
	done.Wait()
	if err := errors.Join(err, send); err != nil {
		return err
	}
	if want := sha256.Sum256(data); int(n) != size || !bytes.Equal(sum.Sum(nil), want[:]) {
		return fmt.Errorf("%d octets came back of %d, or others", n, size)
	}
	return nil
}

// TestTransfersAreIdentical moves data both ways, started from either side, with
// and without offloads, over both families, on a wire that loses and reorders.
func TestTransfersAreIdentical(t *testing.T) {
	t.Parallel()
	for _, offloads := range []bool{true, false} {
		for _, lossy := range []bool{false, true} {
			t.Run(fmt.Sprintf("offloads %v, lossy %v", offloads, lossy), func(t *testing.T) {
				l := newLab(t, offloads, "")
				l.start()
				size := 20 << 20
				if lossy {
					size = 2 << 20
					l.check(errors.Join(spoil(l.host, "eth0"), spoil(l.victim, "eth0")))
				}
				for i := range hostIPs {
					l.listen(l.victim, netip.AddrPortFrom(victimIPs[i], 7), echo)
					l.listen(l.host, netip.AddrPortFrom(hostIPs[i], 7), echo)
					if err := l.transfer(l.host, netip.AddrPortFrom(victimIPs[i], 7), size); err != nil {
						t.Errorf("from the host: %v", err)
					}
					if err := l.transfer(l.victim, netip.AddrPortFrom(hostIPs[i], 7), size); err != nil {
						t.Errorf("to the host: %v", err)
					}
				}
				// A SYN that is late, behind the connection's end, is refused.
				l.clean("no-handshake")
				if lossy && l.counter("sack") == 0 {
					t.Error("no selective acknowledgement was shifted")
				}
			})
		}
	}
}

// TestManyShortConnections opens and closes connections in parallel from few
// ports, so that ports are used again inside TIME_WAIT.
func TestManyShortConnections(t *testing.T) {
	t.Parallel()
	l := newLab(t, true, "")
	l.start()
	l.check(errors.Join(
		l.host.Sysctl("net.ipv4.ip_local_port_range", "40000 40063"),
		l.host.Sysctl("net.ipv4.tcp_tw_reuse", "1"), l.host.Sysctl("net.ipv4.tcp_timestamps", "1"),
	))
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo) // closes last, so the host keeps TIME_WAIT
	n := 400
	if testkit.Short(t) {
		n = 100
	}
	failed := 0
	for i := range n {
		c, err := l.dial(l.host, netip.AddrPort{}, at)
		if err != nil {
			failed++
			time.Sleep(20 * time.Millisecond) // tw_reuse wants a second
			continue
		}
		if err := ask(c, 100+i); err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		c.Close()
	}
	if failed > n/2 {
		t.Errorf("%d of %d connections could not be opened", failed, n)
	}
	l.clean()
	t.Logf("%d connections over 64 ports, %d tries found none free", n-failed, failed)
}

// TestPrograms runs programs that people use, both ways.
func TestPrograms(t *testing.T) {
	t.Parallel()
	testkit.Long(t)
	needs(t, "nginx", "curl", "iperf3", "ssh", "sshd", "ssh-keygen", "scp")
	l := newLab(t, true, "")
	l.start()
	web := filepath.Join(l.dir, "www")
	l.check(os.MkdirAll(web, 0o755))
	l.check(os.Chmod(l.dir, 0o755))
	data := make([]byte, 8<<20)
	rand.NewChaCha8([32]byte{9}).Read(data)
	l.check(os.WriteFile(filepath.Join(web, "data"), data, 0o644))
	config := filepath.Join(l.dir, "nginx.conf")
	l.check(os.WriteFile(config, fmt.Appendf(nil, "daemon off; user root; pid %[1]s/pid; error_log %[1]s/err; events {}\nhttp { access_log off; client_max_body_size 100m; server { listen [::]:8080 ipv6only=off; root %[2]s; } }\n", l.dir, web), 0o644))
	for n, ips := range map[*netlab.Node][2]netip.Addr{l.victim: victimIPs, l.host: hostIPs} {
		client := l.host
		if n == l.host {
			client = l.victim
		}
		_, err := n.Start("nginx", "-c", config)
		l.check(err)
		_, err = n.Start("iperf3", "-s")
		l.check(err)
		for _, ip := range ips {
			url := "http://" + netip.AddrPortFrom(ip, 8080).String() + "/data"
			l.until("nginx answers", func() bool {
				_, err := client.Run(t.Context(), "curl", "-gsf", "-o", "/dev/null", "-r", "0-1", url)
				return err == nil
			})
			got := filepath.Join(l.dir, "got")
			_, err := client.Run(t.Context(), "curl", "-gsSf", "-o", got, url)
			l.check(err)
			if b, _ := os.ReadFile(got); !bytes.Equal(b, data) {
				t.Errorf("%s: %d octets came, or others than the %d there are", url, len(b), len(data))
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			for _, direction := range [][]string{{}, {"-R"}} {
				if _, err := client.Run(ctx, "iperf3", append([]string{"-c", ip.String(), "-t", "1", "-P", "4"}, direction...)...); err != nil {
					t.Error(err)
				}
			}
			cancel()
		}
	}
	l.ssh(data)
	// iperf3 resets streams that it has not read to the end, and what the other
	// side had on the way is not let in any more.
	l.clean("no-handshake", "blocked")
}

// ssh copies a file over SSH and back.
func (l *lab) ssh(data []byte) {
	l.t.Helper()
	dir := filepath.Join(l.dir, "ssh")
	l.check(os.Mkdir(dir, 0o700))
	for _, name := range []string{"id", "hostkey"} {
		l.check(exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, name)).Run())
	}
	l.check(os.WriteFile(filepath.Join(dir, "sshd"), fmt.Appendf(nil, "HostKey %[1]s/hostkey\nAuthorizedKeysFile %[1]s/id.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\nSubsystem sftp internal-sftp\n", dir), 0o600))
	l.check(os.MkdirAll("/run/sshd", 0o755))
	path, err := exec.LookPath("sshd")
	l.check(err)
	_, err = l.victim.Start(path, "-D", "-e", "-f", filepath.Join(dir, "sshd"))
	l.check(err)
	options := []string{"-i", filepath.Join(dir, "id"), "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"}
	l.until("sshd answers", func() bool {
		_, err := l.host.Run(l.t.Context(), "ssh", append(options, "root@"+victimIPs[0].String(), "true")...)
		return err == nil
	})
	for _, ip := range victimIPs {
		there, back := filepath.Join(dir, "there"), filepath.Join(dir, "back")
		for _, copied := range [][]string{
			{filepath.Join(l.dir, "www", "data"), fmt.Sprintf("root@[%v]:%s", ip, there)}, {fmt.Sprintf("root@[%v]:%s", ip, there), back},
		} {
			_, err := l.host.Run(l.t.Context(), "scp", append(options, copied...)...)
			l.check(err)
		}
		if b, _ := os.ReadFile(back); !bytes.Equal(b, data) {
			l.t.Errorf("%v: another file came back from scp", ip)
		}
	}
}

// TestKeepAliveAfterAnHour sets the last packet of a connection an hour back.
func TestKeepAliveAfterAnHour(t *testing.T) {
	t.Parallel()
	l := newLab(t, false, "")
	l.start()
	at := netip.AddrPortFrom(victimIPs[0], 7)
	l.listen(l.victim, at, echo)
	c := l.mustDial(l.host, netip.AddrPort{}, at)
	l.check(ask(c, 1000))
	l.check(l.agent.Stop()) // tables are written by one at a time
	l.check(backdate(l.pins, time.Hour))
	l.start()
	time.Sleep(6 * time.Second) // a sweep
	l.check(ask(c, 1000))
	l.clean()
}

// TestPathMTU has a router behind the gateway refuse large packets: the quoted
// segment must carry the host's own numbers, or the host ignores the news.
func TestPathMTU(t *testing.T) {
	t.Parallel()
	for i, family := range []string{"IPv4", "IPv6"} {
		t.Run(family, func(t *testing.T) {
			l := newLab(t, false, "")
			l.start()
			needs(t, "socat")
			// Behind the victim, which forwards, is a narrower link.
			nodes, err := l.net.Nodes("far")
			l.check(err)
			far := netip.MustParsePrefix([]string{"10.9.0.2/24", "fd09::2/64"}[i])
			near := netip.PrefixFrom(far.Addr().Prev(), far.Bits())
			l.check(errors.Join(
				l.victim.Forward(), l.net.Wire(l.victim, "narrow", nodes[0], "eth0"),
				l.victim.Address("narrow", near), nodes[0].Address("eth0", far),
				nodes[0].Route(netip.PrefixFrom(hostIPs[i], near.Bits()).Masked(), near.Addr()),
				l.host.Route(far.Masked(), victimIPs[i]),
			))
			_, err = l.victim.Run(t.Context(), "ip", "link", "set", "narrow", "mtu", "1400")
			l.check(err)
			sink := filepath.Join(l.dir, "sink")
			server := nodes[0].Command(t.Context(), "socat", "-u", "TCP6-LISTEN:9,ipv6only=0", "OPEN:"+sink+",creat")
			l.check(server.Start())
			var c *net.TCPConn
			l.until("the far server answers", func() bool {
				var err error
				c, err = l.dial(l.host, netip.AddrPort{}, netip.AddrPortFrom(far.Addr(), 9))
				return err == nil
			})
			data := make([]byte, 300_000)
			rand.NewChaCha8([32]byte{3}).Read(data)
			c.SetDeadline(time.Now().Add(20 * time.Second))
			_, err = c.Write(data)
			l.check(errors.Join(err, c.Close()))
			l.check(server.Wait())
			if got, _ := os.ReadFile(sink); !bytes.Equal(got, data) {
				t.Errorf("%d octets arrived of %d, or others", len(got), len(data))
			}
			if l.counter("quoted") == 0 {
				t.Error("no quote was shifted")
			}
			l.clean()
		})
	}
}

// TestNothingLeaks opens connections of many kinds and waits until the tables
// are empty again.
func TestNothingLeaks(t *testing.T) {
	t.Parallel()
	l := newLab(t, true, "idle: {closed: 1s, handshake: 1s}\nblock: 1s\n")
	l.start()
	for i := range hostIPs {
		at := netip.AddrPortFrom(victimIPs[i], 7)
		l.listen(l.victim, at, echo)
		for n := range 40 {
			c, err := l.dial(l.host, netip.AddrPort{}, at)
			l.check(err)
			l.check(ask(c, 1000))
			if n%3 == 0 {
				c.SetLinger(0)
			}
			l.check(c.Close())
		}
		if _, err := l.dial(l.host, netip.AddrPort{}, netip.AddrPortFrom(victimIPs[i], 81)); err == nil {
			t.Error("somebody listens on port 81")
		}
	}
	raw := l.raw(l.victim, l.host)
	for n := range 50 { // half-open, from outside
		raw.send(pathtest.Segment{Src: netip.AddrPortFrom(victimIPs[0], uint16(2000+n)), Dst: netip.AddrPortFrom(hostIPs[0], 9999), Flags: pathtest.SYN}.Frame())
	}
	if n := l.counter("opened"); n < 80 {
		t.Fatalf("%d connections were opened", n)
	}
	l.until("the tables are empty", func() bool {
		s, err := ripcord.ReadStatus(l.pins)
		l.check(err)
		return s.Connections == 0
	})
}
