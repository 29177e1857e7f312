// Package rules writes the strings of signatures as rules of other programs,
// one writer per program.
package rules

import (
	"fmt"
	"hash/fnv"
	"io"
	"slices"
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

// Suricata writes one rule per string: stretches of fixed bytes as contents,
// held at their distances by distance and within.
func Suricata(w io.Writer, a *dossier.Alternatives) error {
	for i, c := range a.Contents {
		if _, err := fmt.Fprintf(w, "alert ip any any -> any any (msg:\"dragnet %s, string %d of %d\"; %sclasstype:trojan-activity; sid:%d; rev:1;)\n",
			a.Name, i+1, len(a.Contents), formatContents(c, " "), ruleNumber(a.Name, i)); err != nil {
			return err
		}
	}
	return nil
}

// Snort writes the same for Snort 3, where modifiers follow a comma.
func Snort(w io.Writer, a *dossier.Alternatives) error {
	for i, c := range a.Contents {
		if _, err := fmt.Fprintf(w, "alert ip any any -> any any ( msg:\"dragnet %s, string %d of %d\"; %sclasstype:trojan-activity; sid:%d; rev:1; )\n",
			a.Name, i+1, len(a.Contents), formatContents(c, ","), ruleNumber(a.Name, i)); err != nil {
			return err
		}
	}
	return nil
}

func formatContents(c dossier.Content, separator string) string {
	var b strings.Builder
	starts, stretches := fixedRuns(c)
	longest := 0
	for i := range stretches {
		if len(stretches[i]) > len(stretches[longest]) {
			longest = i
		}
	}
	end := 0
	for i, s := range stretches {
		var options []string
		if i > 0 {
			options = append(options, fmt.Sprintf("distance%s", formatOption(separator, starts[i]-end)), fmt.Sprintf("within%s", formatOption(separator, len(s))))
		}
		if i == longest {
			options = append(options, "fast_pattern")
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
	return b.String()
}

// formatOption writes an option's value: Suricata's ":n", Snort 3's " n".
func formatOption(separator string, n int) string {
	if separator == "," {
		return fmt.Sprintf(" %d", n)
	}
	return fmt.Sprintf(":%d", n)
}

// YARA writes one rule with a hexadecimal string per content, any of which
// matches.
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
	b.WriteString("  condition:\n    any of them\n}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// Zeek writes one signature per string as a regular expression over the
// reassembled payload.
func Zeek(w io.Writer, a *dossier.Alternatives) error {
	for i, c := range a.Contents {
		var b strings.Builder
		for j, x := range c.Bytes {
			if c.Fixed[j] {
				fmt.Fprintf(&b, "\\x%02x", x)
			} else {
				b.WriteString("(.|\\n)")
			}
		}
		name := strings.ReplaceAll(a.Name, ".", "-")
		if _, err := fmt.Fprintf(w, "signature dragnet-%s-%d {\n  payload /(.|\\n)*%s/\n  event \"dragnet %s\"\n}\n", name, i+1, b.String(), a.Name); err != nil {
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
