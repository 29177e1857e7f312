package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/daw/rehearsal"
	"dragnet/internal/cli"
)

// wormOutput runs 'dragnet worm ...' and returns what it prints.
func wormOutput(t *testing.T, args ...string) string {
	t.Helper()
	cmd := newWorm()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs(args)
	if err := cmd.Execute(); err != nil {
		t.Fatalf("worm %s: %v", strings.Join(args, " "), err)
	}
	return out.String()
}

func TestWormPredict(t *testing.T) {
	got, err := cli.ReadItems[prediction](strings.NewReader(wormOutput(t, "predict", "-o", "json", "--hosts", "20")))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range got {
		switch {
		case strings.HasPrefix(p.Quantity, "prescan"):
			if *p.Value < 19610 || *p.Value > 19612 { // Tang 2006, section 2.3.11
				t.Errorf("%s: %g %s, the paper says 19611", p.Quantity, *p.Value, p.Unit)
			}
		case p.Quantity == "networks infected in all":
			if p.Value != nil {
				t.Errorf("%s: %g, want none: 2nPhiV/N is above 1", p.Quantity, *p.Value)
			}
		}
	}
}

func TestWormSimulateRepeatsItself(t *testing.T) {
	args := []string{"simulate", "--networks", "300", "--runs", "3", "--defence", "temporal", "-o", "csv"}
	first := wormOutput(t, args...)
	if first != wormOutput(t, args...) {
		t.Error("the same seeds give other results")
	}
	if n := strings.Count(first, "\n"); n != 4 {
		t.Errorf("%d lines, want a header and 3 runs", n)
	}
	for _, bad := range [][]string{{"simulate", "--defence", "wall"}, {"simulate", "--runs", "0"}, {"predict", "--first", "0"}} {
		cmd := newWorm()
		cmd.SetArgs(bad)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		if cmd.Execute() == nil {
			t.Errorf("%v is accepted", bad)
		}
	}
}

// The audit of a log names the scanner, and what it would have lost.
func TestWormAudit(t *testing.T) {
	var log strings.Builder
	line := func(at int, src, dst, state string) {
		fmt.Fprintf(&log, `{"ts":%d.5,"uid":"C%d","id.orig_h":"%s","id.orig_p":4000,"id.resp_h":"%s","id.resp_p":80,"proto":"tcp","conn_state":"%s"}`+"\n", 1_700_000_000+at, at, src, dst, state)
	}
	for n := range 2000 {
		line(n, "192.0.2.7", fmt.Sprintf("198.18.%d.%d", n>>8, n&0xff), "REJ")
		line(n, "192.0.2.8", "203.0.113.1", "SF")
	}
	line(1990, "192.0.2.7", "203.0.113.2", "SF")
	path := filepath.Join(t.TempDir(), "conn.log")
	if err := os.WriteFile(path, []byte(log.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newWorm()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&bytes.Buffer{})
	cmd.SetArgs([]string{"audit", path, "--network", "192.0.2.0/24", "--port", "80", "-o", "json"})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "1 source would have been held back") {
		t.Errorf("%v; want the one scanner", err)
	}
	held, err := cli.ReadItems[rehearsal.Source](&out)
	if err != nil || len(held) != 1 || held[0].Addr.String() != "192.0.2.7" || held[0].Lost != 1 || held[0].Dropped < 1000 || held[0].Limit != "temporal" {
		t.Errorf("%+v %v", held, err)
	}
}
