package decide

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/dossier"
	"dragnet/flow"
)

var noon = flow.FromTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

func target(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), 32)
}

func proposal(n int) dossier.Proposal {
	return dossier.Proposal{Target: target(n), Who: "failures", Why: "it scans"}
}

func judge(t testing.TB, change func(*Configuration)) *Judge {
	t.Helper()
	c := DefaultConfiguration()
	c.Enforce, c.Approval, c.Budget = true, false, 0.1
	if change != nil {
		change(&c)
	}
	j, err := New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestDefaultsBlockNobody(t *testing.T) {
	j, err := New(DefaultConfiguration(), nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := j.Propose(noon, proposal(1))
	if err != nil || d.Verdict != dossier.Proposed {
		t.Fatalf("%s, %v; want a proposal that waits", d.Verdict, err)
	}
	if d, err = j.Approve(noon, d.ID, "ada"); err != nil || d.Verdict != dossier.DryRun {
		t.Errorf("%s, %v; want a dry run", d.Verdict, err)
	}
	if got := j.Active(noon); len(got) != 0 {
		t.Errorf("%d decisions are applied in a dry run", len(got))
	}
}

func TestALifeOfADecision(t *testing.T) {
	j := judge(t, func(c *Configuration) { c.Approval = true })
	d, err := j.Propose(noon, dossier.Proposal{Target: target(1), Who: "failures", Why: "300 failures", Findings: []string{"F1"}, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if len(j.Active(noon)) != 0 {
		t.Error("applied before approval")
	}
	if again, _ := j.Propose(noon, proposal(1)); again.ID != d.ID {
		t.Error("a second decision on the same target")
	}
	if _, err = j.Approve(noon+1, d.ID, "ada"); err != nil {
		t.Fatal(err)
	}
	active := j.Active(noon + 2)
	if len(active) != 1 || active[0].Until != noon+flow.Time(time.Minute) || active[0].Undo != "dragnet decision undo "+d.ID {
		t.Fatalf("active: %+v", active)
	}
	if _, err = j.Undo(noon+3, d.ID, "bob", "a mistake"); err != nil {
		t.Fatal(err)
	}
	if len(j.Active(noon+3)) != 0 {
		t.Error("applied after undo")
	}
	want := []dossier.Step{
		{Time: noon, Who: "failures", Verdict: dossier.Proposed, Why: "300 failures"},
		{Time: noon + 1, Who: "ada", Verdict: dossier.Active, Why: "approved"},
		{Time: noon + 3, Who: "bob", Verdict: dossier.Undone, Why: "a mistake"},
	}
	if diff := cmp.Diff(want, j.Decisions(noon + 3)[0].Steps); diff != "" {
		t.Error(diff)
	}
	if _, err = j.Undo(noon+4, d.ID, "bob", "again"); !errors.Is(err, ErrOver) {
		t.Errorf("undoing twice: %v", err)
	}
	if _, err = j.Approve(noon, "nonsense", "ada"); !errors.Is(err, ErrUnknown) {
		t.Errorf("unknown decision: %v", err)
	}
}

func TestAllowListWins(t *testing.T) {
	j := judge(t, func(c *Configuration) { c.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.8/29")} })
	for _, p := range []string{"192.0.2.9/32", "192.0.2.0/24", "192.0.2.12/30"} {
		d, err := j.Propose(noon, dossier.Proposal{Target: netip.MustParsePrefix(p), Who: "x", Why: "y"})
		if !errors.Is(err, ErrAllowed) || d.Verdict != dossier.Refused {
			t.Errorf("%s: %s, %v; want a refusal", p, d.Verdict, err)
		}
	}
	if _, err := j.Propose(noon, proposal(1)); err != nil {
		t.Fatal(err)
	}
	c := j.c
	c.Allow = append(c.Allow, netip.MustParsePrefix("192.0.2.0/29"))
	if err := j.Configure(noon+1, c, "ada"); err != nil {
		t.Fatal(err)
	}
	if len(j.Active(noon+1)) != 0 {
		t.Error("a longer allow list must end what was decided")
	}
}

func TestStopHaltsEverything(t *testing.T) {
	j := judge(t, nil)
	for n := range 5 {
		if _, err := j.Propose(noon, proposal(n)); err != nil {
			t.Fatal(err)
		}
	}
	j.Stop(noon+1, "ada", "false alarm")
	if got := j.Active(noon + 1); len(got) != 0 {
		t.Errorf("%d active after stop", len(got))
	}
	if _, err := j.Propose(noon+2, proposal(1)); !errors.Is(err, ErrStopped) {
		t.Errorf("a proposal after stop: %v", err)
	}
	j.Resume()
	if len(j.Active(noon+3)) != 0 {
		t.Error("resuming brought back what was stopped")
	}
	if _, err := j.Propose(noon+3, proposal(1)); err != nil {
		t.Errorf("a proposal after resuming: %v", err)
	}
}

func TestJudgeGoesOnAfterARestart(t *testing.T) {
	j := judge(t, nil)
	for n := range 3 {
		if _, err := j.Propose(noon, proposal(n)); err != nil {
			t.Fatal(err)
		}
	}
	saved, err := json.Marshal(j.Decisions(noon))
	if err != nil {
		t.Fatal(err)
	}
	var before []dossier.Decision
	if err = json.Unmarshal(saved, &before); err != nil {
		t.Fatal(err)
	}
	again, err := New(j.c, before)
	if err != nil {
		t.Fatal(err)
	}
	prefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(j.Active(noon), again.Active(noon), prefix); diff != "" {
		t.Error(diff)
	}
	if _, err := New(j.c, append(before, before[0])); err == nil {
		t.Error("two decisions of one identity are accepted")
	}
}

func TestOneAddressMayAlwaysBeBlocked(t *testing.T) {
	j := judge(t, func(c *Configuration) { c.Budget, c.Addresses = 0.001, 10 })
	if _, err := j.Propose(noon, proposal(1)); err != nil {
		t.Error(err)
	}
	if _, err := j.Propose(noon, proposal(2)); !errors.Is(err, ErrBudget) {
		t.Errorf("the second of 10 addresses at 0.1 %%: %v", err)
	}
	j = judge(t, func(c *Configuration) { c.Addresses = 10 })
	if _, err := j.Propose(noon, dossier.Proposal{Target: netip.MustParsePrefix("2001:db8::/32"), Who: "x", Why: "y"}); !errors.Is(err, ErrBudget) {
		t.Errorf("a /32 of IPv6: %v", err)
	}
	if _, err := j.Propose(noon, dossier.Proposal{Target: netip.MustParsePrefix("2001:db8::/64"), Who: "x", Why: "y"}); err != nil {
		t.Errorf("a /64 counts as one host: %v", err)
	}
}

// Whatever is proposed, approved, undone, reconfigured and waited for: no address
// on the allow list is blocked, the budget holds, nothing outlives its time,
// and a stop or a dry run leaves nothing.
func TestNoSequenceBreaksThePromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := DefaultConfiguration()
		c.Enforce, c.Approval = rapid.Bool().Draw(t, "enforce"), rapid.Bool().Draw(t, "approval")
		c.Addresses, c.Budget, c.Kept = 40, 0.1, 5
		c.Allow = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/30")}
		j, err := New(c, nil)
		if err != nil {
			t.Fatal(err)
		}
		now, ids, stopped := noon, []string{"none"}, false
		for range rapid.IntRange(1, 60).Draw(t, "n") {
			now += flow.Time(rapid.Int64Range(0, int64(20*time.Minute)).Draw(t, "dt"))
			id := rapid.SampledFrom(ids).Draw(t, "id")
			switch rapid.IntRange(0, 6).Draw(t, "what") {
			case 0, 1, 2:
				p := dossier.Proposal{Target: netip.PrefixFrom(target(rapid.IntRange(0, 15).Draw(t, "host")).Addr(), rapid.IntRange(29, 32).Draw(t, "bits")), Who: "x", Why: "y"}
				d, _ := j.Propose(now, p)
				ids = append(ids, d.ID)
			case 3:
				_, _ = j.Approve(now, id, "ada")
			case 4:
				_, _ = j.Undo(now, id, "ada", "because")
			case 5:
				j.Stop(now, "ada", "enough")
				stopped = true
			case 6:
				j.Resume()
				stopped = false
			}
			active, used := j.Active(now), 0.0
			for _, d := range active {
				used += weighDecision(&d)
				if d.Target.Overlaps(c.Allow[0]) {
					t.Fatalf("%s is blocked against the allow list", d.Target)
				}
				if now >= d.Until || len(d.Steps) == 0 || d.Steps[0].Who == "" || d.Undo == "" {
					t.Fatalf("a decision without end, origin or undo: %+v", d)
				}
			}
			if used > 4 || len(active) > 0 && (stopped || !c.Enforce) {
				t.Fatalf("%g addresses blocked (at most 4), stopped %v, enforced %v", used, stopped, c.Enforce)
			}
			if n := len(j.Decisions(now)); n > 5+5+40 {
				t.Fatalf("%d decisions remembered", n)
			}
		}
	})
}

// A standing decision costs the budget what it allows, whatever its target, and
// leaves the rest to others.
func TestStandingDecisionTakesItsShare(t *testing.T) {
	j := judge(t, func(c *Configuration) {
		c.Addresses, c.Allow = 100, []netip.Prefix{netip.MustParsePrefix("192.0.2.9/32")} // 10 addresses
	})
	rule := dossier.Proposal{Target: netip.MustParsePrefix("0.0.0.0/0"), Who: "station", Why: "limits", Standing: &dossier.Standing{Rule: "daw", Most: 8}}
	d, err := j.Propose(noon, rule)
	if err != nil || d.Verdict != dossier.Active || d.Standing == nil || d.Standing.Most != 8 {
		t.Fatalf("%+v, %v", d, err)
	}
	if again, err := j.Propose(noon+1, rule); err != nil || again.ID != d.ID {
		t.Errorf("proposed twice: %+v, %v", again, err)
	}
	for n := range 3 {
		_, err := j.Propose(noon, proposal(n))
		if want := n == 2; errors.Is(err, ErrBudget) != want {
			t.Errorf("block %d beside it: %v", n+1, err)
		}
	}
	rule.Standing = &dossier.Standing{Rule: "daw"}
	if _, err := j.Propose(noon, rule); err == nil {
		t.Error("a standing decision without a bound is taken")
	}
}

func TestNonsense(t *testing.T) {
	for name, change := range map[string]func(*Configuration){
		"budget": func(c *Configuration) { c.Budget = 0 }, "addresses": func(c *Configuration) { c.Addresses = 0 },
		"ttl": func(c *Configuration) { c.TTL = 0 }, "allow": func(c *Configuration) { c.Allow = []netip.Prefix{{}} },
		"kept": func(c *Configuration) { c.Kept = 0 },
	} {
		c := DefaultConfiguration()
		change(&c)
		if _, err := New(c, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	j := judge(t, nil)
	for _, p := range []dossier.Proposal{{}, {Target: target(1)}, {Target: target(1), Who: "x"}, {Target: target(1), Who: "x", Why: "y", TTL: -1}} {
		if _, err := j.Propose(noon, p); err == nil {
			t.Errorf("%s is accepted", fmt.Sprint(p))
		}
	}
	long, err := j.Propose(noon, dossier.Proposal{Target: target(2), Who: "x", Why: "y", TTL: 1 << 60})
	if err != nil || long.Until != noon+flow.Time(j.c.MaxTTL) {
		t.Errorf("a very long block ends at %v, %v", long.Until, err)
	}
}
