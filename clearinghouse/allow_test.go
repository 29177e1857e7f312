package clearinghouse_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"dragnet/flow"
)

// TestNobodyCanListResolvers: hosts of the allow list are not published, by
// however many members they are reported.
func TestNobodyCanListResolvers(t *testing.T) {
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), nil)
	for _, member := range []string{"a", "b", "c"} {
		c.submitReport(member, c.report(scan, netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("198.41.0.4"), netip.MustParseAddr("198.51.100.1")))
	}
	if p := c.publish(); p.Entries != 1 {
		t.Errorf("%d entries, want the one that is neither a resolver nor a root name server", p.Entries)
	}
}

// TestAllowListOfTheOperator: what the operator protects is not published either.
func TestAllowListOfTheOperator(t *testing.T) {
	allow := flow.NewAllowList()
	allow.Add("a partner", netip.MustParsePrefix("198.51.100.0/29"))
	c := foundWith(t, filepath.Join(t.TempDir(), "state.db"), allow, nil)
	for _, member := range []string{"a", "b", "c"} {
		c.submitReport(member, c.report(scan, hosts(7, 8)...))
	}
	if p := c.publish(); p.Entries != 1 {
		t.Errorf("%d entries, want the one outside of the partner's network", p.Entries)
	}
}
