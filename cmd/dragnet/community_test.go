package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"dragnet/node/community"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// TestAdmissionGoesOn: a run that was killed after it wrote the member down, and
// before it signed, is finished by the next; another key is another matter.
func TestAdmissionGoesOn(t *testing.T) {
	f := community.Folder(t.TempDir() + "/c")
	if _, err := f.Found("north", "https://127.0.0.1:8443", ""); err != nil {
		t.Fatal(err)
	}
	if err := signRoster(io.Discard, f.Members(), signOptions{key: f.SignerKey(), bundle: f.Roster(), valid: rosterValid}, time.Now()); err != nil {
		t.Fatal(err)
	}
	var keys [2]identity.Public
	for i := range keys {
		k, err := identity.Create(filepath.Join(t.TempDir(), "key"))
		if err != nil {
			t.Fatal(err)
		}
		keys[i] = k.Public()
	}
	add := func(k identity.Public) error {
		return addMember(io.Discard, f, f.SignerKey(), &roster.Member{Name: "south", Class: "org:south", Roles: roster.Report}, k)
	}
	before, err := os.ReadFile(f.Roster())
	if err != nil {
		t.Fatal(err)
	}
	if err := add(keys[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Roster(), before, 0o600); err != nil { // as if it had not signed
		t.Fatal(err)
	}
	if err := add(keys[0]); err != nil {
		t.Errorf("again: %v", err)
	}
	if err := add(keys[1]); err == nil {
		t.Error("another key of the same name was admitted")
	}
}
