package collect

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/netflow"
	"dragnet/source/packets"
	"dragnet/source/sflow"
	"dragnet/source/sourcetest"
)

// begin starts a collector on a free port of loopback.
func begin(t *testing.T, file string, change func(*Configuration)) *Collector {
	t.Helper()
	config := DefaultConfiguration()
	config.Exporters = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	config.Listen = []string{"127.0.0.1:0"}
	config.ReceiveBuffer = 1 << 20
	if change != nil {
		change(&config)
	}
	c, err := New(config, Dependencies{File: file, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return c
}

// end stops a collector and returns all it made.
func end(t *testing.T, c *Collector) (flows []flow.Flow) {
	t.Helper()
	if err := c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := c.Take(func(batch []flow.Flow) error { flows = append(flows, batch...); return nil }); err != nil {
		t.Fatal(err)
	}
	return flows
}

// settle waits until the given number of datagrams was received or dropped.
func settle(t *testing.T, c *Collector, datagrams uint64) {
	t.Helper()
	for range 2000 {
		if n := c.Totals(); n.Datagrams+n.Overflowed >= datagrams {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatalf("of %d datagrams: %+v", datagrams, c.Totals())
}

func dial(t *testing.T, c *Collector) net.Conn {
	t.Helper()
	conn, err := net.Dial("udp", c.Addresses()[0].String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// TestSoftflowd has softflowd export captures in each version, and compares the
// flows with those made of the packets themselves.
func TestSoftflowd(t *testing.T) {
	softflowd := testkit.Tool(t, "softflowd")
	capture := testkit.Data(t, "benign", "http.pcap")
	log, err := packets.Open(capture)
	if err != nil {
		t.Fatal(err)
	}
	type ends struct {
		orig, resp         netip.Addr
		origPort, respPort uint16
	}
	type counts struct{ orig, resp uint64 }
	want := map[ends]counts{}
	if _, err := log.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		for _, f := range batch {
			at := ends{f.Orig, f.Resp, f.OrigPort, f.RespPort}
			n := want[at]
			want[at] = counts{n.orig + f.OrigPkts, n.resp + f.RespPkts}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"5", "9", "10"} {
		c := begin(t, "", nil)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := exec.CommandContext(ctx, softflowd, "-d", "-a", "-r", capture, "-v", version, "-n", c.Addresses()[0].String(),
			"-p", filepath.Join(t.TempDir(), "pid"), "-c", "none").CombinedOutput()
		cancel()
		if err != nil {
			t.Fatalf("softflowd: %v\n%s", err, out)
		}
		settle(t, c, 1)
		time.Sleep(200 * time.Millisecond) // what softflowd sent is in the socket's buffer
		got := map[ends]counts{}
		for _, f := range end(t, c) {
			at := ends{f.Orig, f.Resp, f.OrigPort, f.RespPort}
			n := got[at]
			got[at] = counts{n.orig + f.OrigPkts, n.resp + f.RespPkts}
		}
		wrong := 0
		for at, n := range want {
			if got[at] != n {
				wrong++
				if wrong < 5 {
					t.Logf("version %s: %+v has %+v packets, want %+v; reversed %+v", version, at, got[at], n, got[ends{at.resp, at.orig, at.respPort, at.origPort}])
				}
			}
		}
		if wrong > 0 || len(got) != len(want) {
			t.Errorf("version %s: %d of %d flows differ; %d were made", version, wrong, len(want), len(got))
		}
		for _, e := range c.Exporters() {
			if e.Lost() > 0 || e.NetFlow.Malformed > 0 {
				t.Errorf("version %s: %+v", version, e)
			}
		}
	}
}

func TestOpenVSwitchIntoOnePort(t *testing.T) {
	c := begin(t, "", nil)
	conn := dial(t, c)
	all := sourcetest.Datagrams(t, testkit.Data(t, "exports", "ovs-netflow-sflow-ipfix.pcap.gz"), func(b []byte) bool { return netflow.Is(b) || sflow.Is(b) })
	for i, g := range all {
		if _, err := conn.Write(g.Data); err != nil {
			t.Fatal(err)
		}
		if i%50 == 0 {
			settle(t, c, uint64(i))
		}
	}
	settle(t, c, uint64(len(all)))
	flows := end(t, c)
	totals := c.Totals()
	if totals.Datagrams+totals.Overflowed != uint64(len(all)) || totals.Flows != uint64(len(flows)) || len(flows) == 0 || totals.Unknown+totals.Foreign > 0 {
		t.Errorf("%d flows of %d datagrams: %+v", len(flows), len(all), totals)
	}
	for _, e := range c.Exporters() {
		if e.Lost() > totals.Overflowed || e.SFlow.Records == 0 || e.NetFlow.Records == 0 || e.Quality.Sampling != 64 {
			t.Errorf("%+v", e)
		}
	}
}

// datagram5 is a datagram of version 5 with one flow.
func datagram5(number uint32) []byte {
	b := make([]byte, 24+48)
	b[1], b[3] = 5, 1
	binary.BigEndian.PutUint32(b[8:], 1_700_000_000)
	binary.BigEndian.PutUint32(b[16:], number)
	copy(b[24:], []byte{10, 0, byte(number >> 8), byte(number), 198, 51, 100, 1})
	b[24+19], b[24+38] = 1, 17
	return b
}

// TestOverflowIsCounted: while the collector is busy, the kernel drops, and
// says how many.
func TestOverflowIsCounted(t *testing.T) {
	c := begin(t, "", func(c *Configuration) { c.ReceiveBuffer = 1 << 16 })
	conn := dial(t, c)
	const sent = 3000
	c.mu.Lock()
	for n := range uint32(sent) {
		_, _ = conn.Write(datagram5(n))
	}
	c.mu.Unlock()
	for range 2000 {
		if c.Totals().Overflowed > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
		_, _ = conn.Write(datagram5(sent)) // brings the count
	}
	end(t, c)
	if n := c.Totals(); n.Overflowed == 0 || n.Datagrams+n.Overflowed < sent {
		t.Errorf("%+v", n)
	}
}

func TestOnlyNamedExportersAreHeard(t *testing.T) {
	c := begin(t, "", func(c *Configuration) { c.Exporters = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	conn := dial(t, c)
	_, _ = conn.Write(datagram5(0))
	settle(t, c, 1)
	if flows := end(t, c); len(flows) != 0 || c.Totals().Foreign != 1 || len(c.Exporters()) != 0 {
		t.Errorf("%d flows, %+v", len(flows), c.Totals())
	}
	off, err := New(DefaultConfiguration(), Dependencies{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := off.Start(context.Background()); err != nil || len(off.Addresses()) != 0 {
		t.Errorf("without exporters it listens on %v (%v)", off.Addresses(), err)
	}
}

func TestPendingFlowsAreBounded(t *testing.T) {
	c := begin(t, "", func(c *Configuration) { c.MaxPending = 10 })
	conn := dial(t, c)
	for n := range uint32(100) {
		_, _ = conn.Write(datagram5(n))
	}
	settle(t, c, 100)
	flows := end(t, c)
	if n := c.Totals(); len(flows) != 10 || n.Dropped != 90 || n.Flows != 100 {
		t.Errorf("%d flows, %+v", len(flows), n)
	}
	select {
	case <-c.Full():
	default:
		t.Error("the collector did not say that much is pending")
	}
}

// TestTemplatesOutliveARestart: the second collector gets data only.
func TestTemplatesOutliveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates.json")
	all := sourcetest.Datagrams(t, testkit.Data(t, "exports", "softflowd_xscan_v9.pcap"), netflow.Is)
	made := [2]int{}
	for run := range made {
		c := begin(t, file, nil)
		conn := dial(t, c)
		g := all[run*4].Data // softflowd repeats its templates, though not in the fifth
		if run == 1 && binary.BigEndian.Uint16(g[20:]) < 256 {
			t.Fatal("the datagram has a template")
		}
		_, _ = conn.Write(g)
		settle(t, c, uint64(run)+1)
		made[run] = len(end(t, c))
	}
	if made[0] == 0 || made[1] == 0 {
		t.Errorf("%v flows", made)
	}
}

// TestCountsOutliveARestart: flows missing before a restart and while nothing
// listened are counted; after an end without Stop, what was counted is
// kept, and what came since the last save is not taken for missing.
func TestCountsOutliveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "templates.json")
	step := func(stop bool, numbers ...uint32) (ExporterCounts, Totals) {
		c := begin(t, file, nil)
		conn := dial(t, c)
		before := c.Totals().Datagrams
		for _, n := range numbers {
			_, _ = conn.Write(datagram5(n))
		}
		settle(t, c, before+uint64(len(numbers)))
		if stop {
			end(t, c)
		} else {
			c.closeSockets()
			if err := c.group.Stop(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return c.Sources()[0], c.Totals()
	}
	step(true, 1, 2, 12) // 9 are missing
	s, totals := step(true, 22, 23)
	if s.NetFlow.Lost != 18 || s.NetFlow.Records != 5 || s.Quality.Flows != 5 || totals.Datagrams != 5 || totals.Flows != 5 || totals.Killed != 0 {
		t.Errorf("%+v, %+v", s, totals)
	}
	step(false, 24, 25, 26) // killed after its last save
	s, totals = step(true, 1000, 1001, 1003)
	if s.NetFlow.Lost != 19 || s.NetFlow.Records != 8 || totals.Killed != 1 {
		t.Errorf("after it was killed: %+v, %+v", s, totals)
	}
	if err := os.WriteFile(file, []byte(`{"version":9}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, _ = step(true, 5); s.NetFlow.Records != 1 {
		t.Errorf("after a file of another version: %+v", s)
	}
}

func TestSettingsThatMakeNoSense(t *testing.T) {
	for want, change := range map[string]func(*Configuration){
		"named twice": func(c *Configuration) {
			c.Exporters = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.1/32")}
		},
		"exporters[0]":        func(c *Configuration) { c.Exporters = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")} },
		"listen[0]":           func(c *Configuration) { c.Listen = []string{"2055"} },
		"receive_buffer":      func(c *Configuration) { c.ReceiveBuffer = 1 },
		"max_pending":         func(c *Configuration) { c.MaxPending = 0 },
		"netflow.max_domains": func(c *Configuration) { c.NetFlow.MaxDomains = 0 },
		"sflow.max_sources":   func(c *Configuration) { c.SFlow.MaxSources = 0 },
		"join.wait":           func(c *Configuration) { c.Join.Wait = 0 },
	} {
		c := DefaultConfiguration()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// TestCountsByConfiguredPrefix: what was counted stays with the prefix that the
// configuration names, however many addresses of it come and go.
func TestCountsByConfiguredPrefix(t *testing.T) {
	c := DefaultConfiguration()
	c.NetFlow.MaxExporters, c.Join.MaxExporters = 3, 3
	c.Exporters = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.0.2.128/25"), netip.MustParsePrefix("198.51.100.0/24")}
	k, err := New(c, Dependencies{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	hour := flow.Time(time.Hour)
	for i := range 40 {
		// Every exporter sends two datagrams, the second after a gap of ten flows.
		from := netip.AddrFrom4([4]byte{192, 0, 2, byte(100 + i)})
		for n := range uint32(2) {
			k.takeDatagram(flow.Time(i)*2*hour+1, from, datagram5(n*11), &socket{})
		}
	}
	all := k.Sources()
	for i, want := range []uint64{28, 12, 0} {
		if n := all[i].NetFlow; n.Datagrams != 2*want || n.Records != 2*want || all[i].Lost() != 10*want || all[i].Quality.Records != 2*want {
			t.Errorf("%s: %+v, want %d exporters", all[i].Prefix, all[i], want)
		}
	}
	if n := all[0].Exporters + all[1].Exporters; n != 3 || len(k.Exporters()) != 3 {
		t.Errorf("%d exporters are known", n)
	}
}
