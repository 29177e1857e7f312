//go:build linux

package sensor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/source/packets"
	"dragnet/wire/channel"
)

// outbox keeps what is sent.
type outbox struct {
	mu     sync.Mutex
	flows  []flow.Flow
	counts Counts
	fail   error
}

func (o *outbox) Send(items ...channel.Item) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fail != nil {
		return o.fail
	}
	for _, i := range items {
		b, err := Decode(i.Body)
		if err != nil || i.Kind != BatchKind || i.Format != BatchFormat || len(i.Body) > channel.MaxBody {
			return fmt.Errorf("%s %d with %d bytes: %w", i.Kind, i.Format, len(i.Body), err)
		}
		o.flows = append(o.flows, b.Flows...)
		o.counts.Add(b.Counts)
	}
	return nil
}

func (o *outbox) all() []flow.Flow {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.flows)
}

// wire is two hosts; the second is watched.
func wire(t testing.TB) (client, server *netlab.Node) {
	t.Helper()
	lab := netlab.For(t)
	nodes, err := lab.Nodes("client", "server")
	if err != nil {
		t.Fatal(err)
	}
	client, server = nodes[0], nodes[1]
	if err := errors.Join(lab.Wire(client, "eth0", server, "eth0"),
		client.Address("eth0", netip.MustParsePrefix("10.0.0.1/24")), server.Address("eth0", netip.MustParsePrefix("10.0.0.2/24"))); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func watch(t testing.TB, at *netlab.Node, change func(*Configuration)) (*Sensor, *outbox) {
	t.Helper()
	c := DefaultConfiguration()
	c.Live.Interface, c.Every = "eth0", 100*time.Millisecond
	if change != nil {
		change(&c)
	}
	out := &outbox{}
	s, err := New(c, Dependencies{Out: out, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := at.Do(func() error { return s.Start(context.Background()) }); err != nil {
		t.Fatal(err)
	}
	return s, out
}

// talk makes n connections that succeed and as many that are refused.
func talk(t *testing.T, client, server *netlab.Node, n int) {
	t.Helper()
	var l net.Listener
	if err := server.Do(func() (err error) { l, err = net.Listen("tcp4", "10.0.0.2:8080"); return err }); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, io.LimitReader(c, 1000)); c.Close() }()
		}
	}()
	dial := func(to string) (c net.Conn, err error) {
		err = client.Do(func() error { c, err = net.DialTimeout("tcp4", to, 5*time.Second); return err })
		return c, err
	}
	for range n {
		c, err := dial("10.0.0.2:8080")
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write(make([]byte, 1000))
		_, _ = io.Copy(io.Discard, c)
		c.Close()
		if c, err := dial("10.0.0.2:8081"); err == nil {
			c.Close()
			t.Fatal("the closed port answered")
		}
	}
}

// essence is what is compared of a flow.
func essence(f *flow.Flow) string {
	return fmt.Sprintf("%s:%d > %s:%d %s %s %s %d/%d %d/%d %d/%d", f.Orig, f.OrigPort, f.Resp, f.RespPort, f.Proto, f.State, f.History,
		f.OrigPkts, f.RespPkts, f.OrigIPBytes, f.RespIPBytes, f.OrigBytes, f.RespBytes)
}

