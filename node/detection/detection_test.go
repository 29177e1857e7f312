package detection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/node/ingest"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// kept is a detection with what it found.
type kept struct {
	*Detection
	found    []dossier.Finding // new ones
	proposed bool
	all      map[string]dossier.Finding
	asked    []dossier.Finding // blocks proposed
}

// ProposeBlocks notes them.
func (k *kept) ProposeBlocks(found []dossier.Finding) { k.asked = append(k.asked, found...) }

// TakeFindings keeps findings as a ledger does.
func (k *kept) TakeFindings(_ context.Context, found []dossier.Finding, propose bool) (fresh []dossier.Finding, err error) {
	for _, f := range found {
		if _, known := k.all[f.ID]; !known {
			fresh = append(fresh, f)
		}
		k.all[f.ID] = f
	}
	k.found, k.proposed = append(k.found, fresh...), propose
	return fresh, nil
}

func open(t *testing.T) *kept {
	t.Helper()
	k := &kept{all: map[string]dossier.Finding{}}
	c := DefaultConfiguration()
	c.Propose = true
	site := flow.Site{Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Exempt: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}
	var err error
	if k.Detection, err = New(c, Dependencies{Site: site, Findings: k, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	return k
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

func update(t *testing.T, o *kept, now time.Time) {
	t.Helper()
	if err := o.Tick(t.Context(), now); err != nil {
		t.Fatal(err)
	}
}

func TestFindingsAreTakenOnce(t *testing.T) {
	o := open(t)
	now := noon.Time()
	o.Add(scan("198.51.100.7", noon, 1, 30))
	o.Add(scan("203.0.113.9", noon, 1, 200)) // exempt
	o.Add(scan("192.0.2.250", noon, 1, 200)) // ours
	update(t, o, now)
	o.Add(scan("198.51.100.7", noon+1000, 31, 30))
	update(t, o, now.Add(time.Second)) // too early to run again
	update(t, o, now.Add(time.Hour))
	if len(o.found) != 2 || !o.proposed {
		t.Errorf("%d findings, proposed: %v; want two, proposed", len(o.found), o.proposed)
	}
	var last dossier.Finding
	for _, f := range o.all {
		if f.Addr.String() == "198.51.100.7" {
			last = f
		}
	}
	if len(o.all) != 2 || last.Evidence.Counts["refused"] != 60 {
		t.Errorf("%+v; want one finding with all 60", o.all)
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
	o := open(t)
	o.Add(scan("198.51.100.7", noon, 16, 15))
	update(t, o, noon.Time())
	if len(o.found) != 0 {
		t.Fatal("half a scan is found: the test proves nothing")
	}
	if o = open(t); o.Prime(t.Context(), store) != nil {
		t.Fatal("the store could not be read")
	}
	o.Add(scan("198.51.100.7", noon, 16, 15))
	update(t, o, noon.Time())
	if len(o.found) != 1 {
		t.Errorf("%d findings, want the scan", len(o.found))
	}
}

// A store of many segments is read by several goroutines.
func TestPrimeFromManySegments(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	place, err := ingest.OpenWriter(t.Context(), dir, "2026-03-01")
	if err != nil {
		t.Fatal(err)
	}
	for i := range 30 {
		if err := errors.Join(place.Append(t.Context(), scan("198.51.100.7", noon, 2*i+1, 2)), place.Commit()); err != nil {
			t.Fatal(err)
		}
	}
	if err := place.Close(); err != nil {
		t.Fatal(err)
	}
	store, err := ingest.OpenReader(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for range 10 {
		o := open(t)
		if err := o.Prime(t.Context(), store); err != nil {
			t.Fatal(err)
		}
		o.Add(scan("192.0.2.250", noon, 1, 1)) // a batch, without which nothing is judged
		update(t, o, noon.Time())
		for _, f := range o.all {
			if len(o.all) != 1 || f.Evidence.Counts["refused"] != 60 {
				t.Fatalf("%+v; want one finding with all 60", o.all)
			}
		}
		if len(o.all) == 0 {
			t.Fatal("nothing was found")
		}
	}
}

// Days that are over make room.
func TestOldWindowsExpire(t *testing.T) {
	o := open(t)
	now := noon.Time()
	for day := range 5 {
		at := noon + flow.Time(day)*flow.Time(24*time.Hour)
		o.Add(scan("198.51.100.7", at, 1, 30))
		now = now.Add(24 * time.Hour)
		update(t, o, now)
	}
	// A finding covers the days that are remembered together.
	if len(o.found) < 2 || len(o.found) > 4 || len(o.Detection.kept) > 2 {
		t.Errorf("%d findings of a scan on 5 days, %d remembered", len(o.found), len(o.kept))
	}
}
