package centre

import (
	"errors"
	"testing"
	"time"

	"dragnet/dossier"
)

// TestDecisionsAreObeyed: a signature that was retired is not offered, also after it was
// learnt again, nor is its copy for a decision to reset; on probation, it is offered, and
// gives no finding.
func TestDecisionsAreObeyed(t *testing.T) {
	k := open(t, nil)
	const name = "trap-tcp-80-0000000a"
	learn := func() {
		t.Helper()
		x := &dossier.Signature{Name: name, Learning: dossier.Learning{Method: "exact"}, Exact: []dossier.Exact{{Bytes: make([]byte, 100)}}}
		if err := k.keepSignatures(t.Context(), "trap-tcp-80", []learned{{signature: x}}); err != nil {
			t.Fatal(err)
		}
	}
	decide := func(status dossier.SignatureStatus) {
		t.Helper()
		if _, err := Decide(t.Context(), k.deps.DB, name, dossier.Lifecycle{Status: status, By: "alice", At: time.Now()}); err != nil {
			t.Fatal(err)
		}
	}
	learn()
	k.signatures(t)
	if got := k.offeredTo(t); len(got) != 1 {
		t.Fatalf("before any decision %v are offered", got)
	}
	decide(dossier.SignatureRetired)
	learn()
	if all := k.signatures(t); len(all) != 1 || all[0].Status != dossier.SignatureRetired || all[0].By != "alice" {
		t.Errorf("listed: %+v", all)
	}
	if got := k.offeredTo(t); len(got) != 0 {
		t.Errorf("retired, %v are offered", got)
	}
	if _, err := SetAside(t.Context(), k.deps.DB, name); err == nil {
		t.Error("a retired signature was set aside to reset connections")
	}
	decide(dossier.SignatureOnProbation)
	k.signatures(t)
	if got := k.offeredTo(t); len(got) != 1 {
		t.Errorf("on probation %v are offered", got)
	}
	x := sighting("203.0.113.5", "192.0.2.1:80", true)
	x.Probation = true
	if err := k.sight(t, "tap-1", &dossier.Inspection{Sightings: []dossier.Sighting{x}}); err != nil {
		t.Fatal(err)
	}
	k.signatures(t)
	if len(k.found) > 0 {
		t.Errorf("a match on probation became %v", k.found)
	}
	decide(dossier.SignatureActive)
	aside, err := SetAside(t.Context(), k.deps.DB, name)
	if err != nil {
		t.Fatal(err)
	}
	decide(dossier.SignatureOnProbation)
	if again := asideName(&k.signatures(t)[0]); again != aside {
		t.Errorf("after a decision the copy is named %s, not %s", again, aside)
	}
	if _, err := Decide(t.Context(), k.deps.DB, "nobody", dossier.Lifecycle{Status: dossier.SignatureActive, By: "alice", At: time.Now()}); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown signature: %v", err)
	}
}
