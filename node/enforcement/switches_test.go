package enforcement

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"dragnet/contain/sdn"
	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// A decision reaches Open vSwitch with a receipt, 'decision stop' takes it out,
// and a switch that cannot be reached stops nothing else.
func TestDecisionsTakeEffectAtSwitches(t *testing.T) {
	testkit.Tool(t, "ovs-vswitchd")
	nodes, err := netlab.For(t).Nodes("host")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "ovs") // short, for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	v, err := nodes[0].VirtualSwitch(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := v.AddBridge("br0"); err != nil {
		t.Fatal(err)
	}
	e, book := enforce(t, func(c *Configuration, _ *decide.Configuration) {
		c.Agents, c.Standing.Most, c.Every = nil, 0, 100*time.Millisecond
		c.Switches = []sdn.Configuration{
			{Name: "away", Address: "unix:" + dir + "/nobody", Enforce: true},
			{Name: "br0", Address: v.Management("br0"), Enforce: true},
		}
	})
	if err := e.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	rules := func() string {
		out, err := v.Flows("dump-flows", v.Management("br0"))
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	await := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(20 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: the switch lists\n%s", what, rules())
			}
		}
	}
	e.queueProposal(dossier.Proposal{Target: netip.MustParsePrefix("198.51.100.7/32"), Who: "test", Why: "test"})
	await("blocked", func() bool { return strings.Contains(rules(), "nw_src=198.51.100.7 actions=drop") })
	points := map[string]bool{}
	await("receipts", func() bool {
		decisions, err := book.Decisions(t.Context(), dossier.Active, 10)
		if err != nil || len(decisions) != 1 {
			t.Fatalf("%d decisions, %v", len(decisions), err)
		}
		receipts, err := book.Receipts(t.Context(), decisions[0].ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range receipts {
			if strings.Contains(r.Point, "away") == r.Applied {
				t.Fatalf("receipt %+v", r)
			}
			points[r.Point] = true
		}
		return len(points) == 2
	})
	if err := book.Stop(t.Context(), currentTime(), "ada", "a drill"); err != nil {
		t.Fatal(err)
	}
	await("stopped", func() bool { return !strings.Contains(rules(), "198.51.100.7") })
}

func TestSwitchesAreChecked(t *testing.T) {
	c := DefaultConfiguration()
	c.Switches = []sdn.Configuration{{Address: "unix:x"}, {Address: "10.0.0.1:6653"}}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "switches[1]") || strings.Contains(err.Error(), "switches[0]") {
		t.Errorf("%v", err)
	}
}
