//go:build linux

package ripcord

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/contain/ripcord/tables"
)

func TestConfiguration(t *testing.T) {
	c, err := LoadConfiguration("../../packaging/config/ripcord.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if c.Enforce {
		t.Error("the example enforces")
	}
	dir := t.TempDir()
	for text, want := range map[string]string{
		"host: a\nnetwork: a":                                                     "host: host and network must name two interfaces",
		"host: a\nnetwork: b\nblok: 3s":                                           "3:",
		"host: a\nnetwork: b\nblock: 900h":                                        "3: block: 900h",
		"host: a\nnetwork: b\nsigned_tcp: maybe":                                  "3: signed_tcp",
		"host: a\nnetwork: b\naddresses: [224.0.0.1]":                             "addresses[0]: 224.0.0.1 is not a valid host address",
		"host: a\nnetwork: b\nlearn: {ipv4: -1}":                                  "learn.ipv4: -1",
		"host: a\nnetwork: b\nconnections: {ipv6: 0}":                             "connections.ipv6: 0",
		"host: a\nnetwork: b\npull: {port: 0}":                                    "pull.port",
		"host: a\nnetwork: b\nidle: {established: 1000h}":                         "idle.established",
		"host: a\nports: [{name: p, host: b, network: c}]":                        "host, network and addresses are those of each port",
		"ports: [{name: ../p, host: a, network: b}]":                              "ports[0].name",
		"ports: [{name: p, host: a, network: b}, {name: p, host: c, network: d}]": "ports[1].name",
		"ports: [{name: p, host: a, network: b}, {name: q, host: c, network: b}]": "ports[1].network",
		"ports: [{name: p, host: a, network: b, addresses: ['ff02::1']}]":         "ports[0].addresses[0]",
	} {
		name := filepath.Join(dir, "c.yaml")
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadConfiguration(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestWhatIsForgotten(t *testing.T) {
	idle := DefaultConfiguration().Idle
	const now = uint32(1000) // the clock has wrapped
	ago := func(d time.Duration) uint32 { return now - toMilliseconds(d) }
	for name, c := range map[string]struct {
		conn tables.Conn
		want bool
	}{
		"open and used":               {tables.Conn{State: tables.Established, LastSeen: ago(time.Hour)}, false},
		"open and idle for a week":    {tables.Conn{State: tables.Established, LastSeen: ago(7 * 24 * time.Hour)}, true},
		"half closed, idle":           {tables.Conn{State: tables.Established, Seen: tables.FINOut, LastSeen: ago(time.Hour)}, false},
		"closed just now":             {tables.Conn{State: tables.Established, Seen: tables.FINOut | tables.FINIn, LastSeen: ago(time.Minute)}, false},
		"closed":                      {tables.Conn{State: tables.Established, Seen: tables.FINOut | tables.FINIn, LastSeen: ago(3 * time.Minute)}, true},
		"reset by the host":           {tables.Conn{State: tables.Reset, LastSeen: ago(3 * time.Minute)}, true},
		"SYN a minute ago":            {tables.Conn{State: tables.Handshaking, LastSeen: ago(time.Minute)}, false},
		"SYN long ago":                {tables.Conn{State: tables.Handshaking, LastSeen: ago(2 * time.Minute)}, true},
		"blocked, and silent":         {tables.Conn{State: tables.Ended, Until: now + 1, LastSeen: ago(time.Hour)}, false},
		"block over, and silent":      {tables.Conn{State: tables.Ended, Until: now - 1, LastSeen: ago(time.Hour)}, true},
		"seen after the sweep's time": {tables.Conn{State: tables.Handshaking, LastSeen: now + 5}, false},
	} {
		if got := idle.hasExpired(&c.conn, now); got != c.want {
			t.Errorf("%s: forgotten %v, want %v", name, got, c.want)
		}
	}
}

func TestStandingDecision(t *testing.T) {
	c := DefaultConfiguration()
	c.Host, c.Network, c.State = "a", "b", filepath.Join(t.TempDir(), "state")
	open := func(enforce bool) *record {
		t.Helper()
		c.Enforce = enforce
		r, err := openRecord(&c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.close() })
		return r
	}
	if open(false).isActive() {
		t.Error("blocks take effect without a decision")
	}
	r := open(true)
	if !r.isActive() {
		t.Error("blocks do not take effect")
	}
	if d := r.decision; d.Why == "" || d.Undo == "" || len(d.Steps) != 1 || d.Until == 0 || !d.Target.IsValid() {
		t.Errorf("the decision leaves something out: %+v", d)
	}
	if open(false).isActive() {
		t.Error("blocks take effect although the configuration says no")
	}
	// Somebody stops everything.
	b, err := os.ReadFile(decisionFile(c.State))
	if err != nil {
		t.Fatal(err)
	}
	b = []byte(strings.Replace(string(b), `"verdict": "active"`, `"verdict": "stopped"`, 1))
	if err := os.WriteFile(decisionFile(c.State), b, 0o600); err != nil {
		t.Fatal(err)
	}
	if open(true).isActive() {
		t.Error("blocks take effect although they were stopped")
	}
}

func TestRecordBeginsANewFile(t *testing.T) {
	c := DefaultConfiguration()
	c.Host, c.Network, c.State, c.Enforce = "a", "b", t.TempDir(), true
	r, err := openRecord(&c)
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	for range 3 {
		r.size = maxRecord + 1
		if err := r.writeReceipt(time.Now(), "x"); err != nil {
			t.Fatal(err)
		}
	}
	files, _ := filepath.Glob(ReceiptFile(c.State) + "*")
	if len(files) != 2 {
		t.Errorf("files %v, want one and the one before", files)
	}
}
