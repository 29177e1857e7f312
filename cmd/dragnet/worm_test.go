package main

import (
	"bytes"
	"strings"
	"testing"

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
