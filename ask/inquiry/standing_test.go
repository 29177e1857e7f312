package inquiry_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// TestRosterSaysWhoStandsBehindAWitness: classes and AS of the roster join witnesses
// whatever a book calls them, members' witnesses on a relay count, and strangers
// stay strangers, also those with a key that may only ask.
func TestRosterSaysWhoStandsBehindAWitness(t *testing.T) {
	now := time.Now()
	keys := map[string]identity.Public{}
	for _, name := range []string{"a1", "a2", "b", "c", "asker", "old", "nobody", "unknown"} {
		keys[name] = newKey(t).Public()
	}
	member := func(name, class string, roles roster.Role, as []uint32, names ...string) roster.Member {
		m := roster.Member{Name: name, Class: class, Roles: roles, AS: as}
		for _, n := range names {
			until := now.Add(time.Hour)
			if n == "old" {
				until = now.Add(-time.Minute)
			}
			m.Keys = append(m.Keys, roster.MemberKey{Public: keys[n], From: now.Add(-time.Hour), Until: until})
		}
		return m
	}
	signer := newKey(t)
	bundle, err := roster.Sign(signer, &roster.Roster{Issued: now.Add(-time.Minute), Expires: now.Add(time.Hour), Servers: []identity.Public{signer.Public()}, Members: []roster.Member{
		member("acme", "org:acme", roster.Witness, nil, "a1", "a2"),
		member("asker", "org:asker", roster.Ask, nil, "asker", "old"),
		member("birch", "org:birch", roster.Witness, []uint32{64500}, "b"),
		member("cedar", "org:cedar", roster.Witness, []uint32{64500}, "c"),
	}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := bundle.Open(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	b := &inquiry.Book{Witnesses: []inquiry.Contact{
		{Name: "first", Key: keys["a1"], Organisation: "Alder Ltd"}, {Name: "birch", Key: keys["unknown"], Organisation: "Birch"}, {Name: "bare", Key: keys["old"]},
	}}
	if err := b.Validate(); err != nil {
		t.Fatal(err)
	}
	var strangers []inquiry.Contact
	for _, name := range []string{"a2", "b", "c", "asker", "nobody"} {
		strangers = append(strangers, inquiry.Contact{Name: name, Key: keys[name], Stranger: true})
	}
	got := map[string]string{}
	voices := func(all ...inquiry.Contact) {
		for i := range all {
			s := all[i].Source()
			if got[s.Name] = s.Class; !s.Verified {
				got[s.Name] = "stranger"
			}
		}
	}
	found := b.Vouch(list, now, strangers)
	voices(b.Witnesses...)
	voices(found...)
	want := map[string]string{
		"first": "first", "acme": "first", // one class of the roster
		"birch": "birch", "birch-" + keys["b"].ID().String()[:8]: "birch-" + keys["b"].ID().String()[:8], "cedar": "birch-" + keys["b"].ID().String()[:8], // one AS
		"bare": detective.Unknown, "asker": "stranger", "nobody": "stranger",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// Without the roster they are what the book says, and strangers.
	got = map[string]string{}
	voices(b.Vouch(nil, now, strangers)...)
	for name, class := range got {
		if class != "stranger" {
			t.Errorf("%s has the voice of %s", name, class)
		}
	}
}

// TestBlanksAndCaseAreNoOtherOrganisation: nor is leaving the organisation out.
func TestBlanksAndCaseAreNoOtherOrganisation(t *testing.T) {
	b := book(t, inquiry.Contact{Name: "a", Organisation: "ACME"}, inquiry.Contact{Name: "b", Organisation: "acme "},
		inquiry.Contact{Name: "c"}, inquiry.Contact{Name: "d"})
	for i, want := range []string{"a", "a", detective.Unknown, detective.Unknown} {
		if got := b.Witnesses[i].Source(); got.Class != want {
			t.Errorf("%s has the voice of %q, want %q", got.Name, got.Class, want)
		}
	}
}
