package roster

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	return m.roster(path)
}

// parseMembers reads the text of the file.
func parseMembers(text string) (*Roster, error) {
	var m Members
	if err := conf.Read(&m, conf.File{Name: "members", Data: []byte(text)}); err != nil {
		return nil, err
	}
	return m.roster("members")
}

func (m *Members) roster(path string) (*Roster, error) {
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

// AppendMember adds a member at the end of a file of members, whose comments stay as
// they are, and returns the new text. The member must be new, and so must its keys.
func AppendMember(text string, m *Member) (string, error) {
	var b strings.Builder
	text = strings.TrimRight(text, " \n")
	if head, empty := strings.CutSuffix(text, "members: []"); empty {
		text = head + "members:"
	}
	fmt.Fprintf(&b, "%s\n  - name: %s\n    class: %s\n    roles: [%s]\n", text, m.Name, m.Class, strings.ReplaceAll(m.Roles.String(), ",", ", "))
	if len(m.AS) > 0 {
		numbers, err := json.Marshal(m.AS)
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "    as: %s\n", numbers)
	}
	b.WriteString("    keys:\n")
	for _, k := range m.Keys {
		fmt.Fprintf(&b, "      - {public: %s, from: %s, until: %s}\n", k.Public, k.From.Format(time.RFC3339), k.Until.Format(time.RFC3339))
	}
	before, err := parseMembers(text + "\n")
	if err != nil {
		return "", err
	}
	for i := range before.Members {
		if before.Members[i].Name == m.Name {
			return "", fmt.Errorf("%s is a member already; for another key add it to its keys by hand", m.Name)
		}
	}
	after, err := parseMembers(b.String())
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(after.Members, func(o Member) bool { return o.Name == m.Name }); i < 0 || len(after.Members) != len(before.Members)+1 || !slices.Equal(after.Members[i].Keys, m.Keys) {
		return "", errors.New("the file does not end with its list of members; add the member by hand")
	}
	return b.String(), nil
}

// HasMember reports whether a file of members has one of this name with this key.
func HasMember(text, name string, key identity.Public) (bool, error) {
	all, err := parseMembers(text)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(all.Members, func(m Member) bool {
		return m.Name == name && slices.ContainsFunc(m.Keys, func(k MemberKey) bool { return k.Public == key })
	}), nil
}
