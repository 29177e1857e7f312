package dnsbl_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"dragnet/internal/testkit"
	"dragnet/publish"
	"dragnet/publish/dnsbl"
	"dragnet/publish/publishtest"
)

const zone = "bl.example.org."

// list is a running server over a source.
type list struct {
	testing.TB
	source *publishtest.Source
	feed   *publish.Feed
	server *dnsbl.Server
	config dnsbl.Configuration
}

func start(t testing.TB, change func(*dnsbl.Configuration)) *list {
	t.Helper()
	l := &list{TB: t, source: publishtest.New(), config: dnsbl.DefaultConfiguration()}
	l.source.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	l.source.List("g2", nil, 40, "203.0.113.9")
	l.feed = l.source.Feed(t)
	l.config.Zone, l.config.Nameservers, l.config.Hostmaster = "bl.example.org", []string{"ns.example.org", "ns2.example.org"}, "hostmaster.example.org"
	l.config.Listen, l.config.Objections = "127.0.0.1:0", "https://example.org/objections"
	if change != nil {
		change(&l.config)
	}
	var err error
	if l.server, err = dnsbl.New(l.config, dnsbl.Dependencies{Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: l.source.Now}); err != nil {
		t.Fatal(err)
	}
	l.server.Update(l.feed.View())
	if err := l.server.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.stop)
	return l
}

func (l *list) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := l.server.Stop(ctx); err != nil {
		l.Error(err)
	}
}

func (l *list) port() string {
	_, port, err := net.SplitHostPort(l.server.Address())
	if err != nil {
		l.Fatal(err)
	}
	return port
}

func (l *list) ask(name string, kind uint16) *dns.Msg {
	l.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, kind)
	a, _, err := (&dns.Client{Timeout: 3 * time.Second}).Exchange(m, l.server.Address())
	if err != nil {
		l.Fatalf("%s: %v", name, err)
	}
	return a
}

const (
	six      = "7.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2." + zone
	testSix  = "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + zone
	wrongSix = "1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0." + zone
)

func TestAnswers(t *testing.T) {
	l := start(t, nil)
	for _, c := range []struct {
		name  string
		kind  uint16
		rcode int
		want  string // in the first answer; empty for none
	}{
		{"7.100.51.198." + zone, dns.TypeA, dns.RcodeSuccess, "127.0.0.2"},
		{"7.100.51.198." + zone, dns.TypeTXT, dns.RcodeSuccess, "pattern in dport=445, reported by at least 2 independent organisations since 2026-03-01T11:00:00Z; objections: https://example.org/objections"},
		{"7.100.51.198.BL.Example.ORG.", dns.TypeA, dns.RcodeSuccess, "127.0.0.2"},
		{"7.100.51.198." + zone, dns.TypeAAAA, dns.RcodeSuccess, ""},
		{"7.100.51.198." + zone, dns.TypeANY, dns.RcodeSuccess, "127.0.0.2"},
		{six, dns.TypeA, dns.RcodeSuccess, "127.0.0.2"}, {six, dns.TypeTXT, dns.RcodeSuccess, "dport=445"},
		{"9.113.0.203." + zone, dns.TypeA, dns.RcodeNameError, ""}, // not sure enough
		{"2.0.0.127." + zone, dns.TypeA, dns.RcodeSuccess, "127.0.0.2"}, {"1.0.0.127." + zone, dns.TypeA, dns.RcodeNameError, ""},
		{testSix, dns.TypeA, dns.RcodeSuccess, "127.0.0.2"}, {wrongSix, dns.TypeA, dns.RcodeNameError, ""},
		// Names above listed ones exist, without records.
		{"198." + zone, dns.TypeA, dns.RcodeSuccess, ""}, {"100.51.198." + zone, dns.TypeA, dns.RcodeSuccess, ""}, {"99.51.198." + zone, dns.TypeA, dns.RcodeNameError, ""},
		{"1.0.0.2." + zone, dns.TypeA, dns.RcodeSuccess, ""}, {"b.d.0.1.0.0.2." + zone, dns.TypeA, dns.RcodeSuccess, ""}, {"f.d.0.1.0.0.2." + zone, dns.TypeA, dns.RcodeNameError, ""},
		{zone, dns.TypeSOA, dns.RcodeSuccess, "hostmaster.example.org."}, {zone, dns.TypeNS, dns.RcodeSuccess, "ns.example.org."}, {zone, dns.TypeA, dns.RcodeSuccess, ""},
		{"www." + zone, dns.TypeA, dns.RcodeNameError, ""}, {"07.100.51.198." + zone, dns.TypeA, dns.RcodeNameError, ""}, {"256.100.51.198." + zone, dns.TypeA, dns.RcodeNameError, ""},
		{"example.com.", dns.TypeA, dns.RcodeRefused, ""}, {"xbl.example.org.", dns.TypeA, dns.RcodeRefused, ""},
		{zone, dns.TypeAXFR, dns.RcodeRefused, ""},
	} {
		a := l.ask(c.name, c.kind)
		got := ""
		if len(a.Answer) > 0 {
			got = a.Answer[0].String()
		}
		if a.Rcode != c.rcode || (c.want == "") != (got == "") || !strings.Contains(got, c.want) {
			t.Errorf("%s %s: %s, %q; want %s, %q", c.name, dns.TypeToString[c.kind], dns.RcodeToString[a.Rcode], got, dns.RcodeToString[c.rcode], c.want)
		}
		if got == "" && c.rcode != dns.RcodeRefused && (len(a.Ns) != 1 || a.Ns[0].Header().Rrtype != dns.TypeSOA) {
			t.Errorf("%s: no SOA with a negative answer", c.name)
		}
	}
	l.source.Withdraw("g1", "198.51.100.7")
	l.server.Update(publishtest.Refresh(t, l.feed))
	if a := l.ask("7.100.51.198."+zone, dns.TypeA); a.Rcode != dns.RcodeNameError {
		t.Errorf("a withdrawn host: %v", a)
	}
}

