package rules_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/publish/publishtest"
	"dragnet/publish/rules"
	"dragnet/signature/tokens"
)

func example() *rules.Set {
	return &rules.Set{Service: &dossier.Service{Proto: "tcp", Port: 80}, Alternatives: &dossier.Alternatives{Name: "alder-1.x", Loss: 0.25, Contents: []dossier.Content{
		{Bytes: []byte{0xbb, 0x29, 0, 0x88, 0x91}, Fixed: []bool{true, true, false, true, true}},
		{Bytes: []byte("/;\"|"), Fixed: []bool{true, true, true, true}},
	}}}
}

func written(t *testing.T, format string) string {
	t.Helper()
	var b bytes.Buffer
	if err := rules.Writers()[format](&b, example()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestRulesHoldTheStrings(t *testing.T) {
	for format, wants := range map[string][]string{
		"suricata": {`content:"|BB 29|"; fast_pattern; content:"|88 91|"; distance:1; within:2;`, `content:"|2F 3B 22 7C|"`},
		"snort":    {`content:"|BB 29|", fast_pattern; content:"|88 91|", distance 1, within 2;`},
		"yara":     {`rule dragnet_alder_1_x`, `{ BB 29 ?? 88 91 }`, `{ 2F 3B 22 7C }`, `any of them`, `loss = "0.2500"`},
		"zeek":     {`payload /(.|\n)*\xbb\x29(.|\n)\x88\x91/`, `signature dragnet-alder-1-x-1`},
	} {
		text := written(t, format)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%s lacks %s:\n%s", format, want, text)
			}
		}
	}
}

// TestStringsOfWhichAllMustOccur are one rule; some of them, but not all, are said in
// YARA's language only.
func TestStringsOfWhichAllMustOccur(t *testing.T) {
	a := example()
	a.Least = 2
	for format, want := range map[string]string{
		"suricata": `rule 1 of 1"; flow:established,to_server; flowbits:isnotset,dragnet.alder-1.x; content:"|BB 29|"; content:"|88 91|"; distance:1; within:2; content:"|2F 3B 22 7C|"; fast_pattern; flowbits:set`,
		"snort":    `rule 1 of 1"; flow:established,to_server; flowbits:isnotset,dragnet.alder-1.x; content:"|BB 29|"; content:"|88 91|", distance 1, within 2; content:"|2F 3B 22 7C|", fast_pattern; flowbits:set`,
		"yara":     `2 of them`,
		"zeek":     "  payload /(.|\\n)*\\xbb\\x29(.|\\n)\\x88\\x91/\n  payload /(.|\\n)*\\x2f\\x3b\\x22\\x7c/\n  event",
	} {
		var b bytes.Buffer
		if err := rules.Writers()[format](&b, a); err != nil || strings.Count(b.String(), want) != 1 {
			t.Errorf("%s, %v: want %s in\n%s", format, err, want, b.String())
		}
	}
	a.Contents = append(a.Contents, a.Contents[0])
	for _, format := range rules.Formats() {
		if format == "zeek-script" {
			continue
		}
		if err := rules.Writers()[format](io.Discard, a); errors.Is(err, rules.ErrQuorum) == (format == "yara") {
			t.Errorf("%s of 2 of 3 strings: %v", format, err)
		}
	}
	matches := zeekMatches(t, "signature dragnet-x-1 {\n  payload /(.|\\n)*\\x61/\n  payload /(.|\\n)*\\x62/\n  event \"x\"\n}\n")
	if !matches([]byte("b a")) || matches([]byte("a a")) {
		t.Error("the reading of two patterns is wrong")
	}
}

func TestRuleNumbersAreLocalAndDistinct(t *testing.T) {
	first, again := written(t, "suricata"), written(t, "suricata")
	numbers := regexp.MustCompile(`sid:(1\d{6});`).FindAllString(first, -1)
	if len(numbers) != 2 || numbers[0] == numbers[1] || first != again {
		t.Errorf("rule numbers %v, want two, different and the same each time", numbers)
	}
}

// TestManySignaturesHaveTheirNumbers: programs refuse a second rule of a number.
func TestManySignaturesHaveTheirNumbers(t *testing.T) {
	seen := map[string]bool{}
	twice := 0
	for n := range 100 {
		a := &rules.Set{Alternatives: &dossier.Alternatives{Name: fmt.Sprintf("worm%d.%d", n, n*7)}}
		for range 12 {
			a.Contents = append(a.Contents, dossier.Content{Bytes: []byte{1}, Fixed: []bool{true}})
		}
		var text bytes.Buffer
		if err := rules.Suricata(&text, a); err != nil {
			t.Fatal(err)
		}
		for _, s := range regexp.MustCompile(`sid:\d+`).FindAllString(text.String(), -1) {
			if seen[s] {
				twice++
			}
			seen[s] = true
		}
	}
	if twice > 12 || seen["sid:1999001"] { // one pair in sixty thousand shares its numbers
		t.Errorf("%d rules of 1200 have a number that another has", twice)
	}
}

