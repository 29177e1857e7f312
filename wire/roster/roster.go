// Package roster is the list of those a community has let in: organisations
// with their keys, what each may do, and which of them are one class.
// Detectives must stand on it to ask and to report; a witness may, and is then
// counted under a verified class.
//
// The clearinghouse signs it (Sign); everybody else holds a Keeper, which
// accepts newer versions that descend from the one it holds and nothing else.
package roster

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dragnet/wire/identity"
)

// Bounds of a roster.
const (
	MaxMembers = 20_000
	MaxKeys    = 16 // of one member, counting old ones
	MaxAS      = 256
	MaxServers = 8
	MaxName    = 64 // bytes of a name or class
	MaxBytes   = 16 << 20
)

// Role is a set of what a member may do.
type Role uint8

// Ask: put questions to witnesses. Report: report to the clearinghouse.
// Witness: be counted in its class.
const (
	Ask Role = 1 << iota
	Report
	Witness

	allRoles = Ask | Report | Witness
)

var roleNames = []struct {
	role Role
	name string
}{{Ask, "ask"}, {Report, "report"}, {Witness, "witness"}}

// String lists the roles, such as "ask,report".
func (r Role) String() string {
	var names []string
	for _, n := range roleNames {
		if r&n.role != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, ",")
}

// ParseRoles reads names of roles.
func ParseRoles(names []string) (Role, error) {
	var all Role
next:
	for _, s := range names {
		for _, n := range roleNames {
			if s == n.name {
				all |= n.role
				continue next
			}
		}
		return 0, fmt.Errorf("role %q: want ask, report or witness", s)
	}
	return all, nil
}

// Roster is one version of the list. Times are whole seconds.
type Roster struct {
	// Version counts up from 1.
	Version uint64
	// Previous is the Link of the version before; zero in version 1.
	Previous Digest
	// Issued and Expires bound how long a reader may rely on it: who shows an
	// old roster for ever hides revocations no longer than this.
	Issued, Expires time.Time
	// Servers are the keys with which the clearinghouse answers connections.
	Servers []identity.Public
	// Members are in order of their names.
	Members []Member
}

// Member is one organisation.
type Member struct {
	Name string
	// Class is the verified independence class, such as "org:example" or
	// "as:64496": all members of one class count once.
	Class string
	Roles Role
	// AS are the member's autonomous systems, in ascending order.
	AS []uint32
	// Keys are all it ever used, so that a late revocation finds its key.
	Keys []MemberKey
}

// MemberKey is one identity key of a member, good in [From, Until).
type MemberKey struct {
	Public      identity.Public
	From, Until time.Time
	// Revoked is since when the key may have been in other hands; zero if it
	// was not. A revoked key signs nothing any more, whatever date it writes;
	// what was received from it since then is to be taken back.
	Revoked time.Time
}

// Why a key may not do something.
var (
	ErrUnknown = errors.New("roster: the key is not on the roster")
	ErrRole    = errors.New("roster: the member may not do this")
	ErrNotYet  = errors.New("roster: the key is not valid yet")
	ErrLapsed  = errors.New("roster: the key is no longer valid")
	ErrRevoked = errors.New("roster: the key was revoked")
)

// usable says whether the key may sign at a time.
func (k *MemberKey) usable(at time.Time) error {
	switch {
	case !k.Revoked.IsZero():
		return ErrRevoked
	case at.Before(k.From):
		return ErrNotYet
	case !at.Before(k.Until):
		return ErrLapsed
	}
	return nil
}

// Validate reports the first thing that makes r unusable: bounds, order, a key
// that is listed twice.
func (r *Roster) Validate() error {
	switch {
	case r.Version == 0, (r.Version == 1) != (r.Previous == Digest{}):
		return fmt.Errorf("version %d does not fit the digest of the version before", r.Version)
	case !r.Expires.After(r.Issued):
		return errors.New("it expires before it is issued")
	case len(r.Members) > MaxMembers || len(r.Servers) == 0 || len(r.Servers) > MaxServers:
		return fmt.Errorf("%d members and %d server keys; at most %d, and 1 to %d", len(r.Members), len(r.Servers), MaxMembers, MaxServers)
	}
	seen := map[identity.Public]string{}
	for i := range r.Members {
		m := &r.Members[i]
		if i > 0 && r.Members[i-1].Name >= m.Name {
			return fmt.Errorf("member %q is invalid, or listed twice", m.Name)
		}
		if err := m.validate(); err != nil {
			return fmt.Errorf("member %q: %w", m.Name, err)
		}
		for _, k := range m.Keys {
			if other, again := seen[k.Public]; again {
				return fmt.Errorf("key %s is listed twice, at %q and %q", k.Public, other, m.Name)
			}
			seen[k.Public] = m.Name
		}
	}
	return nil
}

func (m *Member) validate() error {
	switch {
	case !isPrintable(m.Name) || !isPrintable(m.Class):
		return fmt.Errorf("name and class have 1 to %d printable characters of ASCII, without blanks; the class is %q", MaxName, m.Class)
	case m.Roles == 0 || m.Roles&^allRoles != 0:
		return errors.New("it has no role, or an unknown one")
	case len(m.AS) > MaxAS || !slices.IsSorted(m.AS) || len(slices.Compact(slices.Clone(m.AS))) != len(m.AS):
		return fmt.Errorf("want at most %d AS numbers, ascending, each once", MaxAS)
	case len(m.Keys) == 0 || len(m.Keys) > MaxKeys:
		return fmt.Errorf("%d keys; want 1 to %d", len(m.Keys), MaxKeys)
	}
	for _, k := range m.Keys {
		if k.Public.IsZero() || !k.Until.After(k.From) {
			return fmt.Errorf("key %s: it is zero, or ends before it starts", k.Public)
		}
	}
	return nil
}

func isPrintable(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= MaxName
}
