package roster

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"dragnet/internal/conf"
	"dragnet/wire/identity"
)

// Members is the file that the operator of a clearinghouse edits and signs as
// a roster: a member is added by adding it, a key revoked by writing since when.
type Members struct {
	// Servers are the keys with which the clearinghouse answers connections;
	// empty means the key that signs.
	Servers []identity.Public `yaml:"servers"`
	// Members are the organisations, in any order.
	Members []MemberEntry `yaml:"members"`
}

// MemberEntry is one organisation in the file.
type MemberEntry struct {
	// Name of the organisation.
	Name string `yaml:"name"`
	// Class is the verified independence class; by default "org:" and the name.
	Class string `yaml:"class"`
	// Roles are what it may do: ask, report, witness.
	Roles []string `yaml:"roles"`
	// AS are its autonomous systems.
	AS []uint32 `yaml:"as"`
	// Keys are its keys, old ones too.
	Keys []KeyEntry `yaml:"keys"`
}

// KeyEntry is one key in the file.
type KeyEntry struct {
	// Public is the key: ed25519: and 43 characters.
	Public identity.Public `yaml:"public"`
	// From and Until bound when it may be used.
	From  time.Time `yaml:"from"`
	Until time.Time `yaml:"until"`
	// Revoked is since when it may have been in other hands; leave it out if it
	// was not.
	Revoked time.Time `yaml:"revoked,omitempty"`
}

// ReadMembers reads the file into a roster that is yet to be signed.
func ReadMembers(path string) (*Roster, error) {
	var m Members
	if err := conf.Load(&m, path); err != nil {
		return nil, err
	}
	r := &Roster{Servers: m.Servers}
	for _, e := range m.Members {
		roles, err := ParseRoles(e.Roles)
		if err != nil {
			return nil, fmt.Errorf("%s: member %q: %w", path, e.Name, err)
		}
		out := Member{Name: e.Name, Class: cmp.Or(e.Class, "org:"+e.Name), Roles: roles, AS: slices.Compact(slices.Sorted(slices.Values(e.AS)))}
		for _, k := range e.Keys {
			out.Keys = append(out.Keys, MemberKey{Public: k.Public, From: truncateToSecond(k.From), Until: truncateToSecond(k.Until), Revoked: truncateToSecond(k.Revoked)})
		}
		r.Members = append(r.Members, out)
	}
	slices.SortFunc(r.Members, func(a, b Member) int { return cmp.Compare(a.Name, b.Name) })
	return r, nil
}

func truncateToSecond(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Second)
}
