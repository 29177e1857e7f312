package conf

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// sample has one field of each kind a configuration uses.
type sample struct {
	Name   string            `yaml:"name"`
	Wait   time.Duration     `yaml:"wait"`
	Port   uint16            `yaml:"port"`
	Rate   float64           `yaml:"rate"`
	On     bool              `yaml:"on"`
	Token  Secret            `yaml:"token"`
	Nets   []netip.Prefix    `yaml:"nets"`
	Peers  []peer            `yaml:"peers"`
	Labels map[string]string `yaml:"labels"`
	Deep   *peer             `yaml:"deep"`
	Level  slog.Level        `yaml:"level"`
	Untold int               `yaml:"-"`
}

type peer struct {
	Host string `yaml:"host"`
	Port uint16 `yaml:"port"`
}

func (s *sample) Validate() error {
	var errs []error
	for i, p := range s.Peers {
		if p.Port == 1 {
			errs = append(errs, fmt.Errorf("peers[%d].port: 1 is taken", i))
		}
	}
	if s.Rate < 0 {
		errs = append(errs, errors.New("rate must not be negative"))
	}
	if s.Name == "nobody" {
		errs = append(errs, errors.New("name: give one"))
	}
	return errors.Join(errs...)
}

func defaults() *sample {
	return &sample{Wait: time.Minute, Port: 80, Nets: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
}

func TestReadSetsValuesOverDefaults(t *testing.T) {
	got := defaults()
	err := Read(got,
		File{"a.yaml", []byte("name: first\nwait: 90s\nnets: [192.0.2.0/24]\npeers:\n- {host: x, port: 2}\nlabels: {a: b}\n")},
		File{"b.yaml", []byte("# only comments\n")},
		File{"c.yaml", []byte("name: last\ntoken: s3cret\ndeep: {host: y}\nlevel: warn\nlabels: {c: d}\npeers:\n")})
	if err != nil {
		t.Fatal(err)
	}
	want := &sample{
		Name: "last", Wait: 90 * time.Second, Port: 80, Token: "s3cret", Level: slog.LevelWarn,
		Nets: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Deep: &peer{Host: "y"},
		Labels: map[string]string{"a": "b", "c": "d"},
	}
	opts := cmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty()}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestFindings(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"nam: x", `f:1: nam: unknown key; did you mean "name"?`},
		{"untold: 1", `f:1: untold: unknown key; want one of deep, labels, level, name, nets, on, peers, port, rate, token, wait`},
		{"peers:\n- host: a\n  prot: 1\n", `f:3: peers[0].prot: unknown key; did you mean "port"?`},
		{"name: a\nname: b", `f:2: name: is set twice, first on line 1`},
		{"wait: 90", `f:1: wait: "90" is not a duration such as 90s or 24h`},
		{"port: 65536", `f:1: port: "65536" is not a whole number from 0 to 65535`},
		{"port: -1", `f:1: port: "-1" is not a whole number from 0 to 65535`},
		{"port: 1.5", `f:1: port: "1.5" is not a whole number from 0 to 65535`},
		{"rate: fast", `f:1: rate: "fast" is not a number`},
		{"on: maybe", `f:1: on: "maybe" is not true or false`},
		{"on: [true]", `f:1: on: must be true or false`},
		{"name:", `f:1: name: has no value; remove the line to keep the default`},
		{"nets: 192.0.2.0/24", `f:1: nets: must be a list, each item on a line after '- ' or within [ ]`},
		{"nets: [192.0.2.0/33]", `f:1: nets[0]: cannot use "192.0.2.0/33": netip.ParsePrefix("192.0.2.0/33"): prefix length out of range`},
		{"nets:\n- 192.0.2.0/24\n-\n", `f:3: nets[1]: has no value; remove the line to keep the default`},
		{"deep: 3", `f:1: deep: must hold keys and values, one 'key: value' a line`},
		{"[1, 2]", `f:1: must hold keys and values, one 'key: value' a line`},
		{"deep: &a {host: x}", `f:1: deep: anchors and aliases are not supported; write the value out`},
		{"deep: {host: &a x}\nname: *a", "f:1: deep.host: anchors and aliases are not supported; write the value out\n" +
			"f:2: name: anchors and aliases are not supported; write the value out"},
		{"? [a]\n: b", `f:1: a key must be a plain word`},
		{"name: a\n---\nname: b", `f:2: holds a second document; put everything into the first`},
		{"name: a\n---\n\t", `f:3: is not valid YAML: found character that cannot start any token`},
		{"name: a\na: b: c", `f:2: is not valid YAML: mapping values are not allowed in this context`},
		{"name: \xff", `f: is not valid YAML: invalid leading UTF-8 octet`},
		{"port: x\nrate: y", "f:1: port: \"x\" is not a whole number from 0 to 65535\nf:2: rate: \"y\" is not a number"},
		// What Validate finds is placed by the key it names.
		{"rate: -1\npeers:\n- port: 2\n- host: a\n  port: 1\n", "f:5: peers[1].port: 1 is taken\nrate must not be negative"},
		{"peers:\n- {host: x,\n   port: 1}\nname: nobody", "f:3: peers[0].port: 1 is taken\nf:4: name: give one"},
	} {
		err := Read(defaults(), File{"f", []byte(c.in)})
		if err == nil {
			t.Errorf("%q was accepted, want %q", c.in, c.want)
			continue
		}
		if _, ok := errors.AsType[*Error](err); !ok {
			t.Errorf("%q: error is a %T", c.in, err)
		}
		if diff := cmp.Diff(c.want, err.Error()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.in, diff)
		}
	}
}

func TestSizeIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(name, bytes.Repeat([]byte("#\n"), MaxSize), 0o600); err != nil {
		t.Fatal(err)
	}
	err := Load(defaults(), name)
	if err == nil || !strings.Contains(err.Error(), "is larger than 1048576 bytes") {
		t.Errorf("error is %v", err)
	}
}

func TestReportIsBounded(t *testing.T) {
	err := Read(defaults(), File{"f", []byte(strings.Repeat("x: y\n", 1000))})
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != maxFindings+1 || lines[maxFindings] != "and 950 more mistakes" {
		t.Errorf("%d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}

func TestUnreadableFileIsNotAFinding(t *testing.T) {
	err := Load(defaults(), filepath.Join(t.TempDir(), "absent.yaml"))
	if _, ok := errors.AsType[*Error](err); err == nil || ok {
		t.Errorf("error is %#v", err)
	}
}

func TestSecretIsShownNowhere(t *testing.T) {
	c := sample{Token: "s3cret"}
	var shown bytes.Buffer
	if err := Show(&shown, c); err != nil {
		t.Fatal(err)
	}
	tree, err := Tree(c)
	if err != nil {
		t.Fatal(err)
	}
	slog.New(slog.NewJSONHandler(&shown, nil)).Info("x", "token", c.Token, "all", c)
	fmt.Fprintf(&shown, "%v %+v %#v %s %q %v", c, c, c, c.Token, c.Token, tree)
	if strings.Contains(shown.String(), "s3cret") || !strings.Contains(shown.String(), mask) {
		t.Errorf("shown: %s", shown.String())
	}
	if c.Token.Reveal() != "s3cret" || Secret("").String() != "" {
		t.Error("Reveal or the empty secret is wrong")
	}
}

// FuzzRead: what is accepted is shown as YAML that yields the same again.
func FuzzRead(f *testing.F) {
	f.Add([]byte("name: a\nwait: 1h\nnets: [::/0]\npeers:\n- {host: x}\nlabels: {a: b}\nlevel: info+2\n"))
	f.Add([]byte("a: &a [*a]\n--- !!binary x\n"))
	f.Add([]byte("deep: {host: !!binary eA==}\non: yes\n? \n: "))
	opts := cmp.Options{cmpopts.EquateComparable(netip.Prefix{}), cmpopts.EquateEmpty(), cmpopts.EquateNaNs()}
	f.Fuzz(func(t *testing.T, data []byte) {
		first := defaults()
		if Read(first, File{"f", data}) != nil {
			return
		}
		var shown bytes.Buffer
		if err := Show(&shown, first); err != nil {
			t.Fatal(err)
		}
		second := defaults()
		if err := Read(second, File{"shown", shown.Bytes()}); err != nil {
			t.Fatalf("%v\n%s", err, shown.Bytes())
		}
		first.Token, second.Token = "", ""
		if diff := cmp.Diff(first, second, opts); diff != "" {
			t.Errorf("shown:\n%s\n(-first +second):\n%s", shown.Bytes(), diff)
		}
	})
}

// TestChangedKeys: keys of nested sections are named one by one, a list as one key,
// and values that are structs without keys as what they are.
func TestChangedKeys(t *testing.T) {
	type section struct {
		Days   int          `yaml:"days"`
		Prefix netip.Prefix `yaml:"prefix"`
		List   []int        `yaml:"list"`
	}
	type configuration struct {
		Name  string  `yaml:"name"`
		Store section `yaml:"store"`
	}
	was := configuration{"a", section{1, netip.MustParsePrefix("10.0.0.0/8"), []int{1}}}
	if got := ChangedKeys(was, was); len(got) > 0 {
		t.Errorf("unchanged: %v", got)
	}
	is := configuration{"b", section{1, netip.MustParsePrefix("10.0.0.0/9"), []int{1, 2}}}
	if got, want := ChangedKeys(was, is), []string{"name", "store.prefix", "store.list"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}
