package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/publish/publishtest"
	"dragnet/signature/sequence"
	"dragnet/simulate/variants"
)

// bistream writes what dionaea records of a connection.
func bistream(sent []byte, answer string) []byte {
	var b strings.Builder
	b.WriteString("stream = [('in', b'")
	for _, x := range sent {
		if x >= ' ' && x < 0x7f && x != '\'' && x != '\\' {
			b.WriteByte(x)
		} else {
			fmt.Fprintf(&b, "\\x%02x", x)
		}
	}
	fmt.Fprintf(&b, "'),\n('out', b'%s')]", answer)
	return []byte(b.String())
}

// TestFromHoneypotToSuricata: a signature learnt of a honeypot's folder by one command,
// tested, exported and loaded into Suricata finds the next variants of the recorded
// attack, one alert for each, and nothing in all benign captures.
func TestFromHoneypotToSuricata(t *testing.T) {
	testkit.Long(t)
	const port, recorded, next = 4455, 50, 300
	captures := func(folders ...string) (all [][]byte, paths []string) {
		c := &sequence.Collector{Most: 1 << 20, Total: 256 << 20}
		for _, folder := range folders {
			path := testkit.Data(t, folder)
			if _, err := sequence.Each(t.Context(), path, nil, c.Open, nil); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
		return c.Sequences, paths
	}
	clean, cleanPaths := captures("benign", "zeek-traces/Traces")
	other, otherPaths := captures("ndpi")
	modes := variants.Modes()
	mode := modes[slices.IndexFunc(modes, func(m variants.Mode) bool { return m.Name == "junk15" })]

	t.Chdir(t.TempDir())
	folder := filepath.Join("dionaea", "bistreams", "2026-11-27")
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, b := range mode.Samples(1, recorded, variants.FromCorpus(clean)) {
		name := fmt.Sprintf("pcap-198.51.100.2-%d-192.0.2.%d-40%02d-2026-11-27T10:00:27.000001-X%03d", port, i+1, i, i)
		if err := os.WriteFile(filepath.Join(folder, name), bistream(b, "all answers are alike"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	report := must(t, append([]string{"learn", "dionaea", "--name", "caught", "--clean"}, strings.Join(cleanPaths, ","))...)
	if !strings.Contains(report, "HELD OUT") || strings.Contains(report, "explains") {
		t.Errorf("learning says %s", report)
	}
	must(t, append([]string{"test", "-s", "caught.signature.json"}, otherPaths...)...)
	rule := must(t, "export", "caught.signature.json")
	if !strings.Contains(rule, fmt.Sprintf("alert tcp any any -> any %d (", port)) {
		t.Errorf("the rule is not about the service:\n%s", rule)
	}
	anywhere := must(t, "export", "--any-port", "caught.signature.json")
	for name, text := range map[string]string{"port.rules": rule, "any.rules": anywhere} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var connections []publishtest.Connection
	for i, b := range mode.Unseen(1, 0, next, variants.FromCorpus(other)) {
		connections = append(connections, publishtest.Connection{From: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(10_000+i)),
			To: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.1"), port), Sent: b})
	}
	publishtest.Capture(t, "next.pcap", connections)
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	alertsOn := func(configuration string) int {
		found := map[uint16]int{}
		for _, a := range publishtest.Suricata(t, filepath.Join(dir, "port.rules"), configuration, filepath.Join(dir, "next.pcap")) {
			if found[a.Port]++; found[a.Port] > 1 {
				t.Errorf("port %d has %d alerts", a.Port, found[a.Port])
			}
		}
		return len(found)
	}
	found, byDefault := alertsOn(publishtest.LookIntoTLS), alertsOn("")
	native := 0
	_, err = signatureCommand(t, "", "match", "-s", "caught.signature.json", "next.pcap")
	if _, e := fmt.Sscanf(fmt.Sprint(err), "%d matches", &native); e != nil {
		t.Fatalf("matching ends with %v", err)
	}
	t.Logf("of %d next variants the matcher finds %d, Suricata %d; %d where it stops looking into what begins like TLS", next, native, found, byDefault)
	if native < next*98/100 || found < native*99/100 {
		t.Errorf("of %d next variants the matcher finds %d, Suricata %d", next, native, found)
	}
	// Suricata does not read the compressed ones among the traces of Zeek.
	for _, path := range append(cleanPaths[:1], otherPaths...) {
		alerts := publishtest.Suricata(t, filepath.Join(dir, "any.rules"), "pcap-file: {checksum-checks: no}\n", path)
		t.Logf("%s: %d alerts", filepath.Base(path), len(alerts))
		if len(alerts) > 0 {
			t.Errorf("benign traffic in %s: %v", path, alerts)
		}
	}
}
