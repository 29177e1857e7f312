package failures_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dragnet/detect/failures"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
)

// read feeds a log or capture to f.
func read(t testing.TB, path string, f func([]flow.Flow)) {
	t.Helper()
	log, err := ingest.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex // batches come from several goroutines
	if _, err := log.Scan(context.Background(), flow.AllTime, failures.Columns, func(flows []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		f(flows)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func detect(t testing.TB, c failures.Configuration, path string) []dossier.Finding {
	t.Helper()
	d := failures.New(c)
	read(t, path, d.Add)
	return d.Findings()
}

// Real scans at a server: every source that plain counting calls a scanner is
// named, and no other host.
func TestScannersOfARealServer(t *testing.T) {
	path := testkit.Data(t, "zeek-logs", "missing_host")
	c := failures.DefaultConfiguration()
	c.Silence = 100 // only refusals, as plain counting does below

	type day struct {
		src, victim netip.Addr
		day         int64
	}
	refused, reached := map[day]map[uint16]bool{}, map[day]map[uint16]bool{}
	mark := func(m map[day]map[uint16]bool, k day, port uint16) {
		for range 5 { // every window that the quarter of a day lies in
			if m[k] == nil {
				m[k] = map[uint16]bool{}
			}
			m[k][port] = true
			k.day--
		}
	}
	silent := map[day]map[uint16]bool{}
	read(t, path, func(flows []flow.Flow) {
		for _, f := range flows {
			k := day{f.Orig, f.Resp, int64(f.Start) / int64(6*time.Hour)}
			switch {
			case f.Proto != flow.TCP:
			case f.State == flow.REJ:
				mark(refused, k, f.RespPort)
			case f.State == flow.S0 || f.State == flow.RSTOS0 || f.State == flow.SH:
				mark(silent, k, f.RespPort)
			case f.Established():
				mark(reached, k, f.RespPort)
			}
		}
	})
	want := map[netip.Addr]bool{}
	for k, ports := range refused {
		failed := len(ports) + len(silent[k])
		if len(ports) >= 25 && float64(failed)/float64(failed+len(reached[k])) >= 0.8 {
			want[k.src] = true
		}
	}
	got := map[netip.Addr]bool{}
	for _, f := range detect(t, c, path) {
		if f.Kind == "port-scan" {
			got[f.Addr] = true
		}
		if !want[f.Addr] {
			t.Errorf("%s is reported, which plain counting does not: %s", f.Addr, f.Summary)
		}
		if len(f.Evidence.Flows) == 0 || f.ID == "" {
			t.Errorf("%s: finding without evidence or identity", f.Addr)
		}
	}
	if len(want) < 50 || len(got) != len(want) {
		t.Errorf("%d scanners found, plain counting finds %d (at least 50)", len(got), len(want))
	}
}

func TestQuietOfficeHasNoFinding(t *testing.T) {
	for _, elem := range [][]string{{"zeek-logs", "proxy_rolling"}, {"zeek-logs", "json"}, {"benign"}} {
		path := testkit.Data(t, elem...)
		for _, f := range detect(t, failures.DefaultConfiguration(), path) {
			t.Errorf("%s: %s", filepath.Join(elem...), f.Summary)
		}
	}
}

func TestBenignCapturesHaveNoFinding(t *testing.T) {
	dir := testkit.Data(t, "ndpi")
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		for _, found := range detect(t, failures.DefaultConfiguration(), filepath.Join(dir, f.Name())) {
			t.Errorf("%s: %s", f.Name(), found.Summary)
		}
	}
}

var start = flow.FromTime(time.Date(2026, 3, 1, 9, 0, 0, 0, time.UTC))

func one(n int, src, dst netip.Addr, port uint16, s flow.State) flow.Flow {
	return flow.Flow{Start: start + flow.Time(n)*flow.Time(time.Second), Orig: src, Resp: dst, OrigPort: uint16(n), RespPort: port, Proto: flow.TCP, State: s}
}

func addr(prefix string, n int) netip.Addr {
	a := netip.MustParseAddr(prefix).As4()
	a[2], a[3] = a[2]+byte(n>>8), byte(n)
	return netip.AddrFrom4(a)
}

// What looks like scanning and is not.
func TestFalsePositives(t *testing.T) {
	us := netip.MustParseAddr("192.0.2.10")
	server := netip.MustParseAddr("198.51.100.1")
	cases := map[string]func(n int) flow.Flow{
		"peer-to-peer client with dead peers": func(n int) flow.Flow {
			s := flow.REJ
			if n%3 == 0 {
				s = flow.SF
			}
			return one(n, us, addr("100.0.0.0", n), uint16(10000+n*37%50000), s)
		},
		"popular server down, many clients": func(n int) flow.Flow { return one(n, addr("192.0.2.0", n%200), server, 443, flow.REJ) },
		"one client that never gives up":    func(n int) flow.Flow { return one(n, us, server, 443, flow.REJ) },
		"gateway of many users": func(n int) flow.Flow {
			s := flow.SF
			if n%4 == 0 {
				s = flow.REJ
			}
			return one(n, us, addr("100.0.0.0", n), 443, s)
		},
		"backscatter of a forged flood": func(n int) flow.Flow {
			return one(n, server, addr("192.0.2.0", n), uint16(n), []flow.State{flow.OTH, flow.SHR, flow.RSTRH}[n%3])
		},
		"flood with forged sources at our server": func(n int) flow.Flow { return one(n, addr("100.0.0.0", n), us, 80, flow.S0) },
		"allowed scanner": func(n int) flow.Flow {
			return one(n, netip.MustParseAddr("203.0.113.9"), addr("192.0.2.0", n), 22, flow.REJ)
		},
		"service discovery of our own host": func(n int) flow.Flow { return one(n, us, addr("192.0.2.0", n%90), 9100, flow.REJ) },
	}
	for name, make := range cases {
		c := failures.DefaultConfiguration()
		c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		c.Exempt = []netip.Prefix{netip.MustParsePrefix("203.0.113.9/32")}
		d := failures.New(c)
		for n := range 2000 {
			d.Add([]flow.Flow{make(n)})
		}
		for _, f := range d.Findings() {
			t.Errorf("%s: %s", name, f.Summary)
		}
	}
}

func TestScansAreFound(t *testing.T) {
	stranger, us := netip.MustParseAddr("100.0.0.1"), netip.MustParseAddr("192.0.2.10")
	for name, c := range map[string]struct {
		kind string
		n    int
		flow func(n int) flow.Flow
	}{
		"many hosts, one port":    {"address-scan", 25, func(n int) flow.Flow { return one(n, stranger, addr("192.0.2.0", n), 22, flow.REJ) }},
		"many ports, one host":    {"port-scan", 25, func(n int) flow.Flow { return one(n, stranger, us, uint16(1+n), flow.REJ) }},
		"silence, many hosts":     {"address-scan", 25, func(n int) flow.Flow { return one(n, stranger, addr("192.0.2.0", n), 23, flow.S0) }},
		"ours, outward":           {"address-scan", 25, func(n int) flow.Flow { return one(n, us, addr("100.0.0.0", n), 445, flow.REJ) }},
		"ours, ports of one host": {"port-scan", 100, func(n int) flow.Flow { return one(n, us, stranger, uint16(1+n), flow.REJ) }},
		"behind a gateway whose other users succeed": {"address-scan", 4 * 100, func(n int) flow.Flow {
			if n%4 < 3 {
				return one(n, us, addr("100.0.0.0", n), 443, flow.SF)
			}
			return one(n, us, addr("100.0.0.0", n), 445, flow.REJ)
		}},
		"many ports, silence": {"address-scan", 25, func(n int) flow.Flow {
			return one(n, stranger, addr("192.0.2.0", n), []uint16{23, 2323, 445, 5555}[n%4], flow.S0)
		}},
		"across midnight": {"address-scan", 25, func(n int) flow.Flow {
			f := one(n, stranger, addr("192.0.2.0", n), 22, flow.REJ)
			f.Start = flow.FromTime(time.Date(2026, 3, 2, 0, 0, n-12, 0, time.UTC))
			return f
		}},
		"the same hosts every day": {"address-scan", 25, func(n int) flow.Flow {
			f := one(n, stranger, addr("192.0.2.0", n%25), 22, flow.REJ)
			f.Start += flow.Time(n/25) * flow.Time(24*time.Hour)
			return f
		}},
		"half-open": {"address-scan", 25, func(n int) flow.Flow {
			f := one(n, stranger, addr("192.0.2.0", n), 80, flow.RSTO)
			f.History, f.Known = "ShR", flow.History
			return f
		}},
		"UDP, with ICMP unreachable": {"address-scan", 25, func(n int) flow.Flow {
			f := one(n, stranger, addr("192.0.2.0", n), 161, flow.StateUnknown)
			f.Proto, f.ICMPError = flow.UDP, 3<<8|3
			return f
		}},
	} {
		conf := failures.DefaultConfiguration()
		conf.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		d := failures.New(conf)
		for n := range c.n - 1 {
			d.Add([]flow.Flow{c.flow(n)})
		}
		if got := d.Findings(); len(got) != 0 {
			t.Errorf("%s: reported after %d targets: %s", name, c.n-1, got[0].Summary)
		}
		d.Add([]flow.Flow{c.flow(c.n - 1)})
		if got := d.Findings(); len(got) != 1 || got[0].Kind != c.kind {
			t.Errorf("%s: after %d targets %v", name, c.n, got)
		}
	}
}

// Somebody who forges a resolver's address makes it look like a scanner: such a
// finding is marked, and does not block.
func TestForgedSourceIsNoAccusation(t *testing.T) {
	resolver, us := netip.MustParseAddr("198.51.100.53"), netip.MustParseAddr("192.0.2.10")
	find := func(c failures.Configuration, src netip.Addr, more ...flow.Flow) dossier.Finding {
		d := failures.New(c)
		d.Add(more)
		for n := range 30 {
			f := one(n, src, addr("192.0.2.0", n), 80, flow.REJ)
			if n%2 == 0 { // an open port: the resolver resets what it did not ask for
				f.State, f.History, f.Known = flow.RSTO, "ShR", flow.History
			}
			d.Add([]flow.Flow{f})
		}
		if all := d.Findings(); len(all) == 1 {
			return all[0]
		}
		t.Fatal("want one finding")
		return dossier.Finding{}
	}
	c := failures.DefaultConfiguration()
	if f := find(c, resolver); !f.Unverified || !f.IsWeak() || f.Evidence.Counts["handshakes"] != 0 {
		t.Errorf("forged: %+v", f)
	}
	visit := one(99, resolver, us, 443, flow.SF)
	if f := find(c, resolver, visit); f.Unverified || f.Evidence.Counts["handshakes"] != 1 {
		t.Errorf("after a handshake: %+v", f)
	}
	c.Networks = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	if f := find(c, us); !f.Unverified {
		t.Errorf("ours, not validated: %+v", f)
	}
	c.Validated = true
	if f := find(c, us); f.Unverified {
		t.Errorf("ours, validated: %+v", f)
	}
}

// A one-sided capture shows no answer although there were.
func TestOneSidedCaptureIsNoScan(t *testing.T) {
	d := failures.New(failures.DefaultConfiguration())
	for n := range 200 {
		f := one(n, netip.MustParseAddr("192.0.2.10"), addr("100.0.0.0", n), 443, flow.S0)
		f.History, f.Known = "SADF", flow.History
		d.Add([]flow.Flow{f})
	}
	if all := d.Findings(); len(all) > 0 {
		t.Errorf("%s", all[0].Summary)
	}
}

// Only the protected ports count where they are named.
func TestPortsRestrict(t *testing.T) {
	c := failures.DefaultConfiguration()
	c.Ports = []uint16{445}
	d := failures.New(c)
	for n := range 60 {
		d.Add([]flow.Flow{one(n, netip.MustParseAddr("100.0.0.1"), addr("192.0.2.0", n), 22, flow.REJ)})
	}
	if all := d.Findings(); len(all) > 0 {
		t.Errorf("%s", all[0].Summary)
	}
}

// The order of flows does not matter, nor does saying them twice.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var flows []flow.Flow
		for n := range rapid.IntRange(1, 120).Draw(t, "n") {
			s := rapid.SampledFrom([]flow.State{flow.REJ, flow.S0, flow.SF, flow.OTH}).Draw(t, "state")
			flows = append(flows, one(n, addr("100.0.0.0", rapid.IntRange(0, 1).Draw(t, "src")), addr("192.0.2.0", rapid.IntRange(0, 60).Draw(t, "dst")), 22, s))
		}
		c := failures.DefaultConfiguration()
		c.Remote = 5
		ids := func(flows []flow.Flow) string {
			d := failures.New(c)
			d.Add(flows)
			out := ""
			for _, f := range d.Findings() {
				out += fmt.Sprint(f.ID, f.Kind, f.Evidence.Counts, ";")
			}
			return out
		}
		mixed := append(rapid.Permutation(flows).Draw(t, "order"), flows...)
		if a, b := ids(flows), ids(mixed); a != b {
			t.Fatalf("%s\n%s", a, b)
		}
	})
}