// TestQuota floods from one address: what an unverified sender gets is never
// longer than what it sent.
func TestQuota(t *testing.T) {
	l := start(t, func(c *dnsbl.Configuration) { c.PerSecond = 5 })
	ask := func(c *dns.Conn, options ...dns.EDNS0) *dns.Msg {
		t.Helper()
		m := new(dns.Msg)
		m.SetQuestion("7.100.51.198."+zone, dns.TypeTXT)
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = options
		if err := c.WriteMsg(m); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
		a, err := c.ReadMsg()
		if err != nil {
			return nil
		}
		if a.Truncated && a.Len() > m.Len() {
			t.Errorf("an answer over the quota has %d bytes, the query %d", a.Len(), m.Len())
		}
		return a
	}
	udp, err := dns.Dial("udp", l.server.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	cookie := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}
	first := ask(udp, cookie)
	if first == nil || first.Rcode != dns.RcodeSuccess || len(first.IsEdns0().Option) != 1 {
		t.Fatalf("the first answer: %v", first)
	}
	var answered, truncated, dropped int
	for range 14 {
		switch a := ask(udp); {
		case a == nil:
			dropped++
		case a.Truncated:
			truncated++
		default:
			answered++
		}
	}
	if answered != 4 || truncated != 5 || dropped != 5 {
		t.Errorf("%d answered, %d truncated, %d dropped; want 4, 5, 5", answered, truncated, dropped)
	}
	// The flood may be forged: who is where it says has its own quota, over which it
	// is refused, never told "listed".
	tcp, err := dns.Dial("tcp", l.server.Address())
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	for i := range 6 {
		asks, want := func() *dns.Msg { return ask(udp, first.IsEdns0().Option[0]) }, dns.RcodeSuccess
		if i%2 == 1 { // as a truncated answer makes it
			asks = func() *dns.Msg { return ask(tcp) }
		}
		if i == 5 {
			want = dns.RcodeRefused
		}
		if a := asks(); a == nil || a.Rcode != want || (len(a.Answer) > 0) != (want == dns.RcodeSuccess) {
			t.Errorf("verified, for the %d. time: %v; want %s", i+1, a, dns.RcodeToString[want])
		}
	}
	forged := &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708" + strings.Repeat("01", 16)}
	if a := ask(udp, forged); a != nil {
		t.Errorf("with a forged cookie: %v", a)
	}
	l.source.Advance(2 * time.Second)
	if a := ask(udp); a == nil || a.Rcode != dns.RcodeSuccess {
		t.Errorf("in the next second: %v", a)
	}
}

