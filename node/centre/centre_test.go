package centre

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/node/agents"
	"dragnet/signature/match"
	"dragnet/simulate/variants"
	"dragnet/trap"
	agentv1 "dragnet/wire/agent/v1"
)

// kept is a centre with the findings that it made.
type kept struct {
	*Centre
	db       *state.DB
	registry *agents.Registry
	found    map[string]dossier.Finding
	proposed bool
	decided  dossier.Resets
}

// Resets are the decisions that a judge made.
func (k *kept) Resets() dossier.Resets { return k.decided }

// TakeFindings keeps findings as a ledger does.
func (k *kept) TakeFindings(_ context.Context, found []dossier.Finding, propose bool) ([]dossier.Finding, error) {
	for _, f := range found {
		k.found[f.ID] = f
	}
	k.proposed = k.proposed || propose
	return found, nil
}

// FindFinding finds them again.
func (k *kept) FindFinding(_ context.Context, id string) (*dossier.Finding, error) {
	f, ok := k.found[id]
	if !ok {
		return nil, nil
	}
	return &f, nil
}

// open makes a centre whose turns the test takes itself.
func open(t testing.TB, change func(*Configuration)) *kept {
	t.Helper()
	db, err := state.Open(t.Context(), filepath.Join(t.TempDir(), "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	k := &kept{db: db, found: map[string]dossier.Finding{}}
	c := DefaultConfiguration()
	if change != nil {
		change(&c)
	}
	log := slog.New(slog.DiscardHandler)
	k.registry = agents.New(agents.Dependencies{DB: db, Authority: t.TempDir(), Log: log})
	if err := k.registry.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.registry.Stop(context.Background()) })
	if k.Centre, err = New(c, Dependencies{DB: db, Agents: k.registry, Findings: k, Log: log}); err != nil {
		t.Fatal(err)
	}
	if err := k.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := k.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return k
}

var noon = flow.Time(1_900_000_000_000_000)

func report(payload []byte, port uint16) *trap.CaptureReport {
	return &trap.CaptureReport{
		Version: trap.ReportVersion, Session: "s", Service: "http",
		Attackers: []trap.Attacker{{Addr: netip.MustParseAddr("203.0.113.2"), Target: netip.MustParseAddrPort("192.0.2.200:80"), Proto: flow.TCP}},
		Capture: dossier.Capture{
			Time: noon, Proto: flow.TCP, Trapped: true, Payload: payload,
			Source: netip.MustParseAddrPort("10.66.0.2:40000"), Target: netip.AddrPortFrom(netip.MustParseAddr("198.51.100.9"), port),
		},
	}
}

func (k *kept) send(from string, r *trap.CaptureReport) error {
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	item := &agentv1.Item{Kind: trap.ReportKind, Format: trap.ReportFormat, Time: timestamppb.Now(), Body: body}
	return k.db.Update(context.Background(), func(tx *state.Tx) error {
		return k.takeReport(context.Background(), tx, agents.From{Name: from, Role: "trap"}, item)
	})
}

