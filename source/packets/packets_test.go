package packets

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// pcapFile holds one UDP packet of raw IP for each time in seconds; the ports
// count up from first.
func pcapFile(t testing.TB, first int, times ...uint32) []byte {
	b := []byte("\xd4\xc3\xb2\xa1\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\x00\x00\x65\x00\x00\x00")
	for i, at := range times {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: 17, SrcIP: alice.Addr().AsSlice(), DstIP: bob.Addr().AsSlice()}
		udp := &layers.UDP{SrcPort: layers.UDPPort(first + i), DstPort: 4444}
		udp.SetNetworkLayerForChecksum(ip)
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, udp, gopacket.Payload("hello")); err != nil {
			t.Fatal(err)
		}
		for _, v := range []uint32{at, 0, uint32(len(buf.Bytes())), uint32(len(buf.Bytes()))} {
			b = binary.LittleEndian.AppendUint32(b, v)
		}
		b = append(b, buf.Bytes()...)
	}
	return b
}

func write(t testing.TB, path string, b []byte) string {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// scanned runs Scan and returns the originators' ports in order.
func scanned(t testing.TB, l *Recording, w flow.Window) (ports []uint16, cov flow.Coverage) {
	t.Helper()
	cov, err := l.Scan(context.Background(), w, flow.AllColumns, func(batch []flow.Flow) error {
		for _, f := range batch {
			ports = append(ports, f.OrigPort)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ports, cov
}

// TestFilesAreMergedByTime reads a rotated capture and one that overlaps it,
// compressed, from a directory with other things in it.
func TestFilesAreMergedByTime(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "b.pcap"), pcapFile(t, 1, 1000, 1100, 1200))
	write(t, filepath.Join(dir, "a.pcap"), pcapFile(t, 11, 2000, 2100))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(pcapFile(t, 21, 1050, 1150, 2050))
	w.Close()
	elsewhere := write(t, filepath.Join(t.TempDir(), "c.pcap.gz"), z.Bytes())
	if err := os.Symlink(elsewhere, filepath.Join(dir, "sub", "c.pcap.gz")); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "empty.pcap"), pcapFile(t, 1))
	write(t, filepath.Join(dir, "notes.txt"), []byte("not a capture"))
	write(t, filepath.Join(dir, "nothing"), nil)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	l, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	ports, cov := scanned(t, l, flow.AllTime)
	if want := []uint16{1, 21, 2, 22, 3, 11, 23, 12}; !slices.Equal(ports, want) {
		t.Errorf("got %v, want %v", ports, want)
	}
	if cov.Flows != 8 || cov.From != 1000e9 || cov.To != 2100e9 || cov.Skipped != 0 || cov.Sampling != 1 {
		t.Errorf("covered %+v", cov)
	}
	// The window holds back flows but the coverage counts them.
	ports, cov = scanned(t, l, flow.Window{From: 1100e9, To: 2000e9})
	if want := []uint16{2, 22, 3}; !slices.Equal(ports, want) || cov.Flows != 8 {
		t.Errorf("in the window: %v of %d", ports, cov.Flows)
	}
}

func TestDamageIsReportedWithItsPlace(t *testing.T) {
	dir := t.TempDir()
	file := pcapFile(t, 1, 1000, 1001, 1002)
	cut := write(t, filepath.Join(dir, "cut.pcap"), file[:len(file)-3])
	empty := bytes.Clone(file[:24])
	empty = append(empty, make([]byte, 16)...) // a record without bytes
	empty = append(empty, file[24:]...)
	noBytes := write(t, filepath.Join(dir, "empty.pcap"), empty)
	flipped := bytes.Clone(file)
	flipped[len(flipped)-1] ^= 1
	wrong := write(t, filepath.Join(dir, "wrong.pcap"), flipped)
	link := bytes.Clone(file)
	link[20] = 105
	radio := write(t, filepath.Join(dir, "radio.pcap"), link)
	for _, c := range []struct {
		path    string
		flows   uint64
		skipped uint64
		problem string
	}{
		{cut, 2, 1, cut + ":packet 3: the file ends inside it; the packets before it were read"},
		{noBytes, 3, 1, noBytes + ":packet 1: it has no bytes"},
		{wrong, 3, 1, wrong + ":packet 3: wrong checksum: left out, as its receiver would"},
		{radio, 0, 3, radio + ":packet 1: link type is not supported"},
	} {
		l, err := Open(c.path)
		if err != nil {
			t.Fatal(err)
		}
		_, cov := scanned(t, l, flow.AllTime)
		if cov.Flows != c.flows || cov.Skipped != c.skipped || cov.Problems[0].String() != c.problem {
			t.Errorf("%s: %+v", c.path, cov)
		}
	}
}

func TestOpenAndScanFailClearly(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "holds no capture file") {
		t.Errorf("empty directory: %v", err)
	}
	if _, err := Open(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent file: %v", err)
	}
	if _, err := Open(); err == nil {
		t.Error("no path: no error")
	}
	all := func([]flow.Flow) error { return nil }
	l, err := Open(write(t, filepath.Join(dir, "text"), []byte("#fields ts uid")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Scan(context.Background(), flow.AllTime, 0, all); err == nil || !strings.Contains(err.Error(), "not a pcap or pcapng file") {
		t.Errorf("text file: %v", err)
	}
	times := make([]uint32, 3000)
	for i := range times {
		times[i] = uint32(1000 * i)
	}
	l, err = Open(write(t, filepath.Join(dir, "long.pcap"), pcapFile(t, 1, times...)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Scan(ctx, flow.AllTime, 0, all); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	calls, stop := 0, errors.New("enough")
	cov, err := l.Scan(context.Background(), flow.AllTime, 0, func(b []flow.Flow) error {
		if calls++; len(b) == 0 || len(b) > batchSize {
			t.Errorf("batch of %d", len(b))
		}
		return stop
	})
	if err != stop || calls != 1 || cov.Flows == 0 {
		t.Errorf("stopped: %v after %d calls, %d flows", err, calls, cov.Flows)
	}
}

func TestIs(t *testing.T) {
	for prefix, want := range map[string]bool{
		"\xd4\xc3\xb2\xa1": true, "\xa1\xb2\x3c\x4d": true, "\x0a\x0d\x0d\x0a": true,
		"#sep": false, "{\"ts": false, "\x1f\x8b\x08\x00": false, "": false, "\xd4\xc3\xb2": false,
	} {
		if Is([]byte(prefix)) != want {
			t.Errorf("Is(%q) is not %v", prefix, want)
		}
	}
}

// TestHostileCaptures reads every capture that Suricata's tests use against
// stream engines; each must yield flows. In one of them addresses were
// replaced, so that all its checksums are wrong.
func TestHostileCaptures(t *testing.T) {
	n := 0
	err := filepath.WalkDir(testkit.Data(t, "suricata-verify"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.Contains(d.Name(), ".pcap") {
			return err
		}
		n++
		l, err := Open(path)
		if err != nil {
			return err
		}
		flows, cov := scanned(t, l, flow.AllTime)
		if len(flows) == 0 || cov.Skipped > 1 {
			t.Errorf("%s: %+v", path, cov)
		}
		if rewritten := strings.Contains(path, "unacked-stream-11"); rewritten != (len(cov.Problems) > 0 && strings.Contains(cov.Problems[0].Reason, "replaced")) {
			t.Errorf("%s: %v", path, cov.Problems)
		}
		return nil
	})
	if err != nil || n < 30 {
		t.Errorf("%d captures, %v", n, err)
	}
}
