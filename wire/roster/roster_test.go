package roster_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/wire/envelope"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const day = 24 * time.Hour

func generate(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func member(name string, roles roster.Role, keys ...*identity.Key) roster.Member {
	m := roster.Member{Name: name, Class: "org:" + name, Roles: roles, AS: []uint32{64496, 64500}}
	for _, k := range keys {
		m.Keys = append(m.Keys, roster.MemberKey{Public: k.Public(), From: now.Add(-day), Until: now.Add(365 * day)})
	}
	return m
}

func draft(server *identity.Key, members ...roster.Member) *roster.Roster {
	return &roster.Roster{Issued: now, Expires: now.Add(30 * day), Servers: []identity.Public{server.Public()}, Members: members}
}

func sign(t testing.TB, k *identity.Key, r *roster.Roster, before *roster.Bundle) *roster.Bundle {
	t.Helper()
	b, err := roster.Sign(k, r, before)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func encode(t testing.TB, b *roster.Bundle) []byte {
	t.Helper()
	data, err := b.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func keeper(t testing.TB, pin identity.Public, path string) *roster.Keeper {
	t.Helper()
	k, err := roster.NewKeeper(pin, roster.File(path))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestMay: what each member's key may do, over its life.
func TestMay(t *testing.T) {
	signer, north, south, old, stolen := generate(t), generate(t), generate(t), generate(t), generate(t)
	s := member("south", roster.Witness, south, old, stolen)
	s.Keys[1].Until = now.Add(-time.Hour)
	s.Keys[2].Revoked = now.Add(day) // what is written as a later time holds at once
	b := sign(t, signer, draft(signer, member("north", roster.Ask|roster.Report, north), s), nil)
	r, err := b.Open(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		key  *identity.Key
		role roster.Role
		at   time.Time
		want error
	}{
		{"its role", north, roster.Report, now, nil},
		{"both roles", north, roster.Ask | roster.Report, now, nil},
		{"not its role", south, roster.Report, now, roster.ErrRole},
		{"before", north, roster.Ask, now.Add(-2 * day), roster.ErrNotYet},
		{"after", north, roster.Ask, now.Add(365 * day), roster.ErrLapsed},
		{"lapsed key", old, roster.Witness, now, roster.ErrLapsed},
		{"revoked key", stolen, roster.Witness, now, roster.ErrRevoked},
		{"stranger", signer, roster.Ask, now, roster.ErrUnknown},
	} {
		if _, err := r.May(test.key.ID(), test.role, test.at); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if p, ok := r.Signer(test.role, test.at)(test.key.ID()); ok != (test.want == nil) || ok && p != test.key.Public() {
			t.Errorf("%s: signer %v, %v", test.name, p, ok)
		}
	}
}

// TestKeeperFollows a chain of versions with gaps, a rotation of the signing
// key and restarts.
func TestKeeperFollows(t *testing.T) {
	first, second, north := generate(t), generate(t), generate(t)
	path := filepath.Join(t.TempDir(), "roster")
	versions := []*roster.Bundle{sign(t, first, draft(first, member("north", roster.Ask, north)), nil)}
	for range 5 {
		versions = append(versions, sign(t, first, draft(first, member("north", roster.Ask, north)), versions[len(versions)-1]))
	}
	rotated, err := roster.Rotate(first, second, draft(second, member("north", roster.Ask, north)), versions[5])
	if err != nil {
		t.Fatal(err)
	}
	after := sign(t, second, draft(second), rotated)
	if _, err := roster.Sign(first, draft(first), rotated); err == nil {
		t.Error("the old key signed after it was replaced")
	}
	for i, step := range []struct {
		bundle  *roster.Bundle
		version uint64
		want    error
	}{
		{versions[1], 2, nil}, {versions[1], 2, nil}, {versions[4], 5, nil}, {versions[3], 0, roster.ErrRollback},
		{after, 8, nil}, {rotated, 0, roster.ErrRollback}, {versions[5], 0, envelope.ErrSigner},
	} {
		k := keeper(t, first.Public(), path) // a restart each time
		r, err := k.Accept(encode(t, step.bundle), now)
		if !errors.Is(err, step.want) || err == nil && r.Version != step.version {
			t.Fatalf("step %d: %v, want version %d or %v", i, err, step.version, step.want)
		}
	}
	k := keeper(t, first.Public(), path)
	if r, err := k.Current(now); err != nil || r.Version != 8 || k.Pin() != second.Public() {
		t.Errorf("after restarts: %v, %v, signed by %s", r, err, k.Pin())
	}
	if k := keeper(t, second.Public(), path); k.Pin() != second.Public() {
		t.Error("the later key is not a pin")
	}
	if _, err := roster.NewKeeper(north.Public(), roster.File(path)); err == nil {
		t.Error("a stranger's pin opened the roster held")
	}
}

// TestKeeperRefuses: rollback, fork, gap, freeze, clock and forgery.
func TestKeeperRefuses(t *testing.T) {
	signer, eve, north := generate(t), generate(t), generate(t)
	one := sign(t, signer, draft(signer), nil)
	two := sign(t, signer, draft(signer, member("north", roster.Ask, north)), one)
	other := sign(t, signer, draft(signer, member("evil", roster.Ask, eve)), one)
	three, otherThree := sign(t, signer, draft(signer), two), sign(t, signer, draft(signer), other)
	short := sign(t, signer, draft(signer), three)
	short.History = nil // version 3 is missing between
	early := draft(signer)
	early.Issued, early.Expires = now.Add(time.Hour), now.Add(2*time.Hour)
	frozen := draft(signer)
	frozen.Issued, frozen.Expires = now.Add(-2*day), now.Add(-day)
	stolen := *three
	stolen.Handovers = []roster.Handover{{Old: signer.Public(), New: eve.Public(), Signature: make([]byte, 64)}}
	stolen.Sealed = sign(t, eve, draft(eve), nil).Sealed
	for _, test := range []struct {
		name   string
		bundle *roster.Bundle
		want   error
	}{
		{"older", one, roster.ErrRollback}, {"same version, other content", other, roster.ErrForked},
		{"descends from another", otherThree, roster.ErrForked}, {"next", three, nil},
		{"history too short", short, roster.ErrGap}, {"from the future", sign(t, signer, early, two), envelope.ErrEarly},
		{"expired", sign(t, signer, frozen, two), roster.ErrExpired}, {"forged", sign(t, eve, draft(eve), nil), envelope.ErrSigner},
		{"forged handover", &stolen, envelope.ErrSigner},
	} {
		path := filepath.Join(t.TempDir(), "roster")
		k := keeper(t, signer.Public(), path)
		if _, err := k.Accept(encode(t, two), now); err != nil {
			t.Fatal(err)
		}
		if _, err := k.Accept(encode(t, test.bundle), now); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		want := uint64(2)
		if test.want == nil {
			want = 3
		}
		if r, err := keeper(t, signer.Public(), path).Current(now); err != nil || r.Version != want {
			t.Errorf("%s: then version %v is held (%v), want %d", test.name, r, err, want)
		}
	}
	k := keeper(t, signer.Public(), filepath.Join(t.TempDir(), "roster"))
	if _, err := k.Current(now); !errors.Is(err, roster.ErrNone) {
		t.Errorf("nothing held: %v", err)
	}
	if _, err := k.Accept(encode(t, two), now); err != nil {
		t.Fatal(err)
	}
	if _, err := k.Current(now.Add(31 * day)); !errors.Is(err, roster.ErrExpired) {
		t.Errorf("a frozen roster: %v", err)
	}
}

// TestRemembersOrRefuses: what cannot be remembered is not taken over.
func TestRemembersOrRefuses(t *testing.T) {
	signer := generate(t)
	k := keeper(t, signer.Public(), filepath.Join(t.TempDir(), "no such folder", "roster"))
	if _, err := k.Accept(encode(t, sign(t, signer, draft(signer), nil)), now); err == nil {
		t.Fatal("accepted without remembering")
	}
	if _, err := k.Current(now); !errors.Is(err, roster.ErrNone) {
		t.Error(err)
	}
}

func TestCanonical(t *testing.T) {
	signer, a, b := generate(t), generate(t), generate(t)
	r := draft(signer, member("a", roster.Ask, a), member("b", roster.Ask|roster.Report|roster.Witness, b))
	r.Version = 1
	r.Members[1].Keys[0].Revoked = now
	data, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back roster.Roster
	if err := back.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, &back, cmpopts.EquateComparable(identity.Public{})); diff != "" {
		t.Error(diff)
	}
	for name, spoil := range map[string]func(*roster.Roster){
		"order":         func(r *roster.Roster) { r.Members[0], r.Members[1] = r.Members[1], r.Members[0] },
		"no role":       func(r *roster.Roster) { r.Members[0].Roles = 0 },
		"a key twice":   func(r *roster.Roster) { r.Members[1].Keys = r.Members[0].Keys },
		"no key":        func(r *roster.Roster) { r.Members[0].Keys = nil },
		"blank in name": func(r *roster.Roster) { r.Members[0].Name = "a b" },
		"no server":     func(r *roster.Roster) { r.Servers = nil },
		"AS order":      func(r *roster.Roster) { r.Members[0].AS = []uint32{2, 1} },
		"ends first":    func(r *roster.Roster) { r.Expires = r.Issued },
	} {
		bad := *r
		bad.Members = []roster.Member{r.Members[0], r.Members[1]}
		spoil(&bad)
		if _, err := bad.MarshalBinary(); err == nil {
			t.Errorf("%s was written", name)
		}
	}
}

func TestReadMembers(t *testing.T) {
	k := generate(t).Public()
	path := filepath.Join(t.TempDir(), "members.yaml")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "KEY", k.String())), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(`
members:
  - {name: south, roles: [witness], class: "as:64500", as: [64500, 64496, 64500], keys: [{public: KEY, from: 2026-01-01T00:00:00Z, until: 2027-01-01T00:00:00Z, revoked: 2026-02-01T10:00:00Z}]}
  - {name: north, roles: [ask, report], keys: []}
`)
	r, err := roster.ReadMembers(path)
	if err != nil {
		t.Fatal(err)
	}
	date := func(y, m, d, h int) time.Time { return time.Date(y, time.Month(m), d, h, 0, 0, 0, time.UTC) }
	want := &roster.Roster{Members: []roster.Member{
		{Name: "north", Class: "org:north", Roles: roster.Ask | roster.Report},
		{Name: "south", Class: "as:64500", Roles: roster.Witness, AS: []uint32{64496, 64500}, Keys: []roster.MemberKey{
			{Public: k, From: date(2026, 1, 1, 0), Until: date(2027, 1, 1, 0), Revoked: date(2026, 2, 1, 10)},
		}},
	}}
	if diff := cmp.Diff(want, r, cmpopts.EquateComparable(identity.Public{}), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	write("members: [{name: north, rolls: [ask]}]")
	if _, err := roster.ReadMembers(path); err == nil || !strings.Contains(err.Error(), `did you mean "roles"`) {
		t.Error(err)
	}
	write("members: [{name: north, roles: [judge]}]")
	if _, err := roster.ReadMembers(path); err == nil || !strings.Contains(err.Error(), "want ask, report or witness") {
		t.Error(err)
	}
}

// FuzzRoster: what is read is written back as the same bytes.
func FuzzRoster(f *testing.F) {
	signer, north := generate(f), generate(f)
	r := draft(signer, member("north", roster.Ask, north))
	r.Version = 1
	data, err := r.MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var r roster.Roster
		if r.UnmarshalBinary(data) != nil {
			return
		}
		if again, err := r.MarshalBinary(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: read %x, wrote %x", err, data, again)
		}
	})
}

// FuzzBundle: no bytes but the signer's make a keeper accept anything.
func FuzzBundle(f *testing.F) {
	signer := generate(f)
	good := encode(f, sign(f, signer, draft(signer), nil))
	next := encode(f, sign(f, signer, draft(signer), sign(f, signer, draft(signer), nil)))
	f.Add(good)
	f.Add(next)
	f.Fuzz(func(t *testing.T, data []byte) {
		k := keeper(t, generate(t).Public(), filepath.Join(t.TempDir(), "roster"))
		if _, err := k.Accept(data, now); err == nil {
			t.Fatal("accepted a stranger's bundle")
		}
		var b roster.Bundle
		if b.UnmarshalBinary(data) != nil {
			return
		}
		if again, err := b.MarshalBinary(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: read %x, wrote %x", err, data, again)
		}
	})
}