// TestYARAAgrees runs the real program on a file with and one without a string.
func TestYARAAgrees(t *testing.T) {
	yara := testkit.Tool(t, "yara")
	dir := t.TempDir()
	rule, with, without := filepath.Join(dir, "r.yara"), filepath.Join(dir, "with"), filepath.Join(dir, "without")
	for path, content := range map[string]string{rule: written(t, "yara"), with: "text \xbb\x29x\x88\x91 text", without: "text \xbb\x29\x88\x91 text"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]bool{with: true, without: false} {
		out, err := exec.Command(yara, rule, path).CombinedOutput()
		if err != nil {
			t.Fatalf("yara: %v: %s", err, out)
		}
		if got := strings.Contains(string(out), "dragnet_alder"); got != want {
			t.Errorf("%s: yara matched %v, want %v: %s", filepath.Base(path), got, want, out)
		}
	}
}

// TestJoints: what may lie between stretches is said in every language, and YARA and
// Suricata read it as the finder of contents does.
func TestJoints(t *testing.T) {
	s := &rules.Set{Alternatives: &dossier.Alternatives{Name: "junk", Contents: []dossier.Content{{
		Bytes: []byte("QWxxER"), Fixed: []bool{true, true, false, false, true, true}, Joints: []dossier.Joint{{At: 2, Most: 3}, {At: 5, Most: 2}}}}}}
	texts := map[string]string{}
	for format, want := range map[string]string{
		"suricata": `alert ip any any -> any any (msg:"dragnet junk, rule 1 of 1"; flow:to_server; flowbits:isnotset,dragnet.junk; content:"|51 57|"; fast_pattern; content:"|45|"; distance:2; within:4; content:"|52|"; distance:0; within:3; flowbits:set,dragnet.junk; `,
		"snort":    `content:"|45|", distance 2, within 4; content:"|52|", distance 0, within 3;`,
		"yara":     `{ 51 57 [0-3] ?? ?? 45 [0-2] 52 }`,
		"zeek":     `\x51\x57(.|\n){0,3}(.|\n)(.|\n)\x45(.|\n){0,2}\x52/`,
	} {
		var b bytes.Buffer
		if err := rules.Writers()[format](&b, s); err != nil || !strings.Contains(b.String(), want) {
			t.Errorf("%s: %v, want %s in\n%s", format, err, want, b.String())
		}
		texts[format] = b.String()
	}
	dir := t.TempDir()
	for format, text := range texts {
		if err := os.WriteFile(filepath.Join(dir, format), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	payloads := map[string]bool{"QW12ER": true, "QW12345ExxR": true, "QW123456ER": false, "QW12ExxxR": false, "QW1ER": false, "QWQW12ExR": true}
	zeek := zeekMatches(t, texts["zeek"])
	var connections []publishtest.Connection
	var order []string
	for p, want := range payloads {
		if tokens.Contains([]byte("before "+p), s.Contents[0]) != want || zeek([]byte("before "+p)) != want {
			t.Errorf("%s: want %v of the finder and of Zeek's expression", p, want)
		}
		connections = append(connections, publishtest.Connection{From: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(10_000+len(order))),
			To: netip.MustParseAddrPort("198.51.100.1:9999"), Sent: []byte("before " + p)})
		order = append(order, p)
		file := filepath.Join(dir, "payload")
		if err := os.WriteFile(file, []byte("before "+p), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(testkit.Tool(t, "yara"), "--no-warnings", filepath.Join(dir, "yara"), file).Output()
		if err != nil || strings.Contains(string(out), "dragnet_junk") != want {
			t.Errorf("%s: yara says %q, %v, want %v", p, out, err, want)
		}
	}
	capture := filepath.Join(dir, "capture.pcap")
	publishtest.Capture(t, capture, connections)
	found := map[string]bool{}
	for _, a := range publishtest.Suricata(t, filepath.Join(dir, "suricata"), "", capture) {
		found[order[a.Port-10_000]] = true
	}
	for p, want := range payloads {
		if found[p] != want {
			t.Errorf("%s: Suricata finds it: %v, want %v", p, !want, want)
		}
	}
}
