package rules_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/publish/rules"
)

func example() *dossier.Alternatives {
	return &dossier.Alternatives{Name: "alder-1.x", Loss: 0.25, Contents: []dossier.Content{
		{Bytes: []byte{0xbb, 0x29, 0, 0x88, 0x91}, Fixed: []bool{true, true, false, true, true}},
		{Bytes: []byte("/;\"|"), Fixed: []bool{true, true, true, true}},
	}}
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
		"suricata": `rule 1 of 1"; content:"|BB 29|"; content:"|88 91|"; distance:1; within:2; content:"|2F 3B 22 7C|"; fast_pattern; classtype`,
		"snort":    `rule 1 of 1"; content:"|BB 29|"; content:"|88 91|", distance 1, within 2; content:"|2F 3B 22 7C|", fast_pattern; classtype`,
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
		a := &dossier.Alternatives{Name: fmt.Sprintf("worm%d.%d", n, n*7)}
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
