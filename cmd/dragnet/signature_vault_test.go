package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/signature/sequence"
	"dragnet/trap/session"
	"dragnet/trap/vault"
)

// TestReadsATrapsVault: what a trap kept, encrypted, are samples, once each.
func TestReadsATrapsVault(t *testing.T) {
	dir := t.TempDir()
	config := vault.DefaultConfiguration()
	config.Directory = dir
	v, err := vault.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for i, sent := range []string{"attack one", "attack two", "attack one"} {
		_, err := v.Add(&session.Session{ID: fmt.Sprint("s", i), Proto: flow.TCP, Start: flow.Time(time.Now().UnixNano()),
			Client: netip.MustParseAddrPort("192.0.2.1:4000"), Server: netip.MustParseAddrPort("198.51.100.9:8080"), Sent: []byte(sent), Answered: []byte("answer")}, nil)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	c := &sequence.Collector{Most: 100, Total: 1000}
	report, err := sequence.Each(t.Context(), dir, nil, c.Open, readVault)
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%q", c.Sequences); got != `["attack one" "answer" "attack two"]` || report.Services[sequence.Service{Proto: flow.TCP, Port: 8080}] == 0 {
		t.Errorf("read %s, services %v", got, report.Services)
	}
	if err := os.Remove(filepath.Join(dir, vault.KeyFile)); err != nil {
		t.Fatal(err)
	}
	if _, err := sequence.Each(t.Context(), dir, nil, c.Open, readVault); err == nil {
		t.Error("read without its key")
	}
}
