package roster

import (
	"strings"
	"testing"
	"time"

	"dragnet/wire/identity"
)

func TestAppendMember(t *testing.T) {
	public := func() identity.Public {
		k, err := identity.Generate()
		if err != nil {
			t.Fatal(err)
		}
		return k.Public()
	}
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	member := func(name string, k identity.Public) *Member {
		return &Member{Name: name, Class: "org:" + name, Roles: Ask | Witness, AS: []uint32{64496, 64497}, Keys: []MemberKey{{Public: k, From: from, Until: from.AddDate(2, 0, 0)}}}
	}
	text := "# ours\nservers: [" + public().String() + "]\nmembers: []\n"
	k := public()
	for _, m := range []*Member{member("north", k), member("south", public())} {
		out, err := AppendMember(text, m)
		if err != nil {
			t.Fatal(err)
		}
		text = out
	}
	r, err := parseMembers(text)
	if err != nil || len(r.Members) != 2 || r.Members[0].Name != "north" || r.Members[1].Roles != Ask|Witness || len(r.Members[1].AS) != 2 || !strings.HasPrefix(text, "# ours\n") {
		t.Fatalf("%+v, %v\n%s", r, err, text)
	}
	if _, err := AppendMember(text, member("north", public())); err == nil || !strings.Contains(err.Error(), "already") {
		t.Errorf("a name again: %v", err)
	}
	for name, other := range map[string]string{"members first": "members:\nservers: [" + public().String() + "]\n", "one line": "members: [{name: a, roles: [ask], keys: []}]\n"} {
		if out, err := AppendMember(other, member("west", public())); err == nil {
			t.Errorf("%s: %s", name, out)
		}
	}
}
