package community_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/ask/witness/audit"
	"dragnet/ask/witness/endpoint"
	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/admin"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/node/ingest"
	"dragnet/wire/identity"
	"dragnet/wire/treehead"
)

// record adds n questions to the record of a witness that is not running.
func record(t *testing.T, path string, from, to int) {
	t.Helper()
	db, err := state.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	d, err := audit.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	rules := policy.Default()
	m := key.Mask{Family: key.IPv4, Prefix: 32}
	for n := from; n < to; n++ {
		a := audit.VerifiedQuestion{
			Asker: policy.Asker{ID: "x", Class: "org:x"}, Expires: time.Now().Add(time.Hour), ID: dossier.IDOf(fmt.Append(nil, n)), Via: "direct", Nonce: [16]byte{byte(n)},
			Question: &dossier.Question{Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 12}, Epoch: "2026-11-22", Window: flow.AllTime,
				Clues: []dossier.AskedClue{{Mask: m, Salt: key.OneShotSalt(m, "2026-11-22"), Keys: []dossier.AskedKey{{K: key.K(n)}}}}},
		}
		c, err := d.Begin(t.Context(), time.Now(), &rules, a)
		if err == nil {
			err = d.Finish(t.Context(), time.Now(), c, audit.Settlement{Refusal: c.Verdict.Refusal})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// witnessOf runs member a's witness until its status says what is wanted.
func (m *machine) witnessOf(dir, address string, server identity.Public, until func(admin.Status, *audit.Trail) bool) {
	m.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	log, err := ingest.Open("../../lab/incident/testdata/aurora.pcap.gz")
	if err != nil {
		m.Fatal(err)
	}
	epochs, err := endpoint.OpenEpochs(filepath.Join(dir, "epochs.json"))
	if err != nil {
		m.Fatal(err)
	}
	health, err := admin.New(admin.Configuration{}, "1", "", quiet)
	if err != nil {
		m.Fatal(err)
	}
	c := endpoint.DefaultConfiguration()
	c.Listen, c.Key, c.Roster.Signer = "127.0.0.1:0", filepath.Join(dir, "a.key"), m.signer.Public().String()
	c.Clearinghouse = endpoint.Clearinghouse{URL: "https://" + address, Key: server.String()}
	db := state.New(filepath.Join(dir, "state.db"))
	s, err := endpoint.New(c, endpoint.Dependencies{
		Site: flow.Site{Name: "a", Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, Log: func() flow.Log { return log },
		DB: db, Held: filepath.Join(dir, "roster.held"), Epochs: epochs, Logger: quiet, Admin: health,
	})
	if err != nil {
		m.Fatal(err)
	}
	parts := run.Parts{db, s}
	if err := parts.Start(m.Context()); err != nil {
		m.Fatal(err)
	}
	defer func() {
		if err := parts.Stop(context.Background()); err != nil {
			m.Error(err)
		}
	}()
	trail, err := audit.Open(m.Context(), db)
	if err != nil {
		m.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		status := health.Statuses(m.Context())[0]
		if until(status, trail) {
			return
		}
		if time.Now().After(deadline) {
			m.Fatalf("its status stays %+v", status)
		}
	}
}

// TestRecordIsCosigned: a witness shows its record to the clearinghouse, which signs it.
// When somebody rewrites the record, with whole chain and tree and without the heads that
// were kept, the clearinghouse refuses it and the node's status says so.
func TestRecordIsCosigned(t *testing.T) {
	m := newMachine(t)
	dir := t.TempDir()
	own, err := identity.Create(filepath.Join(dir, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	m.members["a"] = own
	m.sign()
	address, server := m.start()
	database := filepath.Join(dir, "state.db")
	record(t, database, 0, 5)
	m.witnessOf(dir, address, server, func(s admin.Status, d *audit.Trail) bool {
		size, head, err := d.LastHead(t.Context())
		if err != nil || size != 10 {
			return false
		}
		_, err = treehead.OpenCosigned(head, own.Public(), server)
		return err == nil && s.Level == admin.OK || s.Level == admin.Attention && !strings.Contains(s.Hint, "cosigned")
	})
	db, err := state.Open(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx *state.Tx) error {
		for _, table := range []string{"ask_entry", "ask_tree", "ask_case", "ask_head"} {
			if _, err := tx.Exec(`DELETE FROM ` + table); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	db.Close()
	record(t, database, 1, 9) // the first question is not there any more
	m.witnessOf(dir, address, server, func(s admin.Status, d *audit.Trail) bool {
		if size, _, err := d.LastHead(t.Context()); size != 0 || err != nil {
			t.Fatalf("a rewritten record of %d entries was cosigned: %v", size, err)
		}
		return s.Level == admin.Attention && strings.Contains(s.Hint, "does not continue")
	})
}
