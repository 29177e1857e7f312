package rules_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Debian 12 has neither Zeek nor Snort 3, so their rules are held against the
// grammars of their manuals, and what they say against what Suricata and YARA
// were given.

// snortRule is the part of Snort 3's grammar that is used (Snort 3 Rule Writing
// Guide, content): modifiers follow a comma, their values a space.
var snortRule = regexp.MustCompile(`^alert (ip|tcp|udp) any any -> any (any|\d+) \( msg:"[^";\\]+"; flow:[a-z_,]+; flowbits:isnotset,[^;]+; ` +
	`(content:"\|[0-9A-F]{2}( [0-9A-F]{2})*\|"(, (fast_pattern|distance \d+|within \d+))*; )+` +
	`flowbits:set,[^;]+; classtype:[a-z-]+; sid:\d+; rev:\d+; \)$`)

// zeekSignature is that of Zeek's (Zeek manual, Signature Framework).
var zeekSignature = regexp.MustCompile(`signature ([0-9A-Za-z_-]+) \{\n(?:  (?:ip-proto == (?:tcp|udp)|dst-port == \d+|tcp-state established,originator)\n)*((?:  payload /\(\.\|\\n\)\*(?:\\x[0-9a-f]{2}|\(\.\|\\n\)(?:\{0,\d+\})?)+/\n)+)  event "[^"\\]+"\n\}\n`)

// TestSnortRulesAreSuricatas: with Suricata's punctuation they are the rules that
// Suricata runs.
func TestSnortRulesAreSuricatas(t *testing.T) {
	text := written(t, "snort")
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for _, line := range lines {
		if !snortRule.MatchString(line) {
			t.Errorf("is not of Snort's grammar: %s", line)
		}
	}
	text = regexp.MustCompile(`, (fast_pattern|distance|within)`).ReplaceAllString(text, "; $1")
	text = regexp.MustCompile(`(distance|within) (\d)`).ReplaceAllString(text, "$1:$2")
	text = strings.NewReplacer("( msg", "(msg", "; )", ";)").Replace(text)
	_, want, _ := strings.Cut(written(t, "suricata"), "\n") // without the comment
	if text != want || len(lines) < 2 {
		t.Errorf("Snort's rules say\n%s\nSuricata's\n%s", text, want)
	}
}

// zeekMatches reports whether one of the signatures matches a payload: Zeek holds
// a pattern against the payload's start, and all bytes are characters.
func zeekMatches(t *testing.T, text string) func(payload []byte) bool {
	t.Helper()
	var all [][]*regexp.Regexp // patterns of each signature, all of which must match
	for _, s := range zeekSignature.FindAllStringSubmatch(text, -1) {
		var patterns []*regexp.Regexp
		for line := range strings.Lines(s[2]) {
			pattern := strings.TrimSuffix(strings.TrimPrefix(line, "  payload /"), "/\n")
			patterns = append(patterns, regexp.MustCompile(`^(?:`+pattern+`)`))
		}
		all = append(all, patterns)
	}
	if rest := zeekSignature.ReplaceAllString(text, ""); rest != "" || len(all) == 0 {
		t.Fatalf("%d signatures, and what is not of Zeek's grammar: %q", len(all), rest)
	}
	return func(payload []byte) bool {
		var characters strings.Builder
		for _, b := range payload {
			characters.WriteRune(rune(b))
		}
		for _, patterns := range all {
			if !slices.ContainsFunc(patterns, func(r *regexp.Regexp) bool { return !r.MatchString(characters.String()) }) {
				return true
			}
		}
		return false
	}
}

func TestZeekSignatures(t *testing.T) {
	matches := zeekMatches(t, written(t, "zeek"))
	for payload, want := range map[string]bool{
		"text \xbb\x29x\x88\x91 text": true, "\n\xbb\x29\n\x88\x91": true, "text \xbb\x29\x88\x91 text": false, "\xc2\xbb\x29x\x88\x90": false, "/;\"|": true, "": false,
	} {
		if matches([]byte(payload)) != want {
			t.Errorf("%q matches: %v, want %v", payload, !want, want)
		}
	}
}
