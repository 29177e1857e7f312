package notify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/publish/ocsf"
)

// decision is one with a history that ends in a verdict.
func decision(v dossier.Verdict) Notice {
	d := dossier.Decision{Version: 1, ID: "D" + string(v), Target: netip.MustParsePrefix("198.51.100.7/32"), Verdict: v, Why: "scans", Steps: []dossier.Step{{Time: noon}}}
	return Notice{Time: noon, Kind: "decision", Text: "decided", Decision: &d}
}

func someFlow(port int) flow.Flow {
	return flow.Flow{Start: noon, Orig: netip.MustParseAddr("198.51.100.7"), Resp: netip.MustParseAddr("192.0.2.1"), OrigPort: 40000, RespPort: uint16(port), Proto: 6, State: flow.REJ}
}

// classes counts the events of each class.
func classes(t *testing.T, events []ocsf.Event) map[int]int {
	t.Helper()
	n := map[int]int{}
	for _, e := range events {
		n[e.Class]++
		if e.Metadata.Version != ocsf.Version || e.Time != noon.Time().UnixMilli() && e.Class != 2004 {
			t.Errorf("event %+v", e)
		}
	}
	return n
}

// notifyAll sends one of each kind, and what is not an event.
func notifyAll(n *counted) {
	n.Notify(finding())
	n.Notify(decision(dossier.Active))
	n.Notify(decision(dossier.Undone))
	n.Notify(decision(dossier.Proposed))
	n.Notify(Notice{Time: noon, Kind: "alarm", Text: "no event"})
	n.NotifyFlows([]flow.Flow{someFlow(80), someFlow(443)})
}

func sentAll(n map[int]int) bool { return n[2004] == 1 && n[7004] == 2 && n[4001] == 2 && len(n) == 3 }

func TestEventsInAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	n := running(t, func(c *Configuration) {
		c.OCSF.File = File{Path: path, MaxBytes: 5000}
		c.OCSF.Kinds, c.OCSF.Every = []string{"finding", "decision", "flow"}, 10*time.Millisecond
	})
	readEvents := func(path string) (events []ocsf.Event) {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			var e ocsf.Event
			if err := json.Unmarshal([]byte(line), &e); err != nil || !strings.HasSuffix(line, "\n") {
				t.Fatalf("line %q: %v", line, err)
			}
			events = append(events, e)
		}
		return events
	}
	if !n.WantsFlows() {
		t.Error("no flows wanted")
	}
	notifyAll(n)
	await(t, "six notices", func() bool { return n.count("sent", "ocsf-file") == 6 })
	if got := classes(t, readEvents(path)); !sentAll(got) {
		t.Errorf("classes %v", got)
	}
	// Another program renames it.
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	for i := range 50 {
		n.NotifyFlows([]flow.Flow{someFlow(i)})
		await(t, "a flow", func() bool { return n.count("sent", "ocsf-file") == float64(7+i) })
	}
	first, second := readEvents(path+".1"), readEvents(path)
	if len(first) == 0 || len(second) == 0 || len(first)+len(second) > 50 {
		t.Errorf("%d and %d events of 50 in the two files", len(first), len(second))
	}
	for _, p := range []string{path, path + ".1"} {
		if info, err := os.Stat(p); err != nil || info.Size() > 5000 {
			t.Errorf("%s: %v, %v", p, info.Size(), err)
		}
	}
}