// TestTheSameAsOfACapture compares the flows of a sensor, with one worker and with
// several, with those of a capture that dumpcap made at the same time.
func TestTheSameAsOfACapture(t *testing.T) {
	for _, workers := range []int{1, 3} {
		client, server := wire(t)
		dumpcap := testkit.Tool(t, "dumpcap")
		capture := filepath.Join(t.TempDir(), "server.pcap")
		cmd := server.Command(t.Context(), dumpcap, "-q", "-P", "-i", "eth0", "-w", capture)
		stderr, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var said strings.Builder
		for b := make([]byte, 256); !strings.Contains(said.String(), "File:"); {
			n, err := stderr.Read(b)
			if said.Write(b[:n]); err != nil {
				t.Fatalf("dumpcap: %v\n%s", err, said.String())
			}
		}
		go func() { _, _ = io.Copy(io.Discard, stderr) }()
		s, out := watch(t, server, func(c *Configuration) { c.Workers = workers })
		talk(t, client, server, 20)
		time.Sleep(300 * time.Millisecond)
		if err := s.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Process.Signal(syscall.SIGINT)
		_ = cmd.Wait()
		recording, err := packets.Open(capture)
		if err != nil {
			t.Fatal(err)
		}
		count := map[string]int{}
		if _, err := recording.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
			for i := range batch {
				if batch[i].Proto == flow.TCP {
					count[essence(&batch[i])]++
				}
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if len(count) != 40 {
			t.Errorf("%d TCP flows in the capture, want 40", len(count))
		}
		for _, f := range out.all() {
			if f.Proto == flow.TCP {
				count[essence(&f)]--
			}
		}
		for what, n := range count {
			if n != 0 {
				t.Errorf("%d workers: %+d times in the capture: %s", workers, n, what)
			}
		}
		if out.counts.Dropped != 0 || out.counts.Packets < 40*3 || out.counts.Lost != 0 {
			t.Errorf("%+v", out.counts)
		}
	}
}

// TestFailuresComeWhenTheyFail: a refused connection is sent
// while the sensor runs, long before their flows would time out.
func TestFailuresComeWhenTheyFail(t *testing.T) {
	client, server := wire(t)
	s, out := watch(t, server, nil)
	talk(t, client, server, 1)
	seen := func() map[flow.State]int {
		n := map[flow.State]int{}
		for _, f := range out.all() {
			n[f.State]++
		}
		return n
	}
	for range 150 {
		if seen()[flow.REJ] > 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	if n := seen(); n[flow.REJ] != 1 {
		t.Errorf("%v of the flows were sent while the sensor runs", n)
	}
	if err := s.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// TestWhatCannotBeSentIsCounted: while the disk is full flows are lost, and their
// number is told afterwards.
func TestWhatCannotBeSentIsCounted(t *testing.T) {
	client, server := wire(t)
	s, out := watch(t, server, nil)
	out.mu.Lock()
	out.fail = errors.New("no space left on device")
	out.mu.Unlock()
	talk(t, client, server, 3)
	time.Sleep(7 * time.Second) // connections linger for five
	out.mu.Lock()
	out.fail = nil
	out.mu.Unlock()
	if err := s.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if out.counts.Lost < 6 {
		t.Errorf("%+v: want six flows lost at least", out.counts)
	}
}

// TestOneCapability runs a sensor as user nobody with CAP_NET_RAW only.
func TestOneCapability(t *testing.T) {
	if os.Getenv("DRAGNET_SENSOR_CHILD") != "" {
		c := DefaultConfiguration()
		c.Live.Interface = "eth0"
		s, err := New(c, Dependencies{Out: &outbox{}, Log: slog.New(slog.DiscardHandler)})
		if err == nil {
			err = s.Start(context.Background())
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		return
	}
	_, server := wire(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The binary may lie where nobody cannot read.
	copied := filepath.Join(os.TempDir(), fmt.Sprintf("sensor-test-%d", os.Getpid()))
	text, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, text, 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(copied)
	for caps, works := range map[string]bool{"+net_raw": true, "": false} {
		args := []string{"--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all" + strings.ReplaceAll(caps, "+", ",+"),
			"--inh-caps=-all" + strings.ReplaceAll(caps, "+", ",+"), "--ambient-caps=-all" + strings.ReplaceAll(caps, "+", ",+"), copied, "-test.run=^TestOneCapability$"}
		cmd := server.Command(t.Context(), testkit.Tool(t, "setpriv"), args...)
		cmd.Env = append(os.Environ(), "DRAGNET_SENSOR_CHILD=1", "TMPDIR=/tmp")
		cmd.Dir = "/"
		out, err := cmd.CombinedOutput()
		if (err == nil) != works {
			t.Errorf("with capabilities %q: %v\n%s", caps, err, out)
		}
	}
}

func sample() Batch {
	return Batch{Counts{1, 2, 3, 4, 5}, []flow.Flow{
		{Start: 1795600000_123456789, Duration: time.Second, Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("2001:db8::7"), OrigPort: 65535, RespPort: 443,
			Proto: flow.TCP, State: flow.OTH, OrigFlags: 255, RespFlags: flow.SYN, ICMPError: 65535, Known: flow.AllColumns, Sampling: 1, OrigISN: 1<<32 - 1, RespISN: 7,
			History: "ShADadFf", OrigBytes: 1<<64 - 1, RespBytes: 5, OrigPkts: 9, RespPkts: 8, OrigIPBytes: 1 << 40, RespIPBytes: 400, MissedBytes: 3},
		{Orig: netip.MustParseAddr("192.0.2.1"), Resp: netip.MustParseAddr("192.0.2.2"), Sampling: 1},
	}}
}

func TestBatchesComeBack(t *testing.T) {
	b := sample()
	got, err := Decode(b.Encode())
	if err != nil || !reflect.DeepEqual(*got, b) {
		t.Errorf("%+v, %v", got, err)
	}
	whole := b.Encode()
	for n := range whole {
		if _, err := Decode(whole[:n]); err == nil {
			t.Fatalf("%d bytes of %d are a batch", n, len(whole))
		}
	}
	long := b.Flows[0]
	long.History = strings.Repeat("D", 1000)
	if size := len(appendFlow(nil, &long)); size > maxFlow {
		t.Errorf("a flow takes %d bytes, more than %d", size, maxFlow)
	}
}

func FuzzDecode(f *testing.F) {
	b := sample()
	f.Add(b.Encode())
	f.Add([]byte{0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0x0f})
	f.Add((&Batch{}).Encode())
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := Decode(raw)
		if err != nil {
			return
		}
		again, err := Decode(b.Encode())
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Fatalf("%+v, %+v, %v", b, again, err)
		}
	})
}
