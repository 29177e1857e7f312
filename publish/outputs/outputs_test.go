package outputs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/publish"
	"dragnet/publish/lapi"
	"dragnet/publish/notice"
	"dragnet/publish/publishtest"
	"dragnet/wire/identity"
)

// everything turns all outputs on.
func everything(t testing.TB) Configuration {
	t.Helper()
	dir := t.TempDir()
	keys := filepath.Join(dir, "keys")
	if err := os.WriteFile(keys, []byte(lapi.KeyLine("one", "key1")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := DefaultConfiguration()
	c.Objections = "https://example.org/objections"
	c.HTTP.Listen, c.Mirror.Directory, c.Query.Serve = "127.0.0.1:0", filepath.Join(dir, "feed"), true
	c.Block.MinConfidence, c.Sensors.MinConfidence, c.OCSF.Serve, c.MISP.Organisation = 50, 50, true, "Example"
	c.LAPI, c.TAXII.Title, c.TAXII.MinConfidence = LAPI{50, keys}, "Example", 50
	c.DNSBL.Listen, c.DNSBL.Zone, c.DNSBL.Nameservers, c.DNSBL.Hostmaster = "127.0.0.1:0", "bl.example.org", []string{"ns.example.org"}, "hostmaster.example.org"
	c.Notice = notice.Configuration{Directory: filepath.Join(dir, "notices"), From: "a@example.org", Owners: []notice.Owner{{Name: "owner", Mail: "b@example.org", Networks: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}}}}
	return c
}

func startService(t testing.TB, c Configuration, source publish.Source, now func() time.Time) *Service {
	t.Helper()
	key, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	allow, err := c.AllowList()
	if err != nil {
		t.Fatal(err)
	}
	s, err := New(c, Dependencies{Source: source, Allow: allow, Key: func() *identity.Key { return key }, Every: time.Hour, Log: slog.New(slog.DiscardHandler), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

func get(t testing.TB, s *Service, path string) (int, string) {
	t.Helper()
	return testkit.Get(t, "http://"+s.Address()+path)
}

func TestOutputsFollow(t *testing.T) {
	source := publishtest.New()
	source.List("g1", []string{"in dport=445"}, 75, "198.51.100.7")
	s := startService(t, everything(t), source, source.Now)
	for path, want := range map[string]string{
		"/mirror/hosts4.txt": "198.51.100.7", "/mirror/misp/manifest.json": "tlp:clear", "/mirror/ocsf/findings.jsonl": "198.51.100.7", "/mirror/zeek/intel.dat": "198.51.100.7",
		"/mirror/suricata/hosts.lst": "198.51.100.7", "/mirror/dnsbl/ip4.rbldnsd": "198.51.100.7", "/api/v1/hosts/198.51.100.7": `"listed":true`, "/taxii2/": "Example",
	} {
		if status, got := get(t, s, path); status != http.StatusOK || !strings.Contains(got, want) {
			t.Errorf("%s gave %d, %.200s", path, status, got)
		}
	}
	if status, _ := get(t, s, "/v1/decisions"); status != http.StatusForbidden {
		t.Errorf("a bouncer without a key: %d", status)
	}
	source.Withdraw("g1", "198.51.100.7")
	s.Refresh()
	for range 100 {
		if _, got := get(t, s, "/mirror/hosts4.txt"); got == "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Error("the withdrawal did not reach the mirror")
}

// failing is a source that breaks.
type failing struct {
	publish.Source
	broken bool
}

func (f *failing) Snapshot(ctx context.Context) (publish.Snapshot, error) {
	if f.broken {
		return publish.Snapshot{}, errors.New("the database is gone")
	}
	return f.Source.Snapshot(ctx)
}

func TestABrokenSourceLeavesTheLastView(t *testing.T) {
	source := publishtest.New()
	source.List("g1", nil, 75, "198.51.100.7")
	f := &failing{Source: source}
	s := startService(t, everything(t), f, source.Now)
	f.broken = true
	if err := s.follow(t.Context()); err == nil {
		t.Fatal("no error")
	}
	if _, got := get(t, s, "/mirror/hosts4.txt"); got != "198.51.100.7\n" {
		t.Errorf("after the failure the mirror has %q", got)
	}
	source.Advance(4 * time.Hour)
	if err := s.checkReady(t.Context()); err == nil {
		t.Error("four hours later it is still ready")
	}
}

// neverRead opens a large file from addresses of this machine, twice each, and
// takes nothing once the answers began, if they are to begin.
func neverRead(t *testing.T, s *Service, started bool, addresses ...string) {
	t.Helper()
	for _, address := range addresses {
		for range 2 {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
			conn, err := d.DialContext(t.Context(), "tcp", s.Address())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { conn.Close() })
			if err := conn.(*net.TCPConn).SetReadBuffer(4096); err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "GET /mirror/entries.jsonl HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if !started {
				continue
			}
			if _, err := conn.Read(make([]byte, 1)); err != nil { // the answer began: the place is taken
				t.Fatal(err)
			}
		}
	}
}

// startLarge serves more than the buffers of a connection hold.
func startLarge(t *testing.T) *Service {
	t.Helper()
	source := publishtest.New()
	source.Fill(50_000)
	c := everything(t)
	c.HTTP.Requests = 8
	return startService(t, c, source, source.Now)
}

func setStalled(t *testing.T, d time.Duration) {
	t.Helper()
	was := stalled
	stalled = d
	t.Cleanup(func() { stalled = was })
}

// TestReadersThatNeverRead have all places that strangers get, and more of them
// wait: a bouncer is served all the same.
func TestReadersThatNeverRead(t *testing.T) {
	setStalled(t, time.Hour)
	s := startLarge(t)
	neverRead(t, s, true, "127.0.0.2", "127.0.0.3")
	neverRead(t, s, false, "127.0.0.4", "127.0.0.5", "127.0.0.6", "127.0.0.7")
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.Address()+"/v1/decisions/stream?startup=true", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Api-Key", "key1")
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	if n, err := io.Copy(io.Discard, a.Body); err != nil || a.StatusCode != http.StatusOK || n < 1<<20 {
		t.Errorf("the bouncer got %s, %d bytes, %v", a.Status, n, err)
	}
}

// TestReadersThatNeverReadAreCutOff: a stranger waits for the place of another, and
// gets it.
func TestReadersThatNeverReadAreCutOff(t *testing.T) {
	setStalled(t, time.Second)
	s := startLarge(t)
	neverRead(t, s, true, "127.0.0.2", "127.0.0.3")
	if status, _ := get(t, s, "/mirror/manifest.sig"); status != http.StatusOK {
		t.Errorf("a stranger got %d", status)
	}
}

func TestConfiguration(t *testing.T) {
	for name, change := range map[string]func(*Configuration){
		"objections":               func(c *Configuration) { c.Objections = "" },
		"lapi: bouncers send keys": func(c *Configuration) { c.HTTP.Listen = "203.0.113.1:80" },
		"lapi: needs a file":       func(c *Configuration) { c.LAPI.Keys = "" },
		"query.serve":              func(c *Configuration) { c.HTTP.Listen = "" },
		"block.min_confidence":     func(c *Configuration) { c.Mirror.Directory = "" },
		"dnsbl.zone":               func(c *Configuration) { c.DNSBL.Zone = "" },
		"allow[0]":                 func(c *Configuration) { c.Allow = []netip.Prefix{{}} },
		"notice.from":              func(c *Configuration) { c.Notice.From = "x" },
	} {
		c := everything(t)
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), strings.SplitN(name, ":", 2)[0]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := DefaultConfiguration()
	if err := c.Validate(); err != nil || !c.Off() {
		t.Errorf("the default: %v, off %v", err, c.Off())
	}
	c = everything(t)
	c.AllowFiles = []string{filepath.Join(t.TempDir(), "none")}
	if _, err := c.AllowList(); err == nil {
		t.Error("a missing file of the allow list was accepted")
	}
}

// BenchmarkFollow publishes one interval with every output on: 300,000 entries,
// of which 1000 changed.
func BenchmarkFollow(b *testing.B) {
	source := publishtest.New()
	source.Fill(300_000)
	s := startService(b, everything(b), source, source.Now)
	b.ResetTimer()
	for b.Loop() {
		source.Advance(time.Second)
		source.Fill(1000)
		if err := s.follow(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
