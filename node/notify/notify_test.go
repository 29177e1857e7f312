package notify

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/testkit"
)

var noon = flow.FromTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

// counted is a notifier whose metrics can be read.
type counted struct {
	*Notifier
	registry prometheus.Gatherer
}

// count is the value of dragnet_notices_WHAT_total of a channel.
func (n *counted) count(what, channel string) (value float64) {
	families, err := n.registry.Gather()
	if err != nil {
		return -1
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == "dragnet_notices_"+what+"_total" && m.GetLabel()[0].GetValue() == channel {
				value += m.GetCounter().GetValue()
			}
		}
	}
	return value
}

func notifier(t *testing.T, change func(*Configuration)) *counted {
	t.Helper()
	c := DefaultConfiguration()
	c.Pause = 10 * time.Millisecond
	change(&c)
	log := slog.New(slog.DiscardHandler)
	a, err := admin.New(admin.Configuration{}, "test", "test", log)
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(c, Dependencies{Log: log, Admin: a})
	if err != nil {
		t.Fatal(err)
	}
	return &counted{n, a.Metrics().(prometheus.Gatherer)}
}

func running(t *testing.T, change func(*Configuration)) *counted {
	t.Helper()
	n := notifier(t, change)
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := n.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return n
}

// finding has a text that tries to break out of every format.
func finding() Notice {
	f := dossier.Finding{Detector: "failures", Kind: "address-scan", Host: flow.HostAt(netip.MustParseAddr("198.51.100.7"), "")}
	f.Identify("80 tcp")
	return Notice{Time: noon, Kind: "finding", Text: "198.51.100.7 \"scans\"] 25 hosts\r\nSubject: forged \\ größer", Finding: &f}
}

func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 500 {
		if done() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("%s: not within 10 s", what)
}

func TestWebhookSignsAndTriesAgain(t *testing.T) {
	const secret = "0123456789abcdef"
	var calls atomic.Int32
	got := make(chan string, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if calls.Add(1) <= 2 {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		if want := Signature(secret, r.Header.Get("X-Dragnet-Timestamp"), body); r.Header.Get("X-Dragnet-Signature") != want {
			t.Errorf("signature %s, want %s", r.Header.Get("X-Dragnet-Signature"), want)
		}
		got <- string(body)
	}))
	defer server.Close()
	n := running(t, func(c *Configuration) { c.Webhook.URL, c.Webhook.Secret = server.URL, secret })
	n.Notify(finding())
	select {
	case body := <-got:
		var m struct {
			Version int
			Kind    string
			Text    string
			Finding dossier.Finding
		}
		if err := json.Unmarshal([]byte(body), &m); err != nil || m.Version != 1 || m.Kind != "finding" || m.Text != finding().Text || m.Finding.ID != finding().Finding.ID {
			t.Errorf("%v: %s", err, body)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing came")
	}
	await(t, "counters", func() bool { return n.count("sent", "webhook") == 1 })
	if retried := n.count("retried", "webhook"); retried != 2 {
		t.Errorf("%g attempts failed, want 2", retried)
	}
	// The published form of the signature (computed by openssl dgst -hmac).
	if s := Signature("key", "1", []byte("{}")); s != "sha256="+opensslHMAC(t, "key", "1.{}") {
		t.Errorf("signature %s is not HMAC-SHA256", s)
	}
}

func opensslHMAC(t *testing.T, key, text string) string {
	t.Helper()
	cmd := exec.Command(testkit.Tool(t, "openssl"), "dgst", "-sha256", "-hmac", key, "-r")
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	digest, _, _ := strings.Cut(string(out), " ")
	return digest
}

// What the receiver will never take is not tried again, and does not hold up
// what follows.
func TestWebhookGivesUp(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 1 {
			http.Redirect(w, &http.Request{}, "http://127.0.0.1:1/", http.StatusFound)
		}
	}))
	defer server.Close()
	n := running(t, func(c *Configuration) { c.Webhook.URL, c.Webhook.Secret = server.URL, "0123456789abcdef" })
	n.Notify(finding())
	n.Notify(finding())
	await(t, "the second", func() bool { return n.count("sent", "webhook") == 1 })
	if failed := n.count("failed", "webhook"); failed != 1 || calls.Load() != 2 {
		t.Errorf("%g given up, %d calls; want 1 and 2", failed, calls.Load())
	}
}

// A receiver that hangs costs the queue, and the caller no time.
func TestQueueIsBounded(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	n := notifier(t, func(c *Configuration) { c.Webhook.URL, c.Webhook.Secret, c.Queue = server.URL, "0123456789abcdef", 5 })
	for range 20 { // nothing runs yet
		n.Notify(finding())
	}
	if dropped := n.count("dropped", "webhook"); dropped != 15 {
		t.Errorf("%g dropped of 20 for a queue of 5", dropped)
	}
	n.Notify(Notice{Kind: "something else"})
	n.queues[0].kinds = nil
	n.Notify(finding())
	if dropped := n.count("dropped", "webhook"); dropped != 15 {
		t.Error("kinds that were not asked for are queued")
	}
}

