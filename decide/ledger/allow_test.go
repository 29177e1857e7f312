package ledger

import (
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
)

func allowance(prefix string, until flow.Time) dossier.Allowance {
	return dossier.Allowance{Prefix: netip.MustParsePrefix(prefix), Who: "ada", Why: "our mail server", Until: until}
}

// TestAllowList: an entry ends what is decided at once, forbids it until its end,
// and survives a restart and a reload of the configuration.
func TestAllowList(t *testing.T) {
	path, ctx := filepath.Join(t.TempDir(), "state.db"), t.Context()
	d := open(t, path)
	c := enforcing()
	c.Allow = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	if err := d.Configure(ctx, noon, c, "configuration"); err != nil {
		t.Fatal(err)
	}
	for n := range 2 {
		if x, err := propose(t, d, noon, n); err != nil || x.Verdict != dossier.Active {
			t.Fatal(x, err)
		}
	}
	hour := flow.Time(time.Hour)
	ended, err := d.AddAllowance(ctx, noon+1, allowance("192.0.0.1/32", noon+hour))
	if err != nil || len(ended) != 1 || ended[0].Target != target(1) || ended[0].Verdict != dossier.Undone || ended[0].Steps[1].Who != "ada" {
		t.Fatalf("ended %+v, %v; want the decision on %s undone by ada", ended, err, target(1))
	}
	d.Close()
	d = open(t, path)
	if err := d.Configure(ctx, noon+2, c, "configuration"); err != nil {
		t.Fatal(err)
	}
	if _, err := propose(t, d, noon+2, 1); !errors.Is(err, decide.ErrAllowed) {
		t.Errorf("a proposal against the entry, after a restart: %v; want it refused", err)
	}
	if x, err := d.Decision(ctx, ended[0].ID); err != nil || x.Verdict != dossier.Undone {
		t.Errorf("%v, %v; want it to stay undone", x, err)
	}
	all, err := d.Allowances(ctx, noon+2)
	if err != nil || len(all) != 2 || !all[0].Configured || all[1].Prefix != target(1) || all[1].Since != noon+1 {
		t.Errorf("the list is %+v, %v; want the configuration's entry and ada's", all, err)
	}
	if x, err := propose(t, d, noon+hour, 1); err != nil || x.Verdict != dossier.Active {
		t.Errorf("after the entry's end: %v, %v; want a decision", x, err)
	}
	if all, err := d.Allowances(ctx, noon+hour); err != nil || len(all) != 1 {
		t.Errorf("after the entry's end the list is %+v, %v; want the configuration's only", all, err)
	}
}

func TestAllowListIsRefusedWhatItCannotKeep(t *testing.T) {
	d, ctx := open(t, filepath.Join(t.TempDir(), "state.db")), t.Context()
	c := enforcing()
	c.Allow = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	if err := d.Configure(ctx, noon, c, "configuration"); err != nil {
		t.Fatal(err)
	}
	for what, a := range map[string]dossier.Allowance{
		"no prefix": {Who: "ada", Why: "x"}, "nobody": {Prefix: target(1), Why: "x"},
		"no reason": {Prefix: target(1), Who: "ada"}, "the past": allowance("192.0.2.1/32", noon),
	} {
		if _, err := d.AddAllowance(ctx, noon, a); err == nil {
			t.Errorf("%s was accepted", what)
		}
	}
	if _, err := d.RemoveAllowance(ctx, noon, c.Allow[0]); !errors.Is(err, ErrConfigured) {
		t.Errorf("removing what the configuration has: %v", err)
	}
	if _, err := d.RemoveAllowance(ctx, noon, target(9)); !errors.Is(err, ErrUnknown) {
		t.Errorf("removing what is not there: %v", err)
	}
	if _, err := d.AddAllowance(ctx, noon, allowance("192.0.0.1/24", 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := propose(t, d, noon, 1); !errors.Is(err, decide.ErrAllowed) {
		t.Errorf("within a longer entry: %v", err)
	}
	if a, err := d.RemoveAllowance(ctx, noon, netip.MustParsePrefix("192.0.0.0/24")); err != nil || a.Who != "ada" {
		t.Errorf("removed %+v, %v", a, err)
	}
	if x, err := propose(t, d, noon, 1); err != nil || x.Verdict != dossier.Active {
		t.Errorf("after the removal: %v, %v", x, err)
	}
}
