package clearinghouse_test

import (
	"net/netip"
	"path/filepath"
	"testing"
)

// TestNobodyCanListResolvers: hosts of the allow list are not published, by
// however many members they are reported.
func TestNobodyCanListResolvers(t *testing.T) {
	c := found(t, filepath.Join(t.TempDir(), "state.db"), nil)
	for _, member := range []string{"a", "b", "c"} {
		c.tell(member, c.report(scan, netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("198.41.0.4"), netip.MustParseAddr("198.51.100.1")))
	}
	if p := c.publish(); p.Entries != 1 {
		t.Errorf("%d entries, want the one that is neither a resolver nor a root name server", p.Entries)
	}
}
