//go:build linux

package redirect

import (
	"net/netip"
	"testing"
)

func TestFirstAfter(t *testing.T) {
	for prefix, want := range map[string]string{"192.0.2.192/27": "192.0.2.224", "10.0.0.0/8": "11.0.0.0", "2001:db8::/32": "2001:db9::", "192.0.2.1/32": "192.0.2.2"} {
		if got, ok := firstAfter(netip.MustParsePrefix(prefix)); !ok || got.String() != want {
			t.Errorf("after %s: %s, %v; want %s", prefix, got, ok, want)
		}
	}
	if _, ok := firstAfter(netip.MustParsePrefix("240.0.0.0/4")); ok {
		t.Error("there is an address after the last")
	}
}
