package follow

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/run"
	"dragnet/internal/testkit"
	"dragnet/source/collect"
	"dragnet/source/netflow"
	"dragnet/source/sourcetest"
)

// collecting is a collector on a free port of loopback.
func collecting(t *testing.T, dir string) *collect.Collector {
	t.Helper()
	config := collect.DefaultConfiguration()
	config.Exporters, config.Listen = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, []string{"127.0.0.1:0"}
	config.Join.Linger = 50 * time.Millisecond
	c, err := collect.New(config, collect.Dependencies{File: filepath.Join(dir, "templates.json"), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestExportsAreStoredBesideLogs feeds a node by softflowd and a growing log at
// once, restarts it, and continues with data whose template came before.
func TestExportsAreStoredBesideLogs(t *testing.T) {
	softflowd, capture := testkit.Tool(t, "softflowd"), testkit.Data(t, "benign", "http.pcap")
	scan := sourcetest.Datagrams(t, testkit.Data(t, "exports", "softflowd_xscan_v9.pcap"), netflow.Is)
	dir, logs := t.TempDir(), t.TempDir()
	z := &sensor{t: t, dir: logs}
	z.append(fmt.Sprintf(fields, 0))
	began := func() (*followed, *collect.Collector) {
		e := collecting(t, dir)
		f := follower(t, dir, logs, func(_ *Configuration, d *Dependencies) {
			d.Store.KeepDays = 0 // the log is years older than the exports
			d.Collector = e
		})
		if err := (run.Parts{f.Follower, f.admin}).Start(context.Background()); err != nil {
			t.Fatal(err)
		}
		return f, e
	}
	s, e := began()
	z.log(100)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, softflowd, "-d", "-a", "-r", capture, "-v", "9", "-n", e.Addresses()[0].String(),
		"-p", filepath.Join(t.TempDir(), "pid"), "-c", "none").CombinedOutput(); err != nil {
		t.Fatalf("softflowd: %v\n%s", err, out)
	}
	send(t, e, scan[0].Data)
	wait(t, e, 2)
	stored(t, dir, 100)
	stop(t, s)
	flows := int(e.Totals().Flows)
	if got := len(numbers(t, dir)); got != 100+flows || flows < 10 {
		t.Errorf("%d flows are stored, want 100 of the log and %d exported", got, flows)
	}

	s, e = began()
	z.log(50)
	before := e.Totals()
	send(t, e, scan[4].Data)
	wait(t, e, before.Datagrams+1)
	_, text := get(t, s, "/metrics")
	for _, want := range []string{fmt.Sprintf("dragnet_exports_datagrams_total %d\n", e.Totals().Datagrams), "dragnet_exports_without_template_total 0\n", "dragnet_exports_overflowed_total 0\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %q", want)
		}
	}
	if strings.Contains(text, "exports_records_total 0\n") {
		t.Error("after a restart no record was decoded")
	}
	stored(t, dir, 100+flows+50)
	stop(t, s)
	more := int(e.Totals().Flows) - flows
	if got := len(numbers(t, dir)); got != 150+flows+more || more == 0 {
		t.Errorf("%d flows are stored, want 150 of the log and %d and %d exported", got, flows, more)
	}
}

func send(t *testing.T, c *collect.Collector, b []byte) {
	t.Helper()
	conn, err := net.Dial("udp", c.Addresses()[0].String())
	if err == nil {
		_, err = conn.Write(b)
	}
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func wait(t *testing.T, c *collect.Collector, datagrams uint64) {
	t.Helper()
	for range 1000 {
		if c.Totals().Datagrams >= datagrams {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("of %d datagrams: %+v", datagrams, c.Totals())
}

// stored waits until the store has at least the given number of flows.
func stored(t *testing.T, dir string, flows int) {
	t.Helper()
	for range 1000 {
		if len(numbers(t, dir)) >= flows {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("%d flows are stored, want at least %d", len(numbers(t, dir)), flows)
}
