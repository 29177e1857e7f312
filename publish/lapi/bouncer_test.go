package lapi_test

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// TestFirewallBouncerBlocks runs Debian's crowdsec-firewall-bouncer, as
// packaged, on a router between an attacker and a server: what is listed cannot
// connect, what is withdrawn can again.
func TestFirewallBouncerBlocks(t *testing.T) {
	bouncer := testkit.Tool(t, "crowdsec-firewall-bouncer")
	testkit.Tool(t, "nft")
	lab := netlab.For(t)
	nodes, err := lab.Nodes("attacker", "server")
	if err != nil {
		t.Fatal(err)
	}
	attacker, server := nodes[0], nodes[1]
	if err := lab.Wire(attacker, "eth0", server, "eth0"); err != nil {
		t.Fatal(err)
	}
	for node, prefixes := range map[*netlab.Node][]string{attacker: {"198.51.100.7/24", "2001:db8::7/64"}, server: {"198.51.100.1/24", "2001:db8::1/64"}} {
		for _, p := range prefixes {
			if err := node.Address("eth0", netip.MustParsePrefix(p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	b := start(t)
	b.source.Withdraw("g1", "198.51.100.7", "2001:db8::7")
	b.update()
	serve := func(address string, h http.Handler) {
		t.Helper()
		var l net.Listener
		if err := server.Do(func() (err error) { l, err = net.Listen("tcp", address); return err }); err != nil {
			t.Fatal(err)
		}
		s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
		t.Cleanup(func() { s.Close() })
		go s.Serve(l)
	}
	// A restarted server takes over on the same port.
	serve("127.0.0.1:8080", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.current().ServeHTTP(w, r) }))
	for _, address := range []string{"198.51.100.1:80", "[2001:db8::1]:80"} {
		serve(address, http.NotFoundHandler())
	}
	// Debian's own configuration, with the key and a quick pull.
	text, err := os.ReadFile("/etc/crowdsec/bouncers/crowdsec-firewall-bouncer.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config := strings.NewReplacer("${BACKEND}", "nftables", "${API_KEY}", "key1", "update_frequency: 10s", "update_frequency: 1s", "daemonize: true", "daemonize: false",
		"log_mode: file", "log_mode: stdout", "pid_dir: /var/run/", "pid_dir: "+dir).Replace(string(text))
	path := filepath.Join(dir, "bouncer.yaml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	process, err := server.Start(bouncer, "-c", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if t.Failed() {
			t.Log(process.Output())
		}
	}()
	reaches := func(address string) bool {
		ok := false
		_ = attacker.Do(func() error {
			ctx, cancel := context.WithTimeout(t.Context(), 700*time.Millisecond)
			defer cancel()
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err == nil {
				ok = true
				c.Close()
			}
			return nil
		})
		return ok
	}
	await := func(what string, want bool) {
		t.Helper()
		for range 60 {
			if reaches("198.51.100.1:80") == want && reaches("[2001:db8::1]:80") == want {
				return
			}
			time.Sleep(250 * time.Millisecond)
		}
		t.Fatalf("%s: reachable %v, want %v", what, !want, want)
	}
	await("before anything is listed", true)
	b.source.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	b.update()
	await("listed", false)
	b.source.Withdraw("g1", "198.51.100.7", "2001:db8::7")
	b.update()
	await("withdrawn", true)
	// Prolonged many times, it stays blocked.
	b.source.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	b.update()
	await("listed again", false)
	b.source.Advance(time.Hour)
	b.source.List("g1", []string{"in dport=445"}, 80, "198.51.100.7", "2001:db8::7")
	b.update()
	time.Sleep(2500 * time.Millisecond)
	await("prolonged", false)
	// The server restarts: what has gone meanwhile is unblocked.
	b.source.Withdraw("g1", "198.51.100.7", "2001:db8::7")
	b.restart()
	await("withdrawn while the server was down", true)
}