// A collector gets arrays, is tried again while it is busy, and knows us by the
// token or the signature.
func TestEventsByWebhook(t *testing.T) {
	var mu sync.Mutex
	var events []ocsf.Event
	var calls, largest atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) <= 2 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		var batch []ocsf.Event
		if err := json.Unmarshal(body, &batch); err != nil || r.Header.Get("Authorization") != "Bearer t0ken" || r.Header.Get("X-Dragnet-Signature") != "" {
			t.Errorf("%v: %v %.200s", err, r.Header, body)
		}
		mu.Lock()
		defer mu.Unlock()
		largest.Store(max(largest.Load(), int32(len(batch))))
		events = append(events, batch...)
	}))
	defer server.Close()
	n := running(t, func(c *Configuration) {
		c.OCSF.Webhook.URL, c.OCSF.Webhook.Token, c.OCSF.Batch, c.OCSF.Every = server.URL, "t0ken", 4, 100*time.Millisecond
		c.OCSF.Kinds = []string{"finding", "decision", "flow"}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
	})
	notifyAll(n)
	await(t, "six notices", func() bool { return n.count("sent", "ocsf-webhook") == 6 })
	mu.Lock()
	defer mu.Unlock()
	if got := classes(t, events); !sentAll(got) {
		t.Errorf("classes %v", got)
	}
	if largest.Load() > 4 || largest.Load() < 2 || n.count("retried", "ocsf-webhook") != 2 {
		t.Errorf("batches of up to %d, %g attempts failed", largest.Load(), n.count("retried", "ocsf-webhook"))
	}
}

// A collector that hangs costs the queue and no more, however many flows there
// are.
func TestEventsAreBounded(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	n := running(t, func(c *Configuration) {
		c.OCSF.Webhook.URL, c.OCSF.Webhook.Secret, c.OCSF.Queue, c.OCSF.Kinds = server.URL, "0123456789abcdef", 10, []string{"flow"}
		c.OCSF.Batch, c.OCSF.Webhook.Timeout = 5, 200*time.Millisecond
		c.Attempts, c.Syslog.Address = 2, "udp://127.0.0.1:9" // flows are for events alone
	})
	batch := make([]flow.Flow, 1000)
	for i := range batch {
		batch[i] = someFlow(i)
	}
	n.NotifyFlows(batch)
	// Five are being sent, and ten wait.
	if dropped := n.count("dropped", "ocsf-webhook"); dropped < 1000-15-5 || dropped > 1000-10 {
		t.Errorf("%g dropped of 1000", dropped)
	}
	if n.count("dropped", "syslog") != 0 || n.count("sent", "syslog") != 0 {
		t.Error("flows went to people")
	}
	await(t, "giving up", func() bool { return n.count("failed", "ocsf-webhook") >= 5 })
}

// certificates makes an authority and a certificate of 127.0.0.1, in files.
func certificates(t *testing.T, dir string) (authority, cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "syslog"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err1 := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	raw, err2 := x509.MarshalPKCS8PrivateKey(private)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert = write("cert.pem", "CERTIFICATE", der)
	return cert, cert, write("key.pem", "PRIVATE KEY", raw)
}

// rsyslog takes events over UDP, TCP and TLS as they are, whatever is in them.
func TestEventsBySyslog(t *testing.T) {
	program := testkit.Tool(t, "rsyslogd")
	for _, network := range []string{"udp", "tcp", "tls"} {
		t.Run(network, func(t *testing.T) {
			dir := t.TempDir()
			transport := strings.Replace(network, "tls", "tcp", 1)
			address := free(t, transport)
			_, port, _ := net.SplitHostPort(address)
			out, file := filepath.Join(dir, "out"), filepath.Join(dir, "rsyslog.conf")
			authority, cert, key := certificates(t, dir)
			module := fmt.Sprintf("module(load=\"im%s\")\n", transport)
			if network == "tls" {
				module = fmt.Sprintf("global(defaultNetstreamDriver=\"gtls\" defaultNetstreamDriverCAFile=%q defaultNetstreamDriverCertFile=%q defaultNetstreamDriverKeyFile=%q)\nmodule(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n", authority, cert, key)
			}
			conf := module + fmt.Sprintf(`input(type="im%s" address="127.0.0.1" port="%s")
template(name="t" type="string" string="%%pri%%|%%app-name%%|%%msgid%%|%%structured-data%%|%%msg%%\n")
action(type="omfile" file="%s" template="t")
`, transport, port, out)
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "-n", "-f", file, "-i", filepath.Join(dir, "pid"))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			n := running(t, func(c *Configuration) {
				c.OCSF.Syslog.Address, c.OCSF.Every, c.OCSF.Kinds = network+"://"+address, 10*time.Millisecond, []string{"finding", "decision", "flow"}
				c.Attempts = 20
				if network == "tls" {
					c.OCSF.Syslog.Authority = authority
				}
			})
			if network != "udp" {
				notifyAll(n)
			}
			var got map[int]int
			await(t, "rsyslog's file", func() bool {
				if network == "udp" { // what comes before it listens is lost
					notifyAll(n)
					time.Sleep(100 * time.Millisecond)
				}
				text, _ := os.ReadFile(out)
				lines := strings.Split(string(text), "\n")
				var events []ocsf.Event
				for _, line := range lines[:len(lines)-1] {
					f := strings.SplitN(line, "|", 5)
					var e ocsf.Event
					if len(f) < 5 || f[1] != "dragnet" || f[3] != "-" || json.Unmarshal([]byte(f[4]), &e) != nil {
						if strings.Contains(line, "rsyslog") {
							continue // its own messages
						}
						t.Fatalf("rsyslog read %q", line)
					}
					events = append(events, e)
				}
				got = classes(t, events)
				return len(got) == 3 && (network == "udp" || got[4001] == 2 && got[7004] == 2)
			})
			if network != "udp" && !sentAll(got) {
				t.Errorf("classes %v", got)
			}
		})
	}
}

