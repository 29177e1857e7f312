package nfdump

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sourcetest"
)

// row is what nfdump's CSV says of a record.
type row struct {
	src, dst         netip.Addr
	srcPort, dstPort string
	proto            flow.Proto
	pkts, bytes      uint64
	flags            string
	lasted           time.Duration
	exporter         string
}

// collect has nfcapd write the datagrams of a capture to a file.
func collect(t testing.TB, capture string, options ...string) string {
	t.Helper()
	nfcapd, dir := testkit.Tool(t, "nfcapd"), t.TempDir()
	probe, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.LocalAddr().(*net.UDPAddr)
	probe.Close()
	cmd := exec.Command(nfcapd, append([]string{"-w", dir, "-p", strconv.Itoa(address.Port), "-t", "3600", "-b", "127.0.0.1"}, options...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	defer func() {
		if !ended {
			cmd.Process.Kill()
			_ = cmd.Wait()
		}
	}()
	waitUntilBound(t, address.Port)
	conn, err := net.DialUDP("udp4", nil, address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i, g := range sourcetest.Datagrams(t, capture, netflow.Is) {
		if _, err := conn.Write(g.Data); err != nil {
			t.Fatal(err)
		}
		if i%16 == 0 {
			time.Sleep(2 * time.Millisecond)
		}
	}
	time.Sleep(200 * time.Millisecond)
	_ = cmd.Process.Signal(syscall.SIGTERM)
	err, ended = cmd.Wait(), true
	files, _ := filepath.Glob(filepath.Join(dir, "nfcapd.2*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%v, %v\n%s", err, files, out.String())
	}
	return files[0]
}

// waitUntilBound waits until a program listens on a port of loopback.
func waitUntilBound(t testing.TB, port int) {
	t.Helper()
	want := strings.ToUpper(strconv.FormatInt(1<<16|int64(port), 16)[1:])
	for range 200 {
		text, _ := os.ReadFile("/proc/net/udp")
		if strings.Contains(string(text), ":"+want+" ") {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("nfcapd does not listen")
}

// ofNfdump reads a file with nfdump itself.
func ofNfdump(t *testing.T, file string) (all []row) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testkit.Tool(t, "nfdump"), "-r", file, "-o", "csv", "-q")
	cmd.Env = append(os.Environ(), "TZ=UTC")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(out), " ", "")
	in := csv.NewReader(strings.NewReader(text))
	in.FieldsPerRecord = -1
	rows, err := in.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	number := func(s string) uint64 { n, _ := strconv.ParseUint(s, 10, 64); return n }
	for _, c := range rows {
		if len(c) < 46 || c[0] == "ts" {
			continue
		}
		r := row{srcPort: c[5], dstPort: c[6], flags: c[8], pkts: number(c[11]) + number(c[13]), bytes: number(c[12]) + number(c[14]), exporter: c[len(c)-4]}
		// A record with elements of both versions is printed as ::192.0.2.1.
		if strings.Count(c[3], ".") == 3 {
			c[3], c[4] = strings.TrimPrefix(c[3], "::"), strings.TrimPrefix(c[4], "::")
		}
		r.src, _ = netip.ParseAddr(c[3])
		r.dst, _ = netip.ParseAddr(c[4])
		r.proto, _ = flow.ParseProto(strings.ToLower(c[7]))
		r.lasted, _ = time.ParseDuration(c[2] + "s")
		all = append(all, r)
	}
	return all
}

func read(t testing.TB, file string) (all []biflow.Record, cov flow.Coverage) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Read(f, "nfcapd", &cov, func(r *biflow.Record) error { all = append(all, *r); return nil }); err != nil {
		t.Fatal(err)
	}
	return all, cov
}

// TestAsNfdumpReadsIt compares with nfdump what nfcapd wrote of real exports, in
// each compression.
func TestAsNfdumpReadsIt(t *testing.T) {
	for _, capture := range [][]string{
		{"exports", "softflowd_xscan_v9.pcap"}, {"exports", "softflowd_xscan_v5.pcap"}, {"exports", "softflowd_xscan_v10.pcap"},
		{"netflow", "pmacct", "102-NFv9-CISCO-f2rd-pretag-sampling-reload.traffic-00.pcap"}, {"netflow", "pmacct", "104-IPFIXv10-IPv6-CISCO-sampling_option.traffic-00.pcap"},
	} {
		for _, options := range [][]string{nil, {"-z"}, {"-y"}, {"-j"}, {"-s", "50"}} {
			file := collect(t, testkit.Data(t, capture...), options...)
			got, cov := read(t, file)
			want := ofNfdump(t, file)
			if len(got) != len(want) || len(got) == 0 {
				t.Fatalf("%v %v: %d records, nfdump has %d", capture, options, len(got), len(want))
			}
			for i, r := range got {
				w := want[i]
				rate := uint64(max(1, r.Sampling))
				same := r.Orig == w.src && r.Resp == w.dst && (r.OrigPkts+r.RespPkts)*rate == w.pkts && (r.OrigIPBytes+r.RespIPBytes)*rate == w.bytes && r.Duration == w.lasted
				if r.Proto == flow.TCP {
					same = same && strconv.Itoa(int(r.OrigPort)) == w.srcPort && strconv.Itoa(int(r.RespPort)) == w.dstPort && r.Proto == w.proto &&
						(r.OrigFlags&flow.SYN != 0) == strings.Contains(w.flags, "S") && (r.OrigFlags&flow.RST != 0) == strings.Contains(w.flags, "R")
				}
				if !same || r.Exporter.String() != "127.0.0.1" || (rate == 50) != slices.Contains(options, "-s") {
					t.Fatalf("%v %v: record %d is %+v, nfdump has %+v", capture, options, i, r, w)
				}
			}
			for _, p := range cov.Problems {
				if !strings.Contains(p.Reason, "breaks in the sequence") {
					t.Errorf("%v %v: %s", capture, options, p)
				}
			}
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	good := make([]byte, fileHeader)
	copy(good, []byte{0x0c, 0xa5, 2, 0})
	good[36] = 1
	change := func(at int, to byte) []byte {
		b := slices.Clone(good)
		b[at] = to
		return b
	}
	for name, c := range map[string]struct {
		file []byte
		want error
	}{
		"layout 1":   {change(2, 1), ErrLayout},
		"layout 3":   {change(2, 3), ErrLayout},
		"big-endian": {append([]byte{0xa5, 0x0c, 0, 1}, make([]byte, 40)...), ErrLayout},
		"encrypted":  {change(17, 1), ErrEncrypted},
		"open":       {change(36, 0), ErrOpen},
	} {
		if !Is(c.file) {
			t.Errorf("%s is not taken for a file of nfdump", name)
		}
		if err := Read(bytes.NewReader(c.file), name, new(flow.Coverage), nil); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if Is(good[:20]) || Is(bytes.Repeat([]byte{7}, 100)) {
		t.Error("other files are taken")
	}
}

// TestDamageIsCounted cuts a file at every length and changes its bytes.
func TestDamageIsCounted(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	for _, option := range []string{"-z", "-y", "-j", "-v"} {
		whole, err := os.ReadFile(collect(t, testkit.Data(t, "exports", "softflowd_xscan_v9.pcap"), option))
		if err != nil {
			t.Fatal(err)
		}
		for n := fileHeader; n < len(whole); n += 97 {
			b := slices.Clone(whole)
			b[n] ^= 0x55
			for _, b := range [][]byte{b, whole[:n]} {
				var cov flow.Coverage
				records := 0
				err := Read(bytes.NewReader(b), "f", &cov, func(*biflow.Record) error { records++; return nil })
				if err != nil && !errors.Is(err, ErrOpen) {
					t.Fatal(err)
				}
				if len(b) == n && n < len(whole)-200 && cov.Skipped == 0 {
					t.Fatalf("%s: of %d bytes of %d, %d records and nothing skipped", option, n, len(whole), records)
				}
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	header := append([]byte{0x0c, 0xa5, 2, 0}, make([]byte, 32)...)
	header = append(header, 1, 0, 0, 0)
	f.Add(slices.Concat(header, []byte{1, 0, 0, 0, 12, 0, 0, 0, 3, 0, 0, 0}, []byte{11, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0}))
	for c := range byte(6) {
		h := slices.Clone(header)
		h[16] = c
		f.Add(slices.Concat(h, []byte{1, 0, 0, 0, 12, 0, 0, 0, 3, 0, 0, 0}, []byte{0x11, 1, 2, 3, 4, 5, 6, 7, 0x11, 0, 0, 0}))
	}
	if os.Getenv("DRAGNET_DATA") != "" {
		if _, err := exec.LookPath("nfcapd"); err == nil {
			for _, option := range []string{"-v", "-z", "-y", "-j"} {
				b, err := os.ReadFile(collect(f, testkit.Data(f, "netflow", "pmacct", "102-NFv9-CISCO-f2rd-pretag-sampling-reload.traffic-00.pcap"), option))
				if err != nil {
					f.Fatal(err)
				}
				f.Add(b)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var cov flow.Coverage
		_ = Read(bytes.NewReader(b), "f", &cov, func(r *biflow.Record) error {
			if !r.Orig.IsValid() || !r.Resp.IsValid() || r.Duration < 0 || r.End() < r.Start {
				t.Fatalf("%+v", r)
			}
			return nil
		})
	})
}
