package clearinghouse_test

import (
	"context"
	"encoding/binary"
	"net/netip"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/wire/reporting"
)

// largeReport names n hosts, from the i-th on.
func (c *community) largeReport(pattern string, i, n int) *dossier.Report {
	named := make([]netip.Addr, n)
	for j := range named {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], uint32(0x0b000000+i+j))
		named[j] = netip.AddrFrom4(a)
	}
	return c.report(pattern, named...)
}

// TestOneOrganisationHasAShare: what one organisation reports is bounded by size, also
// over a restart, under whichever member and key; others report on.
func TestOneOrganisationHasAShare(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	share := func(x *clearinghouse.Configuration) { x.ReportBytes = 3 * dossier.MaxReport / 2 } // 3 MB: four large reports
	c := newCommunity(t, path, share)
	c.draft.Members[1].Class = "org:a" // b is of the same organisation
	c.sign()
	submit := func(member string, i int) clearinghouse.Outcome {
		t.Helper()
		out, err := c.core.Submit(t.Context(), [][]byte{c.seal(member, reporting.ReportKind, c.largeReport(scan, i<<15, 1<<15))})
		if err != nil {
			t.Fatal(err)
		}
		return out[0]
	}
	full := clearinghouse.Outcome{Status: clearinghouse.Refused, Reason: clearinghouse.ErrShare.Error()}
	var first dossier.ReportID
	for i := range 4 {
		o := submit([]string{"a", "b"}[i%2], i)
		if o.Status != clearinghouse.Accepted {
			t.Fatalf("report %d: %+v", i, o)
		}
		if i == 0 {
			first = o.Report
		}
	}
	for range 10 { // known reports take no room
		submit("a", 0)
	}
	for _, m := range []string{"a", "b"} {
		if o := submit(m, 9); o != full {
			t.Errorf("%s: %+v", m, o)
		}
	}
	if o := submit("c", 9); o.Status != clearinghouse.Accepted {
		t.Errorf("another organisation: %+v", o)
	}
	c.open(path, share)
	if o := submit("a", 9); o != full {
		t.Errorf("after a restart: %+v", o)
	}
	if _, err := c.core.Void(t.Context(), clearinghouse.ReportSelection{Report: first}, "a mistake"); err != nil {
		t.Fatal(err)
	}
	c.publish()
	if o := submit("a", 9); o.Status != clearinghouse.Accepted {
		t.Errorf("with room again: %+v", o)
	}
}

// TestPublicationHasABound: reports that were taken before there were shares, of many more
// hosts than are counted at a time, neither fill the memory nor change what is
// published. Unbounded it took about 180 bytes for each of 2 million hosts.
func TestPublicationHasABound(t *testing.T) {
	testkit.Long(t)
	c := newCommunity(t, filepath.Join(t.TempDir(), "state.db"), func(x *clearinghouse.Configuration) { x.ReportBytes = 1 << 40 })
	const reports, bound = 60, 200 << 20
	for i := range reports {
		c.submitReport("a", c.largeReport(scan, i<<15, 1<<15))
	}
	c.submitReport("a", c.largeReport(fetch, 0, 1<<15)) // no other member reports this one
	c.submitReport("b", c.largeReport(scan, 1<<20, 3))
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	ended, cancel := context.WithCancel(t.Context())
	peak := make(chan uint64)
	go func() {
		most := uint64(0)
		for ended.Err() == nil {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = max(most, m.HeapAlloc)
			time.Sleep(5 * time.Millisecond)
		}
		peak <- most
	}()
	p := c.publish()
	cancel()
	most := <-peak
	t.Logf("%d reports of %d hosts: at most %d MB of heap", reports, 1<<15, most>>20)
	if most > bound {
		t.Errorf("%d bytes of heap; want at most %d", most, bound)
	}
	if p.Entries != 3 || p.Reports != reports+2 {
		t.Errorf("published %+v", p)
	}
}
