package main

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/flow"
)

// TestReportsLeaveOutTheAllowList: neither what everybody protects nor what a
// file lists is reported.
func TestReportsLeaveOutTheAllowList(t *testing.T) {
	result := detective.Result{Pattern: "out dst=198.51.100.7 proto=udp dport=69"}
	for _, host := range []string{"8.8.8.8", "10.0.0.1", "151.101.2.132", "203.0.113.9", "203.0.113.130"} {
		result.Hosts = append(result.Hosts, detective.Match{Host: flow.Host{Addr: netip.MustParseAddr(host)}, Witnesses: []string{"north"}})
	}
	text, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "allow")
	if err := os.WriteFile(file, []byte("203.0.113.128/25 # a partner\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	allow := flow.NewAllowList()
	if err := allow.AddFiles(file); err != nil {
		t.Fatal(err)
	}
	r, err := reportOf(strings.NewReader(string(text)), allow, time.Now(), time.Hour)
	if err != nil || len(r.Hosts) != 1 || r.Hosts[0].Addr.String() != "203.0.113.9" {
		t.Errorf("%+v, %v; want 203.0.113.9 alone", r, err)
	}
	if err := allow.AddFiles(file + "none"); err == nil {
		t.Error("a file that is not there was passed over")
	}
}
