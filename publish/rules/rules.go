// Package rules writes the strings of signatures as rules of other programs,
// one writer per program.
package rules

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"

	"dragnet/dossier"
)

// Set is what is exported of a signature.
type Set struct {
	*dossier.Alternatives
	// Service is what the worm is sent to; nil matches any.
	Service *dossier.Service
	// Background tells which bytes are rare; nil takes all for equal.
	Background *dossier.Background
	// Version is the revision of the rules; 0 means 1.
	Version int
}

// Writer writes the strings of a signature in one program's language.
type Writer func(w io.Writer, s *Set) error

// Writers are the writers of signatures by format.
func Writers() map[string]Writer {
	return map[string]Writer{"suricata": Suricata, "snort": Snort, "yara": YARA, "zeek": Zeek, "zeek-script": ZeekScript}
}

// stretch is a run of fixed bytes, the bytes between it and the one before, and how many
// more may lie there.
type stretch struct {
	bytes          []byte
	distance, most int
}

// stretchesOf splits c into its runs of fixed bytes.
func stretchesOf(c dossier.Content) (all []stretch) {
	next := stretch{}
	for i, fixed := range c.Fixed {
		if extra := c.SlackAt(i); extra > 0 || !fixed {
			if len(next.bytes) > 0 {
				all, next = append(all, next), stretch{}
			}
			next.most += extra
		}
		if fixed {
			next.bytes = append(next.bytes, c.Bytes[i])
		} else {
			next.distance++
		}
	}
	return append(all, next)
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
// fixed bytes as contents, held at their distances by distance and within. The rules
// are for what clients send, and give one alert for a connection.
//
// By default Suricata looks no further into a connection that begins like TLS, whatever
// follows, so a comment names the setting that has it look.
func Suricata(w io.Writer, s *Set) error {
	if _, err := io.WriteString(w, "# Suricata looks into connections that begin like TLS with app-layer.protocols.tls.encryption-handling: full only.\n"); err != nil {
		return err
	}
	return writeContents(w, s, "(%s)", " ")
}

// Snort writes the same for Snort 3, where modifiers follow a comma.
func Snort(w io.Writer, s *Set) error { return writeContents(w, s, "( %s )", ",") }

func writeContents(w io.Writer, s *Set, body, separator string) error {
	all, err := alternatives(s.Alternatives)
	if err != nil {
		return err
	}
	head, flow := "ip any any -> any any", "to_server"
	if s.Service != nil {
		head = fmt.Sprintf("%s any any -> any %d", s.Service.Proto, s.Service.Port)
		if s.Service.Proto == "tcp" {
			flow = "established,to_server"
		}
	}
	bit := "dragnet." + s.Name
	for i, contents := range all {
		options := fmt.Sprintf("msg:\"dragnet %s, rule %d of %d\"; flow:%s; flowbits:isnotset,%s; %sflowbits:set,%s; classtype:trojan-activity; sid:%d; rev:%d;",
			s.Name, i+1, len(all), flow, bit, formatContents(contents, s.Background, separator), bit, ruleNumber(s.Name, i), max(1, s.Version))
		if _, err := fmt.Fprintf(w, "alert %s "+body+"\n", head, options); err != nil {
			return err
		}
	}
	return nil
}

// rarity is how unlikely bytes are, in nats.
func rarity(b []byte, bg *dossier.Background) (sum float64) {
	for _, x := range b {
		if bg == nil {
			sum++
		} else {
			sum += min(-math.Log(bg[x]), math.Log(256))
		}
	}
	return sum
}

// formatContents writes the contents of one rule, of whose stretches the rarest is
// looked for first.
func formatContents(contents []dossier.Content, bg *dossier.Background, separator string) string {
	rarest := 0.0
	for _, c := range contents {
		for _, s := range stretchesOf(c) {
			rarest = max(rarest, rarity(s.bytes, bg))
		}
	}
	var b strings.Builder
	marked := false
	for _, c := range contents {
		for i, s := range stretchesOf(c) {
			var options []string
			if i > 0 {
				options = append(options, fmt.Sprintf("distance%s", formatOption(separator, s.distance)), fmt.Sprintf("within%s", formatOption(separator, len(s.bytes)+s.most)))
			}
			if !marked && rarity(s.bytes, bg) == rarest {
				options, marked = append(options, "fast_pattern"), true
			}
			fmt.Fprintf(&b, "content:\"|% X|\"", s.bytes)
			for _, o := range options {
				if separator == "," {
					b.WriteString(", " + o)
				} else {
					b.WriteString("; " + o)
				}
			}
			b.WriteString("; ")
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
func YARA(w io.Writer, s *Set) error {
	var b strings.Builder
	name := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' {
			return '_'
		}
		return r
	}, s.Name)
	fmt.Fprintf(&b, "rule dragnet_%s\n{\n  meta:\n    description = \"worm signature %s lowered to strings\"\n    loss = \"%.4f\"\n    version = %d\n  strings:\n", name, s.Name, s.Loss, max(1, s.Version))
	for i, c := range s.Contents {
		fmt.Fprintf(&b, "    $s%d = {", i+1)
		for j, x := range c.Bytes {
			if slack := c.SlackAt(j); slack > 0 {
				fmt.Fprintf(&b, " [0-%d]", slack)
			}
			if c.Fixed[j] {
				fmt.Fprintf(&b, " %02X", x)
			} else {
				b.WriteString(" ??")
			}
		}
		b.WriteString(" }\n")
	}
	of := "any"
	if s.Least > 1 {
		of = strconv.Itoa(s.Least)
	}
	fmt.Fprintf(&b, "  condition:\n    %s of them\n}\n", of)
	_, err := io.WriteString(w, b.String())
	return err
}

// Zeek writes one signature per string, or one for all if all must occur, as regular
// expressions over the reassembled payload of what clients send. By default Zeek looks
// at the first 1,024 bytes of a connection only (dpd_buffer_size,
// dpd_match_only_beginning): see ZeekScript.
func Zeek(w io.Writer, s *Set) error {
	all, err := alternatives(s.Alternatives)
	if err != nil {
		return err
	}
	var head strings.Builder
	if s.Service != nil {
		fmt.Fprintf(&head, "  ip-proto == %s\n  dst-port == %d\n", s.Service.Proto, s.Service.Port)
		if s.Service.Proto == "tcp" {
			head.WriteString("  tcp-state established,originator\n")
		}
	}
	name := strings.ReplaceAll(s.Name, ".", "-")
	for i, contents := range all {
		var b strings.Builder
		for _, c := range contents {
			b.WriteString("  payload /(.|\\n)*")
			for j, x := range c.Bytes {
				if slack := c.SlackAt(j); slack > 0 {
					fmt.Fprintf(&b, "(.|\\n){0,%d}", slack)
				}
				if c.Fixed[j] {
					fmt.Fprintf(&b, "\\x%02x", x)
				} else {
					b.WriteString("(.|\\n)")
				}
			}
			b.WriteString("/\n")
		}
		if _, err := fmt.Fprintf(w, "signature dragnet-%s-%d {\n%s%s  event \"dragnet %s\"\n}\n", name, i+1, head.String(), b.String(), s.Name); err != nil {
			return err
		}
	}
	return nil
}

// ZeekScript writes a script that loads the signatures, kept as NAME.sig beside it, and
// has Zeek look at all of a connection, not at its first 1,024 bytes.
func ZeekScript(w io.Writer, s *Set) error {
	_, err := fmt.Fprintf(w, "@load-sigs ./%s.sig\n\n# Signatures are looked for in the first dpd_buffer_size bytes of a connection unless this is off.\nredef dpd_match_only_beginning = F;\nredef dpd_buffer_size = 65536;\n", s.Name)
	return err
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
