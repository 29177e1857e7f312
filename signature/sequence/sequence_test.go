package sequence_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/signature/sequence"
)

func TestFolderAndStandardInput(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"b": "second", "a": "first", "empty": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c := &sequence.Collector{Most: 100, Total: 1000}
	coverage, err := sequence.Each(context.Background(), dir, nil, c.Open, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(bytes.Join(c.Sequences, []byte("|"))); got != "first|second" || coverage.Sequences != 3 || coverage.Bytes != 11 {
		t.Errorf("read %q, %+v", got, coverage)
	}
	c = &sequence.Collector{Most: 4, Total: 1000}
	if _, err := sequence.Each(context.Background(), "-", strings.NewReader("from a pipe"), c.Open, nil); err != nil {
		t.Fatal(err)
	}
	if string(c.Sequences[0]) != "from" || c.Cut != 7 {
		t.Errorf("kept %q, cut %d bytes of 11 at 4", c.Sequences[0], c.Cut)
	}
	if _, err := sequence.Each(context.Background(), filepath.Join(dir, "none"), nil, c.Open, nil); err == nil {
		t.Error("a path that does not exist was read")
	}
}

// TestCaptureBytesAreTsharks compares the bytes of all connections with the
// lengths that tshark reassembles.
func TestCaptureBytesAreTsharks(t *testing.T) {
	path := testkit.Data(t, "benign/http.pcap")
	tshark := testkit.Tool(t, "tshark")
	c := &sequence.Collector{Most: 1 << 20, Total: 1 << 24}
	coverage, err := sequence.Each(context.Background(), path, nil, c.Open, nil)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(tshark, "-r", path, "-Y", "tcp.len>0 && !tcp.analysis.retransmission && !tcp.analysis.spurious_retransmission", "-T", "fields", "-e", "tcp.len").Output()
	if err != nil {
		t.Fatal(err)
	}
	want := int64(0)
	for _, line := range strings.Fields(string(out)) {
		n, _ := strconv.ParseInt(line, 10, 64)
		want += n
	}
	tcp := int64(0)
	for i, name := range c.Names {
		if !strings.HasSuffix(name, "udp") {
			tcp += int64(len(c.Sequences[i]))
		}
	}
	if tcp != want || want == 0 || coverage.Lost != 0 {
		t.Errorf("%d bytes of TCP, tshark has %d; %+v", tcp, want, coverage)
	}
}

func TestDamagedCaptureKeepsWhatIsSound(t *testing.T) {
	whole, err := os.ReadFile(testkit.Data(t, "benign/http.pcap"))
	if err != nil {
		t.Fatal(err)
	}
	c := &sequence.Collector{Most: 1 << 20, Total: 1 << 24}
	path := filepath.Join(t.TempDir(), "cut.pcap")
	if err := os.WriteFile(path, whole[:len(whole)/2+7], 0o600); err != nil {
		t.Fatal(err)
	}
	coverage, err := sequence.Each(context.Background(), path, nil, c.Open, nil)
	if err != nil || coverage.Skipped == 0 || len(c.Sequences) == 0 {
		t.Errorf("error %v, %+v: want the sound part and a stated problem", err, coverage)
	}
}
