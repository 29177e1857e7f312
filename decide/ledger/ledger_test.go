package ledger

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
)

var noon = flow.FromTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

func open(t testing.TB, path string) *Ledger {
	t.Helper()
	d, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

func target(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, byte(n >> 8), byte(n)}), 32)
}

func propose(t testing.TB, d *Ledger, now flow.Time, n int) (x dossier.Decision, err error) {
	t.Helper()
	e := d.Judge(t.Context(), now, func(j *decide.Judge) error {
		x, err = j.Propose(now, dossier.Proposal{Target: target(n), Who: "failures", Why: "it scans", Findings: []string{"F"}})
		return nil // a refusal is kept too
	})
	if e != nil {
		t.Fatal(e)
	}
	return x, err
}

func enforcing() decide.Configuration {
	c := decide.DefaultConfiguration()
	c.Enforce, c.Approval, c.Addresses, c.Budget = true, false, 100, 0.05 // 5 addresses
	return c
}

func TestALifeAcrossRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	ctx := t.Context()
	d := open(t, path)
	c := enforcing()
	c.Approval = true
	if err := d.Configure(ctx, noon, c, "ada"); err != nil {
		t.Fatal(err)
	}
	x, err := propose(t, d, noon, 1)
	if err != nil || x.Verdict != dossier.Proposed {
		t.Fatal(x, err)
	}
	again := func() {
		t.Helper()
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		d = open(t, path)
	}
	again()
	err = d.Judge(ctx, noon+1, func(j *decide.Judge) error { _, err := j.Approve(noon+1, x.ID, "bob"); return err })
	if err != nil {
		t.Fatal(err)
	}
	again()
	got, err := d.Decision(ctx, x.ID)
	if err != nil || got.Verdict != dossier.Active || len(got.Steps) != 2 || got.Steps[1].Who != "bob" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := d.Stop(ctx, noon+2, "eve", "enough"); err != nil {
		t.Fatal(err)
	}
	again()
	if _, err := propose(t, d, noon+3, 2); !errors.Is(err, decide.ErrStopped) {
		t.Errorf("a proposal after the stop: %v", err)
	}
	if at, who, why, err := d.Stopped(ctx); err != nil || at != noon+2 || who != "eve" || why != "enough" {
		t.Errorf("stopped %v %s %s %v", at, who, why, err)
	}
	if err := d.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	again()
	if _, err := propose(t, d, noon+4, 2); err != nil {
		t.Errorf("after resume: %v", err)
	}
	if got, _ := d.Decision(ctx, x.ID); got.Verdict != dossier.Stopped {
		t.Errorf("what was stopped became %s", got.Verdict)
	}
	all, err := d.Decisions(ctx, "", 10)
	if err != nil || len(all) != 3 || all[2].ID != x.ID {
		t.Errorf("%d decisions, %v", len(all), err)
	}
}

// A failure inside leaves everything as it was.
func TestFailedSessionKeepsNothing(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state.db"))
	boom := errors.New("boom")
	err := d.Judge(t.Context(), noon, func(j *decide.Judge) error {
		if _, err := j.Propose(noon, dossier.Proposal{Target: target(1), Who: "x", Why: "y"}); err != nil {
			return err
		}
		return boom
	})
	if !errors.Is(err, boom) {
		t.Fatal(err)
	}
	if all, err := d.Decisions(t.Context(), "", 10); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

// Several programs on one file never block more than the budget together.
func TestBudgetHoldsAcrossPrograms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := open(t, path).Configure(t.Context(), noon, enforcing(), "ada"); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for p := range 3 {
		d := open(t, path)
		all.Go(func() {
			for n := range 6 {
				err := d.Judge(context.Background(), noon, func(j *decide.Judge) error {
					_, err := j.Propose(noon, dossier.Proposal{Target: target(100*p + n), Who: "x", Why: "y"})
					if errors.Is(err, decide.ErrBudget) {
						return nil
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	active, err := open(t, path).Decisions(t.Context(), dossier.Active, 100)
	if err != nil || len(active) != 5 {
		t.Errorf("%d blocks, %v; the budget is 5", len(active), err)
	}
}

func TestFindingsAreKeptOnce(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state.db"))
	f := dossier.Finding{Detector: "failures", Kind: "address-scan", Host: flow.HostAt(netip.MustParseAddr("198.51.100.7"), ""), First: noon, Last: noon + 5, Summary: "s",
		Evidence: dossier.Evidence{Counts: map[string]uint64{"refused": 99}, Thresholds: map[string]float64{"refused": 25}, Flows: []dossier.FlowEvidence{}}}
	f.Identify("80 tcp")
	for i := range 2 {
		fresh, err := d.AddFindings(t.Context(), []dossier.Finding{f})
		if err != nil || len(fresh) != 1-i {
			t.Fatalf("%d new, %v", len(fresh), err)
		}
		f.Last += 10
	}
	f.Last -= 10
	got, err := d.Finding(t.Context(), f.ID)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(f, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for host, want := range map[string]int{"": 1, "198.51.100.7": 1, "198.51.100.8": 0} {
		if all, err := d.Findings(t.Context(), host, 10); err != nil || len(all) != want {
			t.Errorf("host %q: %d findings, %v", host, len(all), err)
		}
	}
	if _, err := d.Finding(t.Context(), "nothing"); !errors.Is(err, ErrUnknown) {
		t.Errorf("%v", err)
	}
}

func TestReceiptsOfKnownDecisionsOnly(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state.db"))
	x, err := propose(t, d, noon, 1)
	if err != nil {
		t.Fatal(err)
	}
	err = d.AddReceipts(t.Context(), []dossier.Receipt{
		{Version: 1, Decision: x.ID, Point: "edge-1", Time: noon, Problem: "not yet"}, {Version: 1, Decision: x.ID, Point: "edge-2", Time: noon, Applied: true},
		{Version: 1, Decision: "unknown", Point: "edge-1", Time: noon}, {Version: 1, Decision: x.ID, Point: "edge-1", Time: noon + 1, Applied: true, Proof: "listed"},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := d.Receipts(t.Context(), x.ID)
	if err != nil || len(got) != 2 || !got[0].Applied || got[0].Proof != "listed" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, _ := d.Receipts(t.Context(), "unknown"); len(got) != 0 {
		t.Errorf("receipts of an unknown decision: %+v", got)
	}
}

func TestOldDecisionsAreForgotten(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "state.db"))
	c := enforcing()
	c.Kept, c.TTL, c.Budget = 3, time.Second, 1
	if err := d.Configure(t.Context(), noon, c, "ada"); err != nil {
		t.Fatal(err)
	}
	for n := range 10 {
		if _, err := propose(t, d, noon+flow.Time(n)*flow.Time(2*time.Second), n); err != nil {
			t.Fatal(err)
		}
	}
	all, err := d.Decisions(t.Context(), "", 100)
	if err != nil || len(all) != 4 || all[0].Verdict != dossier.Active || all[0].Target != target(9) || all[3].Target != target(6) {
		t.Errorf("%d decisions are kept, %v; want 3 that are over and the last", len(all), err)
	}
}
