package pattern

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/flow"
	"dragnet/flow/key"
)

func files(m map[string]string) OpenFile {
	return func(name string) (io.ReadCloser, error) {
		s, ok := m[name]
		if !ok {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
		return io.NopCloser(strings.NewReader(s)), nil
	}
}

func TestParseExample(t *testing.T) {
	p, err := Parse("in src=203.0.113.5 proto=tcp dport=1433 then[1h] out dst=198.51.100.7 proto=udp dport=69", NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	want := &Pattern{
		Clues: []Clue{
			{End: key.In, Other: []netip.Prefix{netip.MustParsePrefix("203.0.113.5/32")}, Proto: []flow.Proto{flow.TCP}, DPort: []uint16{1433}, Text: "in src=203.0.113.5 proto=tcp dport=1433"},
			{End: key.Out, Other: []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32")}, Proto: []flow.Proto{flow.UDP}, DPort: []uint16{69}, Text: "out dst=198.51.100.7 proto=udp dport=69"},
		},
		Root: &Node{Op: Then, Within: time.Hour, Left: &Node{Clue: 0}, Right: &Node{Clue: 1}},
	}
	if diff := cmp.Diff(want, p, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestPrecedence(t *testing.T) {
	for in, want := range map[string]string{
		"in dport=1 or in dport=2 and in dport=3":                               "(0 or (1 and 2))",
		"in dport=1 and in dport=2 then in dport=3":                             "(0 and (1 then24h0m0s 2))",
		"(in dport=1 or in dport=2) THEN [30m] in dport=3":                      "((0 or 1) then30m0s 2)",
		"in dport=1 then[1h] in dport=2 then[7d] in dport=3":                    "((0 then1h0m0s 1) then168h0m0s 2)",
		"in dport=1 then[1h] (in dport=2 then[1h] in dport=3)":                  "(0 then1h0m0s (1 then1h0m0s 2))",
		"( ( in dport=1 ) )":                                                    "0",
		"not in dport=1 and in dport=2":                                         "(0 and not 1)",
		"in dport=1 then[1h] not in dport=2 then in dport=3":                    "((0 then1h0m0s not 1) then24h0m0s 2)",
		"not in dport=1 then[1h] (in dport=2 or in dport=3)":                    "(not 0 then1h0m0s (1 or 2))",
		"not (in dport=1 or in dport=2) and 2 of (in dport=3-5) and in dport=9": "((0 and 2 of 1) and not (2 or 3))",
		"in dport=1 or in dport=2 or in dport=3 state=failed":                   "((0 or 1) or 2)",
		"out dst=2001:db8::/32 proto=58 and out dst=::ffff:1.2.3.4":             "(0 and 1)",
	} {
		p, err := Parse(in, NoFiles)
		if err != nil {
			t.Errorf("%q: %v", in, err)
			continue
		}
		if got := shape(p.Root); got != want {
			t.Errorf("%q parsed as %s, want %s", in, got, want)
		}
		again, err := Parse(p.String(), NoFiles)
		if err != nil || shape(again.Root) != want {
			t.Errorf("%q printed as %q, which parses as %v (%v)", in, p.String(), again, err)
		}
	}
}

func shape(n *Node) string {
	switch n.Op {
	case Leaf:
		return fmt.Sprint(n.Clue)
	case Not:
		return "not " + shape(n.Left)
	case AtLeast:
		return fmt.Sprintf("%d of %s", n.Count, shape(n.Left))
	}
	op := n.Op.String()
	if n.Op == Then {
		op += n.Within.String()
	}
	return "(" + shape(n.Left) + " " + op + " " + shape(n.Right) + ")"
}

func TestErrorsSayWhereAndWhat(t *testing.T) {
	lists := files(map[string]string{"empty": "# nothing\n", "bad": "10.0.0.1\nnonsense\n"})
	for in, want := range map[string]string{
		"":                                  "column 1: missing clue",
		"src=1.2.3.4":                       `column 1: "src=1.2.3.4": a clue starts with in or out`,
		"in":                                "column 1: a clue fixes at least one of",
		"in state=failed":                   "column 1: a clue fixes at least one of",
		"in dst=1.2.3.4":                    "column 1: this names only X, the host that is asked for, which is never sent; a clue fixes at least one of src,",
		"out src=1.2.3.4":                   "column 1: this names only X",
		"in dport=65536":                    `column 4: port "65536" is not a number 0-65535`,
		"in dport=80 dport=81":              "column 13: dport is given twice",
		"in dport=22,":                      "column 4: \"dport=22,\": a value is missing",
		"in dport=22, 23":                   "column 4: \"dport=22,\": a value is missing",
		"in dport=22,@x":                    `column 4: "@x": a file cannot be part of a list`,
		"in dport=9-8":                      "column 4: ports 9-8: the range ends before it begins",
		"in dport=0-65535":                  "column 4: ports 0-65535 are 65536 values; at most 4096",
		"in dport=1-4000,5000-5100":         "column 4: more than 4096 values",
		"in dport=1-4000 sport=1-4000":      "column 1: the clue's lists give 16000000 combinations",
		"in dport=22-":                      `column 4: port "" is not a number`,
		"out dst = 1.2.3.4":                 "column 5: dst has no value: write dst=VALUE without blanks",
		"in src=1.2.3.4/24":                 "column 4: 1.2.3.4/24 has host bits set; write 1.2.3.0/24",
		"in src=0.0.0.0/0":                  "column 4: 0.0.0.0/0 fixes nothing",
		"in proto=tpc":                      `column 4: protocol "tpc" is neither`,
		"in state=open dport=1":             `column 4: state "open": want established, failed, or a conn_state`,
		"in dport=1 then[1 h] in dport=2":   "column 16:",
		"in dport=1 then[0s] in dport=2":    "column 16: duration \"0s\": want more than 0",
		"in dport=1 and":                    "column 15: missing clue",
		"(in dport=1":                       "column 12: missing closing parenthesis",
		"in dport=1)":                       `column 11: ")" is not expected here`,
		"not in dport=1":                    "column 1: not stands beside what it restricts",
		"in dport=1 or not in dport=2":      "not stands beside",
		"not in dport=1 and not in dport=2": "not stands beside",
		"in dport=1 and not (in dport=2 and in dport=3)":   "column 16: not negates a clue, or alternatives of clues",
		"not in dport=1 then (in dport=2 then in dport=3)": "needs a single clue after it",
		"2 of (in dport=1)":                           "column 1: 2 of 1 values",
		"1 of (in dport=1,2)":                         "column 1: 1 of 2 values",
		"129 of (in dport=1-200)":                     "129 of 200 values: want a number from 2 to 128",
		"2 of (in dport=1 and in dport=2)":            "2 of takes alternatives of clues",
		"2 in dport=1":                                `column 1: "2" is not expected here; a count of clues`,
		"2 of (in dport=1,2) then in dport=3":         "has no place in time",
		"2 of (in dport=1,2) and 2 of (in dport=3,4)": "at most one count",
		"in dport=1 xor in dport=2":                   `column 12: "xor" is not expected here`,
		"in colour=red":                               `column 4: unknown field "colour"; fields are src sport`,
		"in src=@missing":                             "column 4: open missing: file does not exist",
		"in src=@empty":                               "column 4: empty has no values",
		"in src=@bad":                                 `column 4: bad:2: "nonsense" is not an address or prefix`,
		strings.Repeat("(", 100) + "in dport=1":       "parentheses nest deeper",
		strings.Repeat("in dport=1 or ", 20):          "more than 16 clues",
	} {
		_, err := Parse(in, lists)
		var syntax *SyntaxError
		if !errors.As(err, &syntax) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
	if _, err := Parse("in src=@x", NoFiles); err == nil {
		t.Error("NoFiles let a file through")
	}
}

func TestListsMultiplyIntoTuples(t *testing.T) {
	p, err := Parse("out dst=@hosts dport=@ports proto=tcp", files(map[string]string{
		"hosts": "192.0.2.1 # a\n\n198.51.100.0/24\n2001:db8::1\n192.0.2.1\n", "ports": "80\n443\n",
	}))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, tuple := range p.Clues[0].Tuples() {
		got = append(got, tuple.Mask.String()+" "+tuple.String())
	}
	want := []string{
		"addr4/32+dport+proto 192.0.2.1/32 dport=80 proto=tcp", "addr4/32+dport+proto 192.0.2.1/32 dport=443 proto=tcp",
		"addr4/24+dport+proto 198.51.100.0/24 dport=80 proto=tcp", "addr4/24+dport+proto 198.51.100.0/24 dport=443 proto=tcp",
		"addr6/128+dport+proto 2001:db8::1/128 dport=80 proto=tcp", "addr6/128+dport+proto 2001:db8::1/128 dport=443 proto=tcp",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestMappedPrefixes: an IPv4-mapped prefix is an IPv4 prefix, as flows never
// hold mapped addresses.
func TestMappedPrefixes(t *testing.T) {
	p, err := Parse("in src=::ffff:198.51.100.0/120", NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := p.Clues[0].Other[0], netip.MustParsePrefix("198.51.100.0/24"); got != want {
		t.Errorf("read as %v, want %v", got, want)
	}
	if _, err := Parse("in src=::ffff:0:0/96", NoFiles); err == nil {
		t.Error("all of IPv4 was accepted as a prefix")
	}
}

// holds is the obvious, exponential twin of Match: try every choice of one
// event per leaf.
func holds(n *Node, at []flow.Time, leaf *int) (first, last flow.Time, ok bool) {
	if n.Op == Leaf {
		v := at[*leaf]
		*leaf++
		return v, v, true
	}
	lf, ll, lok := holds(n.Left, at, leaf)
	rf, rl, rok := holds(n.Right, at, leaf)
	ok = lok && rok
	if n.Op == Then {
		ok = ok && rf > ll && rl-ll <= flow.Time(n.Within)
	}
	return min(lf, rf), max(ll, rl), ok
}

func TestMatchAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		leaves := 0
		var tree func(depth int) *Node
		tree = func(depth int) *Node {
			if depth == 0 || rapid.IntRange(0, 2).Draw(t, "leaf") == 0 {
				leaves++
				return &Node{Clue: leaves - 1}
			}
			n := &Node{Op: And}
			if rapid.Bool().Draw(t, "then") {
				n.Op, n.Within = Then, time.Duration(rapid.IntRange(1, 6).Draw(t, "within"))
			}
			n.Left, n.Right = tree(depth-1), tree(depth-1)
			return n
		}
		root := tree(2)
		events := make([][]flow.Time, leaves)
		for i := range events {
			events[i] = rapid.SliceOfN(rapid.Map(rapid.IntRange(0, 12), func(v int) flow.Time { return flow.Time(v) }), 0, 4).Draw(t, "events")
		}
		bestLast, possible := flow.MaxTime, false
		at := make([]flow.Time, leaves)
		var choose func(i int)
		choose = func(i int) {
			if i == leaves {
				leaf := 0
				if _, last, ok := holds(root, at, &leaf); ok {
					possible, bestLast = true, min(bestLast, last)
				}
				return
			}
			for _, v := range events[i] {
				at[i] = v
				choose(i + 1)
			}
		}
		choose(0)
		picks, ok := Match(root, func(c int) []flow.Time { return events[c] })
		if ok != possible {
			t.Fatalf("%s over %v: Match says %v, trying all says %v", shape(root), events, ok, possible)
		}
		if !ok {
			return
		}
		for i, p := range picks {
			at[i] = events[i][p]
		}
		leaf := 0
		if _, last, ok := holds(root, at, &leaf); !ok || last != bestLast {
			t.Fatalf("%s over %v: picks %v do not match, or end at %v instead of %v", shape(root), events, picks, last, bestLast)
		}
	})
}

func TestBranchesHoldNoOr(t *testing.T) {
	p, err := Parse("(in dport=1 or in dport=2) then (in dport=3 or in dport=4 and in dport=5)", NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	branches, err := Branches(p.Root, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range branches {
		got = append(got, shape(b))
	}
	want := []string{"(0 then24h0m0s 2)", "(0 then24h0m0s (3 and 4))", "(1 then24h0m0s 2)", "(1 then24h0m0s (3 and 4))"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	wide := strings.TrimSuffix(strings.Repeat("(in dport=1 or in dport=2) and ", 8), " and ")
	p, err = Parse(wide, NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Branches(p.Root, nil); err == nil {
		t.Error("256 alternatives were accepted")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("in src=203.0.113.5 proto=tcp dport=1433 then[1h] out dst=198.51.100.7 proto=udp dport=69")
	f.Add("(out dst=2001:db8::/32 or in sport=@list) and in dport=0 state=established")
	f.Add("out dst=192.0.2.1,2001:db8::/32 proto=icmp dport=22,6660-6669,0")
	f.Add("then[9999999999h] ((((")
	f.Add("not (in dport=1 or in dport=2) and 2 of (in dport=3-5 or out dport=3) and in src=192.0.2.9 dst=10.0.0.1")
	f.Add("not in dport=1 then[1h] in dport=2 then not in dport=3")
	f.Add("out dst=192.0.2.0/24 state=S0,failed bytes>=10M bytes<=1G duration<=5s peers>=20")
	list := files(map[string]string{"list": "1\n2\n"})
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text, list)
		if err != nil {
			return
		}
		again, err := Parse(p.String(), list)
		if err != nil {
			t.Fatalf("%q printed as %q: %v", text, p.String(), err)
		}
		if shape(p.Root) != shape(again.Root) {
			t.Fatalf("%q changed shape when printed: %s, then %s", text, shape(p.Root), shape(again.Root))
		}
		for i := range p.Clues {
			for _, tuple := range p.Clues[i].Tuples() {
				if err := tuple.Mask.Validate(); err != nil {
					t.Fatalf("%q: %v", text, err)
				}
			}
		}
	})
}
