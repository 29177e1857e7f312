package pattern

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestCanonical(t *testing.T) {
	open := files(map[string]string{"ports": "80\n443 # both\n80\n", "many": strings.Join(strings.Split("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", " "), "\n")})
	for in, want := range map[string]string{
		"IN DPORT=1433 PROTO=6 SRC=203.0.113.5/32":                                        "in src=203.0.113.5 dport=1433 proto=tcp",
		"out dport=2 then[24h] (in dport=1)":                                              "out dport=2 then in dport=1",
		"out dport=2 or in dport=1 or out dport=2":                                        "in dport=1 or out dport=2",
		"(out dport=2 and (in dport=1 and out dport=2))":                                  "in dport=1 and out dport=2",
		"in dport=@ports":                                                                 "in dport=443 or in dport=80",
		"in dport=@ports then[90m] in dport=@ports":                                       "(in dport=443 or in dport=80) then[1h30m] (in dport=443 or in dport=80)",
		"in dport=1 and (in dport=3 or in dport=2)":                                       "(in dport=2 or in dport=3) and in dport=1",
		"(in dport=3 or in dport=1) and in dport=@ports":                                  "(in dport=1 or in dport=3) and (in dport=443 or in dport=80)",
		"in dport=1 then (in dport=2 then in dport=3)":                                    "in dport=1 then (in dport=2 then in dport=3)",
		"in dport=2 or (in dport=@ports and in dport=@ports)":                             "in dport=2 or in dport=443 or in dport=80",
		"in dport=1 state=failed or in dport=1 state=FAILED":                              "in dport=1 state=failed",
		"out dst=2001:db8::/32 sport=5 state=established dport=80":                        "out dst=2001:db8::/32 sport=5 dport=80 state=established",
		"not in dport=80,443 and in dport=1 and not in dport=2":                           "in dport=1 and not (in dport=443 or in dport=80) and not in dport=2",
		"in dport=1 then[60m] not (in dport=3 or in dport=2)":                             "in dport=1 then[1h] not (in dport=2 or in dport=3)",
		"3 of (in src=203.0.113.9,203.0.113.1 or out dport=5)":                            "3 of (in src=203.0.113.1 or in src=203.0.113.9 or out dport=5)",
		"out dst=203.0.113.1 src=10.0.0.2,10.0.0.1 state=rej,failed bytes<=1k bytes>=100": "out src=10.0.0.1,10.0.0.2 dst=203.0.113.1 state=failed,REJ bytes>=100 bytes<=1k",
		"in dport=1 then in dport=2 and in dport=0 then[7d] in dport=9":                   "in dport=0 then[7d] in dport=9 and in dport=1 then in dport=2",
	} {
		p, err := Parse(in, open)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := p.Canonical(); got != want {
			t.Errorf("%s\n got %s (%v)\nwant %s", in, got, err, want)
		}
	}
	p, err := Parse("in dport=@many", open)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := p.Canonical(); err == nil {
		t.Errorf("17 alternatives became %q", text)
	}
}

// TestCanonicalIsOne: the canonical form parses, is its own canonical form, and
// does not depend on the order of what commutes.
func TestCanonicalIsOne(t *testing.T) {
	var write func(t *rapid.T, depth int) (text, mirrored string)
	write = func(t *rapid.T, depth int) (string, string) {
		if depth == 0 || rapid.IntRange(0, 2).Draw(t, "leaf") == 0 {
			clue := rapid.SampledFrom([]string{"in dport=1", "in dport=2", "out dport=1", "out dport=2 proto=udp"}).Draw(t, "clue")
			return clue, clue
		}
		a, am := write(t, depth-1)
		b, bm := write(t, depth-1)
		switch op := rapid.SampledFrom([]string{"and", "or", "then", "then[1h]"}).Draw(t, "op"); op {
		case "and", "or":
			return "(" + a + ") " + op + " (" + b + ")", "(" + bm + ") " + op + " (" + am + ")"
		default:
			return "(" + a + ") " + op + " (" + b + ")", "(" + am + ") " + op + " (" + bm + ")"
		}
	}
	canonical := func(t *rapid.T, text string) string {
		p, err := Parse(text, NoFiles)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out, err := p.Canonical()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	rapid.Check(t, func(t *rapid.T) {
		text, mirrored := write(t, 4)
		one := canonical(t, text)
		if again := canonical(t, one); again != one {
			t.Fatalf("%s\nbecame %s\nand then %s", text, one, again)
		}
		if other := canonical(t, mirrored); other != one {
			t.Fatalf("%s\nbecame %s\nmirrored %s", text, one, other)
		}
	})
}