func (k *kept) signatures(t testing.TB) []Listed {
	t.Helper()
	if err := k.turn(t.Context()); err != nil {
		t.Fatal(err)
	}
	all, err := ListSignatures(t.Context(), k.db)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// recognised counts the variants that any of the signatures matches.
func recognised(t *testing.T, all []Listed, payloads [][]byte) (n int) {
	t.Helper()
	var some []*dossier.Signature
	for _, l := range all {
		x, _, err := dossier.OpenSignature(l.File)
		if err != nil {
			t.Fatal(err)
		}
		some = append(some, x)
	}
	m, err := match.New(some, match.Options{Kernel: match.Fastest()})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range payloads {
		for _, r := range m.Match(p) {
			if r.Match {
				n++
				break
			}
		}
	}
	return n
}

// TestFromFirstCopyToFamily: the first copy is recognised at once, and when there
// are variants enough, so are those that no trap has seen.
func TestFromFirstCopyToFamily(t *testing.T) {
	testkit.Long(t)
	template, err := variants.Family("alder", 1)
	if err != nil {
		t.Fatal(err)
	}
	r := variants.Published()
	r.CarrierMax = 3 << 10
	seen, unseen := r.MakeAll(template, 3, 0, 20), r.MakeAll(template, 3, 1000, 50)
	clean := t.TempDir()
	var normal [][]byte
	for i := range 60 {
		normal = append(normal, r.Mislead(9, uint64(i)))
		if i < 40 {
			if err := os.WriteFile(filepath.Join(clean, fmt.Sprint(i)), normal[i], 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	k := open(t, func(c *Configuration) { c.Clean = []string{clean} })
	if err := k.send("trap-1", report(seen[0], 80)); err != nil {
		t.Fatal(err)
	}
	all := k.signatures(t)
	if len(all) != 1 || all[0].Method != "exact" || all[0].Problem != "" || recognised(t, all, seen[:1]) != 1 || recognised(t, all, unseen) != 0 {
		t.Fatalf("after the first copy: %+v", all)
	}
	for _, p := range seen[1:] {
		if err := k.send("trap-1", report(p, 80)); err != nil {
			t.Fatal(err)
		}
	}
	all = k.signatures(t)
	if n := recognised(t, all, unseen); n < 45 {
		t.Errorf("%d of 50 unseen variants are recognised by %d signatures", n, len(all))
	}
	if n := recognised(t, all, normal); n > 0 {
		t.Errorf("%d of 60 clean sequences match, 20 of them unseen", n)
	}
	if len(k.found) != 1 || k.proposed {
		t.Fatalf("%d findings, proposed: %v; want one about the attacker, and no proposal", len(k.found), k.proposed)
	}
	for _, f := range k.found {
		if f.Addr.String() != "203.0.113.2" || len(f.Evidence.Flows) < 2 || f.Evidence.Flows[0].Resp.String() != "192.0.2.200" || f.Evidence.Flows[1].Resp.String() != "198.51.100.9" {
			t.Errorf("%+v", f)
		}
	}
}

// TestCleanTrafficIsNeverOffered: a trap that sends what everybody sends cannot
// have it matched.
func TestCleanTrafficIsNeverOffered(t *testing.T) {
	clean := t.TempDir()
	text := []byte("GET /index.html HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
	if err := os.WriteFile(filepath.Join(clean, "a"), append([]byte("before "), text...), 0o600); err != nil {
		t.Fatal(err)
	}
	k := open(t, func(c *Configuration) { c.Clean = []string{clean} })
	if err := k.send("liar", report(text, 80)); err != nil {
		t.Fatal(err)
	}
	if all := k.signatures(t); len(all) != 1 || !strings.HasPrefix(all[0].Problem, "withheld") {
		t.Errorf("%+v", all)
	}
	k = open(t, nil)
	if err := k.send("trap-1", report(text, 80)); err != nil {
		t.Fatal(err)
	}
	if all := k.signatures(t); len(all) != 1 || !strings.HasPrefix(all[0].Problem, "untested") {
		t.Errorf("without clean traffic: %+v", all)
	}
}

// TestQuotasAndBounds: one trap's flood is refused beyond its share, which leaves
// others theirs, and the payloads kept stay within their bound.
func TestQuotasAndBounds(t *testing.T) {
	k := open(t, func(c *Configuration) { c.BytesPerTrap, c.Bytes = 1<<20, 1<<20 })
	random := func(i int) []byte { return []byte(strings.Repeat(fmt.Sprintf("%08d", i), 12_500)) } // 100 kB
	refused := 0
	for i := range 15 {
		switch err := k.send("flood", report(random(i), 80)); {
		case errors.Is(err, ErrQuota):
			refused++
		case err != nil:
			t.Fatal(err)
		}
	}
	if refused != 5 {
		t.Errorf("%d of 15 captures of 100 kB are refused, want those beyond 1 MiB", refused)
	}
	for i := range 10 {
		if err := k.send("other", report(random(100+i), 443)); err != nil {
			t.Errorf("another trap is refused: %v", err)
		}
	}
	var bytes, n int64
	if err := k.db.View(t.Context(), func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT SUM(LENGTH(body)), COUNT(*) FROM centre_payload`).Scan(&bytes, &n)
	}); err != nil || bytes > 1<<20 || n == 0 {
		t.Errorf("%d bytes of %d payloads are kept, %v", bytes, n, err)
	}
}

// TestInvalidReports are refused, and nothing of them is kept.
func TestInvalidReports(t *testing.T) {
	k := open(t, nil)
	for name, change := range map[string]func(*trap.CaptureReport){
		"version":  func(r *trap.CaptureReport) { r.Version = 9 },
		"empty":    func(r *trap.CaptureReport) { r.Payload = nil },
		"too long": func(r *trap.CaptureReport) { r.Payload = make([]byte, trap.MaxPayload+1) },
		"source":   func(r *trap.CaptureReport) { r.Source = netip.AddrPort{} },
		"attacker": func(r *trap.CaptureReport) { r.Attackers[0].Addr = netip.Addr{} },
		"names":    func(r *trap.CaptureReport) { r.Service = strings.Repeat("x", 100) },
	} {
		r := report([]byte("payload"), 80)
		change(r)
		if err := k.send("trap-1", r); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if all := k.signatures(t); len(all) != 0 || len(k.found) != 0 {
		t.Errorf("%d signatures, %d findings", len(all), len(k.found))
	}
}

// FuzzReport: what is accepted is valid.
func FuzzReport(f *testing.F) {
	body, err := json.Marshal(report([]byte("payload"), 80))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"version":1,"payload":"eA==","attackers":[{}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := parseReport(&agentv1.Item{Format: trap.ReportFormat, Body: body})
		if err == nil && (len(r.Payload) == 0 || !r.Target.IsValid()) {
			t.Errorf("%q yields %+v", body, r)
		}
	})
}