// A flood of sources cannot grow the memory, nor push out a scanner.
func TestMemoryIsBounded(t *testing.T) {
	c := failures.DefaultConfiguration()
	c.Groups = 2000
	d := failures.New(c)
	for n := range 60_000 {
		d.Add([]flow.Flow{one(n, addr("100.0.0.0", n), netip.MustParseAddr("192.0.2.1"), 80, flow.S0)})
		if n%300 == 0 {
			d.Add([]flow.Flow{one(n, netip.MustParseAddr("203.0.113.1"), addr("192.0.2.0", n/300), 22, flow.REJ)})
		}
	}
	if d.Forgotten == 0 {
		t.Error("nothing was forgotten: the bound was not reached")
	}
	if got := d.Findings(); len(got) != 1 || got[0].Addr.String() != "203.0.113.1" {
		t.Errorf("%d findings, want the one scanner", len(got))
	}
}

func TestDailyFiguresOfTheOffice(t *testing.T) {
	d := failures.NewDaily([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.168.0.0/16")})
	read(t, testkit.Data(t, "zeek-logs", "proxy_rolling"), d.Add)
	f := d.Figures()
	if f.Hosts == 0 || f.Worst > 63 || f.Average > 10.1 {
		t.Errorf("%+v: normal hosts should stay within Table 2-1's 63 at worst and 10.1 on average", f)
	}
}

func BenchmarkDetector(b *testing.B) {
	var flows []flow.Flow
	for n := range 1 << 17 {
		s := flow.SF
		if n%2 == 0 {
			s = flow.REJ
		}
		flows = append(flows, one(n, addr("100.0.0.0", n%5000), addr("192.0.2.0", n/7%60000), uint16(n%50), s))
	}
	measure(b, flows)
}

func BenchmarkRealLog(b *testing.B) {
	var flows []flow.Flow
	read(b, testkit.Data(b, "zeek-logs", "missing_host"), func(f []flow.Flow) { flows = append(flows, f...) })
	measure(b, flows)
}

// measure detects in the flows again and again; cpu-ns/flow is what a busy
// machine blurs less.
func measure(b *testing.B, flows []flow.Flow) {
	b.ResetTimer()
	cpu := cpuTime(b)
	for b.Loop() {
		d := failures.New(failures.DefaultConfiguration())
		d.Add(flows)
	}
	done := float64(len(flows)) * float64(b.N)
	b.ReportMetric(done/b.Elapsed().Seconds()/1e6, "Mflows/s")
	b.ReportMetric(float64(cpuTime(b)-cpu)/done, "cpu-ns/flow")
}

// cpuTime is the processor time this process has used, garbage collection
// included.
func cpuTime(b *testing.B) int64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