// rsyslog, a real receiver, understands our messages over UDP and TCP.
func TestSyslogIsUnderstood(t *testing.T) {
	program := testkit.Tool(t, "rsyslogd")
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			dir := t.TempDir()
			address := free(t, network)
			_, port, _ := net.SplitHostPort(address)
			out := filepath.Join(dir, "out")
			conf := fmt.Sprintf(`module(load="im%[1]s")
input(type="im%[1]s" address="127.0.0.1" port="%[2]s")
template(name="t" type="string" string="%%pri%%|%%timereported:::date-rfc3339%%|%%app-name%%|%%msgid%%|%%structured-data%%|%%msg%%\n")
action(type="omfile" file="%[3]s" template="t")
`, network, port, out)
			file := filepath.Join(dir, "rsyslog.conf")
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "-n", "-f", file, "-i", filepath.Join(dir, "pid"))
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cmd.Process.Kill(); cmd.Wait() }()
			n := running(t, func(c *Configuration) { c.Syslog.Address = network + "://" + address })
			text := ""
			await(t, "rsyslog's file", func() bool {
				if network == "udp" || text == "" && n.count("sent", "syslog") == 0 {
					n.Notify(finding()) // over UDP, what comes before it listens is lost
					time.Sleep(100 * time.Millisecond)
				}
				b, _ := os.ReadFile(out)
				text = string(b)
				return text != ""
			})
			f := finding()
			want := fmt.Sprintf(`108|2026-03-01T12:00:00Z|dragnet|finding|[dragnet@32473 kind="finding" finding="%s" host="198.51.100.7" detector="failures"]|198.51.100.7 "scans"] 25 hosts  Subject: forged \ größer`, f.Finding.ID)
			first, _, _ := strings.Cut(text, "\n")
			got := strings.ReplaceAll(strings.ReplaceAll(first, "\ufeff", ""), ".000000", "")
			if got != want {
				t.Errorf("rsyslog read\n%s\nwant\n%s", got, want)
			}
		})
	}
}

// free returns an address without a listener.
func free(t *testing.T, network string) string {
	t.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().String()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// receiver is a mail server of Python's that prints what it takes.
const receiver = `
import asyncore, email, email.policy, smtpd, sys
class Server(smtpd.SMTPServer):
    def process_message(self, peer, sender, to, data, **kw):
        m = email.message_from_bytes(data, policy=email.policy.default)
        print(sender, to, m["subject"], m["from"], m["to"], m.get_content_type(), sep="|")
        print(m.get_content(), end="")
        print("END", flush=True)
Server(("127.0.0.1", int(sys.argv[1])), None)
print("READY", flush=True)
asyncore.loop()
`

// A mail server takes one message with all that happened in a while.
func TestMailIsCollected(t *testing.T) {
	python := testkit.Tool(t, "/usr/bin/python3")
	address := free(t, "tcp")
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command(python, "-W", "ignore", "-c", receiver, port)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	read := func(until string) string {
		var b strings.Builder
		for buffer := make([]byte, 1); !strings.HasSuffix(b.String(), until); {
			if _, err := out.Read(buffer); err != nil {
				t.Fatalf("the mail server said %q and ended", b.String())
			}
			b.Write(buffer)
		}
		return strings.TrimSuffix(b.String(), until)
	}
	read("READY\n")
	n := running(t, func(c *Configuration) {
		c.Mail = Mail{Server: address, From: "Dragnet <dragnet@example.org>", To: []string{"ada@example.org", "bob@example.org"}, Every: time.Second, Timeout: 10 * time.Second}
	})
	f := finding()
	n.Notify(f)
	n.Notify(Notice{Time: noon, Kind: "alarm", Text: strings.Repeat("long ", 60)})
	got := read("END\n")
	head, body, _ := strings.Cut(got, "\n")
	want := `dragnet@example.org|['ada@example.org', 'bob@example.org']|[dragnet] 2 notices, first: 198.51.100.7 "scans"] 25 hosts  Subject: forged \ größer|Dragnet <dragnet@example.org>|ada@example.org, bob@example.org|text/plain`
	if head != want {
		t.Errorf("read\n%s\nwant\n%s", head, want)
	}
	wantBody := "2026-03-01T12:00:00Z finding: " + singleLine(f.Text) + "\n  dragnet finding show " + f.Finding.ID + "\n2026-03-01T12:00:00Z alarm: " + strings.Repeat("long ", 60)
	if body = strings.TrimRight(strings.ReplaceAll(body, "\r\n", "\n"), "\n"); body != wantBody {
		t.Errorf("read %q\nwant %q", body, wantBody)
	}
}

// What waits when the node ends is sent.
func TestStopSendsWhatWaits(t *testing.T) {
	var calls atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { calls.Add(1) }))
	defer server.Close()
	n := notifier(t, func(c *Configuration) { c.Webhook.URL, c.Webhook.Secret = server.URL, "0123456789abcdef" })
	for range 7 {
		n.Notify(finding())
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if calls.Load() != 7 {
		t.Errorf("%d of 7 notices were sent", calls.Load())
	}
}

func TestConfigurationMistakes(t *testing.T) {
	for say, change := range map[string]func(*Configuration){
		"kinds[0]":       func(c *Configuration) { c.Kinds = []string{"gossip"} },
		"syslog.address": func(c *Configuration) { c.Syslog.Address = "host:514" },
		"webhook.url":    func(c *Configuration) { c.Webhook.URL, c.Webhook.Secret = "http://example.org/", "0123456789abcdef" },
		"webhook.secret": func(c *Configuration) { c.Webhook.URL = "https://example.org/" },
		"mail.to":        func(c *Configuration) { c.Mail.Server, c.Mail.From = "mail:25", "a@b" },
		"mail.server":    func(c *Configuration) { c.Mail.Server = "mail" },
		"mail.from":      func(c *Configuration) { c.Mail.Server, c.Mail.To = "mail:25", []string{"a@b"} },
		"queue":          func(c *Configuration) { c.Queue = 0 },
	} {
		c := DefaultConfiguration()
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%q: %v", say, err)
		}
	}
}
