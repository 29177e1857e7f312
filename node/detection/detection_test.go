package detection

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/node/ingest"
	"dragnet/node/layout"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// office is a watch with what it said.
type office struct {
	*Watch
	docket *ledger.Ledger
	found  []dossier.Finding
	asked  []dossier.Proposal
}

func open(t *testing.T, dir string) *office {
	t.Helper()
	o := &office{}
	var err error
	if o.docket, err = ledger.Open(t.Context(), layout.StateFile(dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { o.docket.Close() })
	c := DefaultConfiguration()
	c.Propose = true
	site := flow.Site{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Exempt: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	o.Watch, err = New(c, site, o.docket, quiet, prometheus.NewRegistry(),
		func(f dossier.Finding) { o.found = append(o.found, f) }, func(p dossier.Proposal) { o.asked = append(o.asked, p) })
	if err != nil {
		t.Fatal(err)
	}
	return o
}

var noon = flow.FromTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

// scan is a source that is refused by n hosts, from the first-th on.
func scan(source string, at flow.Time, first, n int) []flow.Flow {
	var all []flow.Flow
	for i := first; i < first+n; i++ {
		all = append(all, flow.Flow{
			Start: at + flow.Time(i), Orig: netip.MustParseAddr(source), OrigPort: uint16(i), Resp: netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", i)), RespPort: 445,
			Proto: flow.TCP, State: flow.REJ,
		})
	}
	return all
}

func turn(t *testing.T, o *office, now time.Time) {
	t.Helper()
	if err := o.Turn(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

func TestFindingsAreKeptToldAndProposedOnce(t *testing.T) {
	o := open(t, t.TempDir())
	now := noon.Time()
	o.Add(scan("198.51.100.7", noon, 1, 30))
	o.Add(scan("203.0.113.9", noon, 1, 200)) // exempt
	o.Add(scan("192.0.2.250", noon, 1, 200)) // ours: found, and not proposed
	turn(t, o, now)
	o.Add(scan("198.51.100.7", noon+1000, 31, 30))
	turn(t, o, now.Add(time.Second)) // too early to look again
	turn(t, o, now.Add(time.Hour))
	if len(o.found) != 2 || len(o.asked) != 1 || o.asked[0].Target.String() != "198.51.100.7/32" || o.asked[0].Findings[0] == "" {
		t.Errorf("%d findings told, proposed %+v; want two, and the stranger", len(o.found), o.asked)
	}
	kept, err := o.docket.Findings(t.Context(), "198.51.100.7", 10)
	if err != nil || len(kept) != 1 || kept[0].Evidence.Counts["refused"] != 60 {
		t.Errorf("%+v, %v; want one finding with all 60", kept, err)
	}
}

// A scan that a restart cuts in two is found all the same.
func TestAScanAcrossARestart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	place, err := ingest.OpenWriter(t.Context(), dir, "2026-03-01")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(place.Append(t.Context(), scan("198.51.100.7", noon, 1, 15)), place.Commit(), place.Close()); err != nil {
		t.Fatal(err)
	}
	store, err := ingest.OpenReader(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	o := open(t, dir)
	o.Add(scan("198.51.100.7", noon, 16, 15))
	turn(t, o, noon.Time())
	if len(o.found) != 0 {
		t.Fatal("half a scan is found: the test proves nothing")
	}
	if o = open(t, dir); o.Prime(t.Context(), store) != nil {
		t.Fatal("the store could not be read")
	}
	o.Add(scan("198.51.100.7", noon, 16, 15))
	turn(t, o, noon.Time())
	if len(o.found) != 1 {
		t.Errorf("%d findings, want the scan", len(o.found))
	}
}

// Days that are over make room.
func TestOldWindowsExpire(t *testing.T) {
	o := open(t, t.TempDir())
	now := noon.Time()
	for day := range 5 {
		at := noon + flow.Time(day)*flow.Time(24*time.Hour)
		o.Add(scan("198.51.100.7", at, 1, 30))
		now = now.Add(24 * time.Hour)
		turn(t, o, now)
	}
	// A finding stands for the days that are remembered together.
	if len(o.found) < 2 || len(o.found) > 4 || len(o.kept) > 2 {
		t.Errorf("%d findings of a scan on 5 days, %d remembered", len(o.found), len(o.kept))
	}
}
