package flow_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dragnet/flow"
)

func TestAllowListProtects(t *testing.T) {
	a := flow.NewAllowList()
	a.Add("our own network", netip.MustParsePrefix("198.51.100.0/24"))
	for host, want := range map[string]string{
		"10.1.2.3": "a reserved range", "127.0.0.1": "a reserved range", "::1": "a reserved range", "::ffff:10.0.0.1": "a reserved range",
		"8.8.8.8": "a public resolver", "151.101.2.132": "a software mirror", "2001:500:2f::f": "a root name server", "198.51.100.77": "our own network",
		"203.0.113.5": "", "8.8.8.9": "", "2001:db8::1": "",
	} {
		if got, ok := a.Protects(netip.MustParseAddr(host)); got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v; want %q", host, got, ok, want)
		}
	}
}

func TestReadPrefixes(t *testing.T) {
	got, err := flow.ReadPrefixes(strings.NewReader("# ours\n198.51.100.7\n\n203.0.113.9/24 # a mirror\n2001:db8::/32\n::ffff:192.0.2.1\n"))
	want := []netip.Prefix{netip.MustParsePrefix("198.51.100.7/32"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("192.0.2.1/32")}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	if _, err := flow.ReadPrefixes(strings.NewReader("198.51.100.0/24\nexample.org\n")); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("a name gave %v, want an error that names line 2", err)
	}
}

func FuzzReadPrefixes(f *testing.F) {
	f.Add("198.51.100.7\n# x\n2001:db8::/32\n")
	f.Add("1.2.3.4/33")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := flow.ReadPrefixes(strings.NewReader(text))
		for _, p := range all {
			if err == nil && (!p.IsValid() || p != p.Masked()) {
				t.Fatalf("%q gave %v", text, p)
			}
		}
	})
}