func run(t *testing.T, program string, args ...string) string {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v: %s", program, args, err, out)
	}
	return string(out)
}

func TestDig(t *testing.T) {
	dig := testkit.Tool(t, "dig")
	l := start(t, nil)
	common := []string{"@127.0.0.1", "-p", l.port(), "+short", "+cookie"}
	for args, want := range map[string]string{
		"7.100.51.198." + zone + " A": "127.0.0.2\n", "7.100.51.198." + zone + " A +tcp": "127.0.0.2\n", "1.0.0.127." + zone + " A": "", six + " A": "127.0.0.2\n", zone + " NS": "ns.example.org.\nns2.example.org.\n",
	} {
		if got := run(t, dig, append(common, strings.Fields(args)...)...); got != want {
			t.Errorf("dig %s: %q, want %q", args, got, want)
		}
	}
}

// background runs a server until the end of the test.
func background(t *testing.T, program string, args ...string) *bytes.Buffer {
	t.Helper()
	out := &bytes.Buffer{}
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", program, out)
		}
	})
	return out
}

func freePort(t *testing.T) string {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, port, err := net.SplitHostPort(c.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// eventually asks until the answer is right.
func eventually(t *testing.T, port, name string, kind uint16, want string) {
	t.Helper()
	got := ""
	for range 100 {
		m := new(dns.Msg)
		m.SetQuestion(name, kind)
		a, _, err := (&dns.Client{Timeout: 500 * time.Millisecond}).Exchange(m, "127.0.0.1:"+port)
		switch {
		case err != nil:
			got = err.Error()
		case len(a.Answer) > 0:
			got = a.Answer[0].String()
		default:
			got = dns.RcodeToString[a.Rcode]
		}
		if strings.Contains(got, want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("%s: %s; want %s", name, got, want)
}

func TestRbldnsdServesTheFiles(t *testing.T) {
	rbldnsd := testkit.Tool(t, "rbldnsd")
	l := start(t, nil)
	dir := t.TempDir()
	var files []*os.File
	err := dnsbl.Files(l.config)(l.feed.View(), publish.Out{Create: func(path string) (io.Writer, error) {
		f, err := os.Create(filepath.Join(dir, filepath.Base(path)))
		files = append(files, f)
		return f, err
	}})
	for _, f := range files {
		f.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	background(t, rbldnsd, "-n", "-r", dir, "-b", "127.0.0.1/"+port, "bl.example.org:ip4set:ip4.rbldnsd", "bl.example.org:ip6trie:ip6.rbldnsd")
	eventually(t, port, "7.100.51.198."+zone, dns.TypeA, "127.0.0.2")
	for name, want := range map[string]string{
		"2.0.0.127." + zone: "127.0.0.2", "1.0.0.127." + zone: "NXDOMAIN", "9.113.0.203." + zone: "NXDOMAIN", six: "127.0.0.2", testSix: "127.0.0.2", wrongSix: "NXDOMAIN",
	} {
		eventually(t, port, name, dns.TypeA, want)
	}
	eventually(t, port, "7.100.51.198."+zone, dns.TypeTXT, "since 2026-03-01T11:00:00Z; objections: https://example.org/objections")
	eventually(t, port, zone, dns.TypeSOA, "hostmaster.example.org.")
}

// TestUnboundResolves asks through a resolver that minimises names and believes
// that nothing lies below a name that does not exist.
func TestUnboundResolves(t *testing.T) {
	unbound := testkit.Tool(t, "unbound")
	l := start(t, nil)
	port, dir := freePort(t), t.TempDir()
	conf := filepath.Join(dir, "unbound.conf")
	text := fmt.Sprintf(`server:
 interface: 127.0.0.1@%s
 do-not-query-localhost: no
 qname-minimisation: yes
 harden-below-nxdomain: yes
 module-config: "iterator"
 username: ""
 chroot: ""
 directory: %q
 pidfile: ""
 use-syslog: no
 local-zone: "127.in-addr.arpa." nodefault
stub-zone:
 name: "bl.example.org"
 stub-addr: 127.0.0.1@%s
remote-control:
 control-enable: no
`, port, dir, l.port())
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	background(t, unbound, "-d", "-p", "-c", conf)
	eventually(t, port, "9.113.0.203."+zone, dns.TypeA, "NXDOMAIN")
	eventually(t, port, "7.100.51.198."+zone, dns.TypeA, "127.0.0.2")
	eventually(t, port, six, dns.TypeTXT, "dport=445")
	eventually(t, port, testSix, dns.TypeA, "127.0.0.2")
}

// pipe is a ResponseWriter that keeps the answer.
type pipe struct {
	dns.ResponseWriter
	from netip.AddrPort
	got  *dns.Msg
}

func (p *pipe) RemoteAddr() net.Addr      { return net.UDPAddrFromAddrPort(p.from) }
func (p *pipe) WriteMsg(m *dns.Msg) error { p.got = m; _, err := m.Pack(); return err }
func (p *pipe) Close() error              { return nil }

// FuzzQuery answers arbitrary messages: the answer can be packed, fits, and
// never says "listed" of what is not.
func FuzzQuery(f *testing.F) {
	l := start(f, func(c *dnsbl.Configuration) { c.PerSecond = 1 << 30 })
	for _, name := range []string{"7.100.51.198." + zone, six, zone, "."} {
		m := new(dns.Msg)
		m.SetQuestion(name, dns.TypeTXT)
		m.SetEdns0(4096, true)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(dns.Msg)
		if m.Unpack(b) != nil {
			return
		}
		w := &pipe{from: netip.MustParseAddrPort("192.0.2.1:53")}
		l.server.Answer(w, m)
		if w.got == nil {
			t.Fatal("no answer")
		}
		if n := w.got.Len(); n > 1232 {
			t.Fatalf("%d bytes over UDP", n)
		}
		for _, rr := range w.got.Answer {
			name := strings.ToLower(rr.Header().Name)
			if _, isA := rr.(*dns.A); isA && name != "7.100.51.198."+zone && name != six && name != testSix && name != "2.0.0.127."+zone {
				t.Fatalf("%s is listed", name)
			}
		}
	})
}

// BenchmarkAnswers asks over UDP from this process: client and server share the
// processors. 300,000 hosts are listed; half of the queries are about those.
func BenchmarkAnswers(b *testing.B) {
	l := start(b, func(c *dnsbl.Configuration) { c.PerSecond, c.MinConfidence = 1<<30, 0 })
	l.source.Fill(300_000)
	l.server.Update(publishtest.Refresh(b, l.feed))
	var queries [][]byte
	for i := range 10_000 {
		host := publishtest.Host(i * 30)
		if i%2 == 1 {
			host = host.Next()
		}
		name, err := dns.ReverseAddr(host.String())
		if err != nil {
			b.Fatal(err)
		}
		m := new(dns.Msg)
		m.SetQuestion(strings.TrimSuffix(strings.TrimSuffix(name, "in-addr.arpa."), "ip6.arpa.")+zone, dns.TypeA)
		packed, err := m.Pack()
		if err != nil {
			b.Fatal(err)
		}
		queries = append(queries, packed)
	}
	const window = 32 // queries under way on each socket
	b.ResetTimer()
	b.SetParallelism(2)
	b.RunParallel(func(pb *testing.PB) {
		c, err := net.Dial("udp", l.server.Address())
		if err != nil {
			b.Error(err)
			return
		}
		defer c.Close()
		buf := make([]byte, 1500)
		outstanding, i := 0, 0
		receive := func() {
			_ = c.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := c.Read(buf); err != nil {
				b.Error(err)
			}
			outstanding--
		}
		for pb.Next() {
			if _, err := c.Write(queries[i%len(queries)]); err != nil {
				b.Error(err)
				return
			}
			i++
			if outstanding++; outstanding == window {
				receive()
			}
		}
		for outstanding > 0 {
			receive()
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
}
