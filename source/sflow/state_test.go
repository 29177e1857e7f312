package sflow

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/internal/testkit"
	"dragnet/source/biflow"
	"dragnet/source/sourcetest"
)

// TestCountsAreKeptAcrossRestarts: with a restart after each datagram, and some
// datagrams missing, the counts are those without one.
func TestCountsAreKeptAcrossRestarts(t *testing.T) {
	from := netip.MustParseAddr("192.0.2.1")
	whole, parts := New(DefaultConfiguration()), New(DefaultConfiguration())
	for i, g := range sourcetest.Datagrams(t, testkit.Data(t, "exports", "ovs-netflow-sflow-ipfix.pcap.gz"), Is) {
		if i%5 == 4 {
			continue
		}
		for _, d := range []*Decoder{whole, parts} {
			if err := d.Decode(0, from, g.Data, func(*biflow.Record) {}); err != nil {
				t.Fatal(err)
			}
		}
		text, err := parts.Save()
		if err != nil {
			t.Fatal(err)
		}
		parts = New(DefaultConfiguration())
		if err := parts.Restore(0, text); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(whole.Counters(), parts.Counters()); diff != "" || whole.Counters()[from].Lost == 0 {
		t.Errorf("%s\n%+v", diff, whole.Counters())
	}
	for _, bad := range []string{"", "{}", `[{}]`, `[{"addr":"x"}]`} {
		if err := New(DefaultConfiguration()).Restore(0, []byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}
