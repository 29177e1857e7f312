// Package rules writes the strings of signatures as rules of other programs,
// one writer per program.
package rules

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strconv"
	"strings"

	"dragnet/dossier"
)

// Writer writes the strings of a signature in one program's language.
type Writer func(w io.Writer, a *dossier.Alternatives) error

// Writers are the writers of signatures by format.
func Writers() map[string]Writer {
	return map[string]Writer{"suricata": Suricata, "snort": Snort, "yara": YARA, "zeek": Zeek}
}

// fixedRuns splits c into its runs of fixed bytes: the start and the bytes of
// each.
func fixedRuns(c dossier.Content) (starts []int, bytes [][]byte) {
	for i, fixed := range c.Fixed {
		if !fixed {
			continue
		}
		if i == 0 || !c.Fixed[i-1] {
			starts, bytes = append(starts, i), append(bytes, nil)
		}
		bytes[len(bytes)-1] = append(bytes[len(bytes)-1], c.Bytes[i])
	}
	return starts, bytes
}

// Rules have numbers for local use (1,000,000 to 1,999,999 are reserved for it by
// the Snort and Suricata communities), but for the last thousand, which those of
// package iprep are of. Strings of a signature are numbered on, so that they are
// distinct, and that few signatures share numbers.
const (
	firstRule, localRules = 1_000_000, 999_000
	together              = 16
)

// ruleNumber is the same for the same signature and string, so that a new
// export replaces an old one.
func ruleNumber(name string, i int) int {
	h := fnv.New32a()
	io.WriteString(h, name)
	return firstRule + (int(h.Sum32()%(localRules/together))*together+i)%localRules
}

// ErrQuorum says that a format cannot express "some of these strings, but not all".
var ErrQuorum = errors.New("cannot say that some of the strings must occur, but not all; export yara")

// alternatives are the contents of each rule to write: each alone, or all together.
func alternatives(a *dossier.Alternatives) ([][]dossier.Content, error) {
	switch {
	case a.Least > 1 && a.Least < len(a.Contents):
		return nil, fmt.Errorf("signature %s: %w", a.Name, ErrQuorum)
	case a.Least > 1:
		return [][]dossier.Content{a.Contents}, nil
	}
	var all [][]dossier.Content
	for i := range a.Contents {
		all = append(all, a.Contents[i:i+1])
	}
	return all, nil
}

// Suricata writes one rule per string, or one for all if all must occur: stretches of
// fixed bytes as contents, held at their distances by distance and within.
func Suricata(w io.Writer, a *dossier.Alternatives) error {
	return writeContents(w, a, "alert ip any any -> any any (msg:\"dragnet %s, rule %d of %d\"; %sclasstype:trojan-activity; sid:%d; rev:1;)\n", " ")
}

// Snort writes the same for Snort 3, where modifiers follow a comma.
func Snort(w io.Writer, a *dossier.Alternatives) error {
	return writeContents(w, a, "alert ip any any -> any any ( msg:\"dragnet %s, rule %d of %d\"; %sclasstype:trojan-activity; sid:%d; rev:1; )\n", ",")
}

func writeContents(w io.Writer, a *dossier.Alternatives, rule, separator string) error {
	all, err := alternatives(a)
	if err != nil {
		return err
	}
	for i, contents := range all {
		if _, err := fmt.Fprintf(w, rule, a.Name, i+1, len(all), formatContents(contents, separator), ruleNumber(a.Name, i)); err != nil {
			return err
		}
	}
	return nil
}

// formatContents writes the contents of one rule, of whose stretches the longest is
// looked for first.
func formatContents(contents []dossier.Content, separator string) string {
	longest := 0
	for _, c := range contents {
		_, stretches := fixedRuns(c)
		for _, s := range stretches {
			longest = max(longest, len(s))
		}
	}
	var b strings.Builder
	marked := false
	for _, c := range contents {
		starts, stretches := fixedRuns(c)
		end := 0
		for i, s := range stretches {
			var options []string
			if i > 0 {
				options = append(options, fmt.Sprintf("distance%s", formatOption(separator, starts[i]-end)), fmt.Sprintf("within%s", formatOption(separator, len(s))))
			}
			if !marked && len(s) == longest {
				options, marked = append(options, "fast_pattern"), true
			}
			fmt.Fprintf(&b, "content:\"|% X|\"", s)
			for _, o := range options {
				if separator == "," {
					b.WriteString(", " + o)
				} else {
					b.WriteString("; " + o)
				}
			}
			b.WriteString("; ")
			end = starts[i] + len(s)
		}
	}
	return b.String()
}

// formatOption writes an option's value: Suricata's ":n", Snort 3's " n".
func formatOption(separator string, n int) string {
	if separator == "," {
		return fmt.Sprintf(" %d", n)
	}
	return fmt.Sprintf(":%d", n)
}

// YARA writes one rule with a hexadecimal string per content, any of which, or as many
// as must occur, match.
func YARA(w io.Writer, a *dossier.Alternatives) error {
	var b strings.Builder
	name := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' {
			return '_'
		}
		return r
	}, a.Name)
	fmt.Fprintf(&b, "rule dragnet_%s\n{\n  meta:\n    description = \"worm signature %s lowered to strings\"\n    loss = \"%.4f\"\n  strings:\n", name, a.Name, a.Loss)
	for i, c := range a.Contents {
		fmt.Fprintf(&b, "    $s%d = {", i+1)
		for j, x := range c.Bytes {
			if c.Fixed[j] {
				fmt.Fprintf(&b, " %02X", x)
			} else {
				b.WriteString(" ??")
			}
		}
		b.WriteString(" }\n")
	}
	of := "any"
	if a.Least > 1 {
		of = strconv.Itoa(a.Least)
	}
	fmt.Fprintf(&b, "  condition:\n    %s of them\n}\n", of)
	_, err := io.WriteString(w, b.String())
	return err
}

// Zeek writes one signature per string, or one for all if all must occur, as regular
// expressions over the reassembled payload.
func Zeek(w io.Writer, a *dossier.Alternatives) error {
	all, err := alternatives(a)
	if err != nil {
		return err
	}
	name := strings.ReplaceAll(a.Name, ".", "-")
	for i, contents := range all {
		var b strings.Builder
		for _, c := range contents {
			b.WriteString("  payload /(.|\\n)*")
			for j, x := range c.Bytes {
				if c.Fixed[j] {
					fmt.Fprintf(&b, "\\x%02x", x)
				} else {
					b.WriteString("(.|\\n)")
				}
			}
			b.WriteString("/\n")
		}
		if _, err := fmt.Fprintf(w, "signature dragnet-%s-%d {\n%s  event \"dragnet %s\"\n}\n", name, i+1, b.String(), a.Name); err != nil {
			return err
		}
	}
	return nil
}

// Formats lists the formats in order.
func Formats() []string {
	var names []string
	for name := range Writers() {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