// A receiver with a certificate of somebody else gets nothing.
func TestSyslogChecksTheReceiver(t *testing.T) {
	dir := t.TempDir()
	authority, _, _ := certificates(t, dir)
	server := httptest.NewTLSServer(http.NotFoundHandler()) // has a certificate, too
	defer server.Close()
	for _, trusted := range []string{"", authority, filepath.Join(dir, "none.pem")} {
		s := newSyslog(Syslog{Address: "tls://" + server.Listener.Addr().String(), Authority: trusted}, "host")
		if err := s.send(t.Context(), []Notice{finding()}); err == nil {
			t.Errorf("with authority %q, the notice was sent", trusted)
		}
	}
}

// A message is never longer than receivers take, and always whole JSON.
func TestLongEventsAreShortened(t *testing.T) {
	n := finding()
	n.Finding.Summary = strings.Repeat("long ", 5000)
	for range 1000 {
		n.Finding.Evidence.Flows = append(n.Finding.Evidence.Flows, dossier.FlowEvidence{Orig: n.Finding.Addr, Resp: n.Finding.Addr, Port: 80, Proto: "tcp"})
	}
	s := newSyslog(Syslog{Address: "udp://127.0.0.1:9", Facility: 13}, "host")
	text := string(s.formatEvent(&n))
	if len(text) > maxMessage+200 {
		t.Errorf("%d bytes", len(text))
	}
	var e ocsf.Event
	if err := json.Unmarshal([]byte(text[strings.Index(text, "{"):]), &e); err != nil || e.Class != 2004 {
		t.Errorf("%v: %.100s", err, text)
	}
}

func TestEventConfiguration(t *testing.T) {
	for name, change := range map[string]func(*OCSF){
		"kinds[0]":       func(c *OCSF) { c.Kinds = []string{"alarm"} },
		"webhook.secret": func(c *OCSF) { c.Webhook.URL = "https://siem.example.org/" },
		"webhook.token":  func(c *OCSF) { c.Webhook.URL, c.Webhook.Token = "https://siem.example.org/", "a\r\nb" },
		"webhook.url":    func(c *OCSF) { c.Webhook.URL, c.Webhook.Token = "http://siem.example.org/", "abc" },
		"batch":          func(c *OCSF) { c.Batch = 0 },
		"every":          func(c *OCSF) { c.Every = 0 },
		"queue":          func(c *OCSF) { c.Queue = 0 },
		"max_bytes":      func(c *OCSF) { c.File.MaxBytes = -1 },
		"syslog.address": func(c *OCSF) { c.Syslog.Address = "x" },
	} {
		c := defaultOCSF()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
