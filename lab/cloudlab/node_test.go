package cloudlab

import (
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/contain/sdn"
	"dragnet/decide"
	"dragnet/decide/ledger"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/run"
	"dragnet/node"
	"dragnet/node/layout"
)

// nodeCollector is where the node in the cloud's host receives exports, beside the
// collector of the lab.
const nodeCollector = "127.0.0.1:2056"

// cloudNode is a node that watches a cloud.
type cloudNode struct {
	book *ledger.Ledger
	w    *Cloud
	stop func()
}

// startNode starts a node in the cloud's host: it collects what the switches export,
// asks their database whose machines they are, and applies decisions at br0.
func startNode(t *testing.T, w *Cloud) *cloudNode {
	t.Helper()
	c := node.DefaultConfiguration()
	c.Store.Directory, c.Admin.Listen = filepath.Join(t.TempDir(), "data"), ""
	c.Site.Name, c.Site.Networks = "cloud", []netip.Prefix{netip.MustParsePrefix("10.77.0.0/16")}
	c.Collect.Exporters, c.Collect.Listen, c.Collect.ReceiveBuffer = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, []string{nodeCollector}, 1<<20
	c.Collect.Join.Longest, c.Collect.Join.Wait, c.Collect.Join.Linger = w.c.Interval, 2*time.Second, 100*time.Millisecond
	c.Follow.Every = 500 * time.Millisecond
	d := &c.Detection.Coresidence
	d.Databases = []string{w.Switch.Database()}
	d.Times.Interval, d.Times.Window, d.Times.Delay, d.Times.Every, d.Times.Propose = w.c.Interval, 2*time.Minute, 3*time.Second, 20*time.Second, true
	c.Decide.Enforce = true // with approval, as is the default
	c.Enforcement.Switches = []sdn.Configuration{{Name: "br0", Address: w.Switch.Management("br0"), Enforce: true}}
	n, err := node.New(c, run.Program{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.host.Do(func() error { return n.Start(t.Context()) }); err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() {
		if err := n.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	book, err := layout.OpenLedger(t.Context(), c.Store.Directory)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = book.Close() })
	return &cloudNode{book, w, stop}
}

// check follows what the node found by itself to a rule at the switch, and back.
func (n *cloudNode) check(t *testing.T, run []netip.Addr) {
	t.Helper()
	await := func(what string, done func() bool) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); !done(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the node has not %s; the switch lists\n%s", what, n.rules(t))
			}
		}
	}
	var found []dossier.Finding
	await("found the master and the flooders", func() bool {
		var err error
		if found, err = n.book.Findings(t.Context(), "", 100); err != nil {
			t.Fatal(err)
		}
		return !slices.ContainsFunc(run, func(a netip.Addr) bool {
			return !slices.ContainsFunc(found, func(f dossier.Finding) bool { return f.Addr == a })
		})
	})
	for _, f := range found {
		t.Log(f.Summary)
		if f.Detector != "coresidence" || !strings.Contains(f.Summary, attackerTenant) || f.Evidence.P == nil || len(f.Evidence.Peers) == 0 || len(f.Evidence.Times) < 3 {
			t.Errorf("%+v", f)
		}
	}
	flooder := run[1]
	var d dossier.Decision
	await("proposed to block the flooder", func() bool {
		all, err := n.book.Decisions(t.Context(), dossier.Proposed, 100)
		if err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(all, func(d dossier.Decision) bool { return d.Target.Addr() == flooder })
		if i >= 0 {
			d = all[i]
		}
		return i >= 0
	})
	if text := n.rules(t); strings.Contains(text, "nw_src") {
		t.Errorf("nothing was approved, and the switch lists\n%s", text)
	}
	now := func() flow.Time { return flow.FromTime(time.Now()) }
	err := n.book.Judge(t.Context(), now(), func(j *decide.Judge) error {
		_, err := j.Approve(now(), d.ID, "operator")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	await("blocked the flooder", func() bool { return strings.Contains(n.rules(t), "nw_src="+flooder.String()+" actions=drop") })
	await("kept a receipt", func() bool {
		receipts, err := n.book.Receipts(t.Context(), d.ID)
		return err == nil && slices.ContainsFunc(receipts, func(r dossier.Receipt) bool { return r.Applied && r.Proof != "" })
	})
	if err := n.book.Stop(t.Context(), now(), "operator", "the test is over"); err != nil {
		t.Fatal(err)
	}
	await("undone it", func() bool { return !strings.Contains(n.rules(t), "nw_src") })
	// A node makes the switch's rules those of its decisions, also while others
	// try theirs.
	n.stop()
}

func (n *cloudNode) rules(t *testing.T) string {
	t.Helper()
	out, err := n.w.Switch.Flows("dump-flows", n.w.Switch.Management("br0"))
	if err != nil {
		t.Fatal(err)
	}
	return out
}
