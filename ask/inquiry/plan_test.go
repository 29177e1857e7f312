package inquiry_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/internal/conf"
	"dragnet/wire/envelope"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

func keyOf(t rapid.TB) identity.Public {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k.Public()
}

// book is one of named witnesses with ASes and networks.
func book(t rapid.TB, witnesses ...inquiry.Contact) *inquiry.Book {
	t.Helper()
	b := &inquiry.Book{Witnesses: witnesses}
	for i := range b.Witnesses {
		b.Witnesses[i].Key = keyOf(t)
	}
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	return b
}

func names(contacts []inquiry.Contact) (out []string) {
	for _, c := range contacts {
		out = append(out, c.Name)
	}
	return out
}

func TestBookFile(t *testing.T) {
	k := keyOf(t).String()
	for _, test := range []struct{ name, text, problem string }{
		{"good", "witnesses:\n- {name: a, key: " + k + ", url: 'https://192.0.2.1:8443', as: 64496, networks: [192.0.2.0/24]}\n", ""},
		{"no key", "witnesses:\n- {name: a, url: 'https://192.0.2.1:8443'}\n", "a has no key"},
		{"http", "witnesses:\n- {name: a, key: " + k + ", url: 'http://192.0.2.1:8443'}\n", "https://203.0.113.1:8443"},
		{"one key twice", "witnesses:\n- {name: a, key: " + k + "}\n- {name: b, key: " + k + "}\n", "two witnesses have one key"},
		{"one name twice", "witnesses:\n- {name: a, key: " + k + "}\n- {name: a, key: " + keyOf(t).String() + "}\n", `two witnesses are called "a"`},
		{"a name with a line break", "witnesses:\n- {name: \"a\\nb\", key: " + k + "}\n", "without spaces"},
		{"relay without key", "relays:\n- {name: hub, url: 'https://192.0.2.9:1'}\n", "has no key"},
		{"misspelt", "witness: []\n", "unknown key"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var b inquiry.Book
			err := conf.Read(&b, conf.File{Name: "book.yaml", Data: []byte(test.text)})
			if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
				t.Errorf("error %v, want %q", err, test.problem)
			}
		})
	}
}

