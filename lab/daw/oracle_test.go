package daw_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/internal/testkit"
)

// A scan that is recorded for real: three hosts scan 40 addresses each, on
// different ports, among visits of others. tshark and softflowd with nfdump read
// the same capture by other means: the detector names exactly the scanners, and
// counts the targets that they count.
func TestDetectorAgreesWithOtherTools(t *testing.T) {
	for _, tool := range []string{"dumpcap", "tshark", "softflowd", "nfcapd", "nfdump"} {
		testkit.Tool(t, tool)
	}
	t.Parallel()
	l := newISP(t)
	file := filepath.Join(l.dir, "scan.pcap")
	dump, err := l.edges[0].Start("dumpcap", "-P", "-i", "inside", "-w", file)
	if err == nil {
		err = dump.Await(t.Context(), "File: ")
	}
	if err != nil {
		t.Fatal(err)
	}
	const targets = 40
	want := []string{"10.1.0.10", "10.1.0.11", "10.1.0.12"}
	for i, source := range want {
		l.knock(source, 80+i, targets)
	}
	for host := 20; host < 40; host++ {
		l.knock(fmt.Sprintf("10.1.0.%d", host), 443, 3) // an ordinary host fails sometimes
		l.visit(0, host)
	}
	// dumpcap writes what it has seen once a second, and not when it is stopped.
	time.Sleep(1500 * time.Millisecond)
	if err := dump.Stop(); err != nil {
		t.Fatal(err)
	}

	refused := l.byTshark(file)
	flows := l.bySoftflowd(file)
	cmd := exec.Command(l.dragnet, "detect", "run", "failures", file, "-o", "json", "--remote", "25")
	out, err := cmd.Output()
	if cmd.ProcessState.ExitCode() != 3 {
		t.Fatalf("the exit code is not 3, for something found: %v", err)
	}
	found, err := cli.ReadItems[dossier.Finding](bytes.NewReader(out))
	if err != nil {
		t.Fatal(err)
	}
	var named []string
	for _, f := range found {
		source := f.Addr.String()
		named = append(named, source)
		if n := f.Evidence.Counts["refused"]; n != targets || int(n) != len(refused[source]) || int(n) != len(flows[source]) {
			t.Errorf("%s was refused by %d hosts; tshark says %d, softflowd %d, and it asked %d", source, n, len(refused[source]), len(flows[source]), targets)
		}
	}
	slices.Sort(named)
	if !slices.Equal(named, want) {
		t.Errorf("named %v, want exactly %v", named, want)
	}
}

// knock asks n hosts for a port on which nothing listens, one after the other.
func (l *isp) knock(source string, port, n int) {
	l.t.Helper()
	err := l.customers[0].Do(func() error {
		d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
		for i := range n {
			if c, err := d.Dial("tcp4", fmt.Sprintf("198.18.%d.%d:%d", i, port, port)); err == nil {
				c.Close()
				return fmt.Errorf("somebody listens on port %d", port)
			}
		}
		return nil
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// hosts are the targets that refused, by the source that asked.
type hosts map[string]map[string]bool

func (h hosts) add(source, target string) {
	if h[source] == nil {
		h[source] = map[string]bool{}
	}
	h[source][target] = true
}

// byTshark takes RSTs that answer a SYN.
func (l *isp) byTshark(file string) hosts {
	l.t.Helper()
	out, err := exec.Command("tshark", "-r", file, "-Y", "tcp.flags.reset == 1 && tcp.flags.ack == 1 && tcp.seq == 1 && tcp.ack == 1",
		"-T", "fields", "-e", "ip.dst", "-e", "ip.src").Output()
	if err != nil {
		l.t.Fatal(err)
	}
	h := hosts{}
	for text := range strings.Lines(string(out)) {
		if f := strings.Fields(text); len(f) == 2 {
			h.add(f[0], f[1])
		}
	}
	return h
}

// bySoftflowd exports the capture as NetFlow 9 to nfcapd, and takes the flows
// that carried a RST and nothing but one packet.
func (l *isp) bySoftflowd(file string) hosts {
	l.t.Helper()
	dir := filepath.Join(l.dir, "nfcapd")
	if err := os.Mkdir(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	collector, err := l.core.Start("nfcapd", "-w", dir, "-b", "127.0.0.1", "-p", "9995", "-t", "3600")
	if err == nil {
		err = collector.Await(l.t.Context(), "Startup")
	}
	if err != nil {
		l.t.Fatal(err)
	}
	// softflowd keeps no more than 15 bytes of a file's name.
	export := fmt.Sprintf("cd %s && exec softflowd -r %s -n 127.0.0.1:9995 -v 9 -d", filepath.Dir(file), filepath.Base(file))
	if _, err := l.core.Run(context.Background(), "sh", "-c", export); err != nil {
		l.t.Fatal(err)
	}
	time.Sleep(500 * time.Millisecond) // datagrams on loopback, read by nfcapd
	if err := collector.Stop(); err != nil {
		l.t.Fatal(err)
	}
	out, err := exec.Command("nfdump", "-R", dir, "-q", "-o", "fmt:%sa %da %flg %pkt", "proto tcp").Output()
	if err != nil {
		l.t.Fatal(err)
	}
	h := hosts{}
	for text := range strings.Lines(string(out)) {
		if f := strings.Fields(text); len(f) == 4 && strings.Contains(f[2], "R") && f[3] == "1" {
			h.add(f[1], f[0])
		}
	}
	return h
}