// TestClasses: who shares an organisation or an AS, also through a third, has
// one class.
func TestClasses(t *testing.T) {
	b := book(t,
		inquiry.Contact{Name: "a", Organisation: "x", AS: 1}, inquiry.Contact{Name: "b", Organisation: "y", AS: 2},
		inquiry.Contact{Name: "c", Organisation: "z", AS: 3}, inquiry.Contact{Name: "d", Organisation: "y", AS: 1},
		inquiry.Contact{Name: "e"}, inquiry.Contact{Name: "f"},
	)
	classes := map[string][]string{}
	for i := range b.Witnesses {
		s := b.Witnesses[i].Source()
		classes[s.Class] = append(classes[s.Class], s.Name)
	}
	want := map[string][]string{"a": {"a", "b", "d"}, "c": {"c"}, detective.Unknown: {"e", "f"}}
	if diff := cmp.Diff(want, classes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const table = `# prefixes, as CAIDA writes them, and by hand
192.0.2.0	24	64496
198.51.100.0/24 AS64497
203.0.113.0	24	64498_64499
2001:db8::/32 64500
64496|64497|-1
64497|64498|0
# an island
64500|64501|0
`

func TestNearest(t *testing.T) {
	tab, err := inquiry.ReadTable(strings.NewReader(table))
	if err != nil {
		t.Fatal(err)
	}
	b := book(t,
		inquiry.Contact{Name: "island", AS: 64500, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.128/25")}},
		inquiry.Contact{Name: "two", AS: 64498}, inquiry.Contact{Name: "none"},
		inquiry.Contact{Name: "one-far", AS: 64497, Networks: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
		inquiry.Contact{Name: "one-near", AS: 64497, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.0.0/16")}},
		inquiry.Contact{Name: "same", AS: 64496},
	)
	near := inquiry.WitnessSelection{Near: netip.MustParseAddr("192.0.2.7")}
	got, err := b.Order(near, nil, tab, nil)
	if diff := cmp.Diff([]string{"same", "one-near", "one-far", "two", "island", "none"}, names(got)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	got, err = b.Order(near, nil, nil, nil) // by prefix alone
	if want := []string{"island", "one-near", "one-far"}; err != nil || !slices.Equal(names(got)[:3], want) {
		t.Errorf("%v, %v", names(got), err)
	}
}

func TestOrder(t *testing.T) {
	b := book(t, inquiry.Contact{Name: "a", URL: "https://192.0.2.1:8443"}, inquiry.Contact{Name: "b"})
	random := rand.New(rand.NewPCG(1, 2))
	strangers := []inquiry.Contact{inquiry.Stranger(exchange.Card{Name: "a", Key: keyOf(t)})}
	got, err := b.Order(inquiry.WitnessSelection{Names: []string{"b", "https://192.0.2.1:8443/", "a"}}, nil, nil, random)
	if diff := cmp.Diff([]string{"b", "a"}, names(got)); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := b.Order(inquiry.WitnessSelection{Names: []string{"c"}}, nil, nil, random); err == nil || !strings.Contains(err.Error(), `"c"`) {
		t.Errorf("an unknown name: %v", err)
	}
	if got, err = b.Order(inquiry.WitnessSelection{All: true}, strangers, nil, random); err != nil || len(got) != 3 {
		t.Errorf("all: %v, %v", names(got), err)
	}
	for _, c := range got {
		if s := c.Source(); c.Stranger == s.Verified || c.Stranger && s.Name == "a" {
			t.Errorf("%+v", s)
		}
	}
	seen := map[string]bool{}
	for range 200 {
		got, err := b.Order(inquiry.WitnessSelection{Random: 1}, strangers, nil, random)
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		seen[got[0].Name] = true
	}
	if len(seen) != 3 {
		t.Errorf("a sample of one never chose all: %v", seen)
	}
	if _, err := new(inquiry.Book).Order(inquiry.WitnessSelection{All: true}, nil, nil, random); err == nil {
		t.Error("an empty book gives witnesses")
	}
}

// TestStages: all are asked once, in order, and no stage is more than twice as
// large as the one before.
func TestStages(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		all := make([]inquiry.Contact, rapid.IntRange(0, 100).Draw(t, "witnesses"))
		for i := range all {
			all[i].Name = fmt.Sprint(i)
		}
		first := rapid.IntRange(0, 20).Draw(t, "first")
		stages := inquiry.Stages(all, first)
		if !slices.Equal(names(slices.Concat(stages...)), names(all)) {
			t.Fatal("not all, or in another order")
		}
		for i, s := range stages {
			if first > 0 && len(s) > first<<i || len(s) == 0 || first == 0 && len(stages) > 1 {
				t.Fatalf("stage %d of %d has %d", i, len(stages), len(s))
			}
		}
	})
}

func TestTally(t *testing.T) {
	tally := inquiry.NewTally()
	for i := range 20 {
		tally.Set(fmt.Sprint(i), inquiry.Waiting)
	}
	for i := range 12 {
		tally.Set(fmt.Sprint(i), inquiry.Answered)
	}
	if got := tally.String(); got != "12 of 20 answered, 8 waiting" {
		t.Error(got)
	}
	for i := range 20 {
		status := inquiry.Silent
		if i < 15 {
			status = inquiry.Refused
		}
		if changed := tally.Set(fmt.Sprint(i), status); changed != (i >= 12) {
			t.Errorf("witness %d: a final status changed, or none did", i)
		}
	}
	if got := tally.String(); got != "12 of 20 answered, 3 refused, 5 silent" {
		t.Error(got)
	}
	if len(tally.Waiting()) != 0 || tally.Asked() != 20 {
		t.Error(tally.Waiting(), tally.Asked())
	}
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		err  error
		late bool
		want inquiry.AskStatus
	}{
		{envelope.ErrSignature, false, inquiry.Forged}, {envelope.ErrSigner, true, inquiry.Forged}, {envelope.ErrAudience, false, inquiry.Forged},
		{exchange.ErrOtherQuestion, false, inquiry.Replayed}, {envelope.ErrExpired, false, inquiry.Replayed},
		{envelope.ErrMalformed, false, inquiry.Broken}, {exchange.ErrTooLarge, true, inquiry.Broken}, {exchange.ErrUnfinished, true, inquiry.Broken},
		{errors.New("reset"), true, inquiry.Silent}, {errors.New("reset"), false, inquiry.Broken}, {identity.ErrPeer, false, inquiry.Unreachable},
	} {
		if got := inquiry.StatusOf(fmt.Errorf("asking: %w", test.err), test.late); got != test.want {
			t.Errorf("%v (late %t): %s, want %s", test.err, test.late, got, test.want)
		}
	}
}

func FuzzReadTable(f *testing.F) {
	f.Add(table)
	f.Add("1|2")
	f.Add("0.0.0.0/0 {1,2}")
	f.Fuzz(func(t *testing.T, text string) {
		tab, err := inquiry.ReadTable(strings.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("error %q names no line", err)
			}
			return
		}
		if as, ok := tab.Origin(netip.MustParseAddr("192.0.2.1")); ok && (as == 0 || tab.Distances(as)[as] != 0) {
			t.Errorf("origin %d", as)
		}
	})
}
