package roster

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"dragnet/wire/identity"
)

// Digest is a SHA-256 sum.
type Digest [sha256.Size]byte

const rosterVersion = 1

var errMalformed = errors.New("truncated or malformed")

// MarshalBinary is the canonical form: equal rosters give equal bytes. The
// layout, integers big-endian, times in seconds since 1970 (0: none), lists
// after their number: format 1, version, previous, issued, expires, server
// keys, members (name, class, roles, AS numbers, keys (key, from, until,
// revoked)).
func (r *Roster) MarshalBinary() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, fmt.Errorf("roster: %w", err)
	}
	var b cryptobyte.Builder
	b.AddUint8(rosterVersion)
	b.AddUint64(r.Version)
	b.AddBytes(r.Previous[:])
	addTime(&b, r.Issued)
	addTime(&b, r.Expires)
	b.AddUint8(uint8(len(r.Servers)))
	for _, s := range r.Servers {
		b.AddBytes(s.Bytes())
	}
	b.AddUint32(uint32(len(r.Members)))
	for i := range r.Members {
		r.Members[i].marshal(&b)
	}
	return b.Bytes()
}

func (m *Member) marshal(b *cryptobyte.Builder) {
	for _, s := range []string{m.Name, m.Class} {
		b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s)) })
	}
	b.AddUint8(uint8(m.Roles))
	b.AddUint16(uint16(len(m.AS)))
	for _, as := range m.AS {
		b.AddUint32(as)
	}
	b.AddUint8(uint8(len(m.Keys)))
	for _, k := range m.Keys {
		b.AddBytes(k.Public.Bytes())
		addTime(b, k.From)
		addTime(b, k.Until)
		addTime(b, k.Revoked)
	}
}

func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.IsZero() {
		b.AddUint64(0)
		return
	}
	b.AddUint64(uint64(t.Unix()))
}

// UnmarshalBinary reads and checks what MarshalBinary wrote; any other bytes
// are an error.
func (r *Roster) UnmarshalBinary(data []byte) error {
	if len(data) > MaxBytes {
		return fmt.Errorf("roster: %d bytes; at most %d", len(data), MaxBytes)
	}
	s := cryptobyte.String(data)
	err := r.unmarshal(&s)
	if err == nil && !s.Empty() {
		err = errMalformed
	}
	if err == nil {
		err = r.Validate()
	}
	if err != nil {
		return fmt.Errorf("roster: %w", err)
	}
	return nil
}

func (r *Roster) unmarshal(s *cryptobyte.String) error {
	var version, servers uint8
	var members uint32
	if !s.ReadUint8(&version) {
		return errMalformed
	}
	if version != rosterVersion {
		return fmt.Errorf("format %d; this program speaks format %d", version, rosterVersion)
	}
	if !s.ReadUint64(&r.Version) || !s.CopyBytes(r.Previous[:]) || !readTime(s, &r.Issued) || !readTime(s, &r.Expires) ||
		!s.ReadUint8(&servers) || servers > MaxServers {
		return errMalformed
	}
	r.Servers = make([]identity.Public, servers)
	for i := range r.Servers {
		if !readPublic(s, &r.Servers[i]) {
			return errMalformed
		}
	}
	// The smallest member takes some 60 bytes, so that a lying number cannot
	// make us allocate.
	if !s.ReadUint32(&members) || members > MaxMembers || int(members) > len(*s)/60 {
		return errMalformed
	}
	r.Members = make([]Member, members)
	for i := range r.Members {
		if !r.Members[i].unmarshal(s) {
			return errMalformed
		}
	}
	return nil
}

func (m *Member) unmarshal(s *cryptobyte.String) bool {
	var name, class cryptobyte.String
	var roles, keys uint8
	var numbers uint16
	if !s.ReadUint8LengthPrefixed(&name) || !s.ReadUint8LengthPrefixed(&class) || !s.ReadUint8(&roles) ||
		!s.ReadUint16(&numbers) || numbers > MaxAS {
		return false
	}
	m.Name, m.Class, m.Roles = string(name), string(class), Role(roles)
	m.AS = make([]uint32, numbers)
	for i := range m.AS {
		if !s.ReadUint32(&m.AS[i]) {
			return false
		}
	}
	if !s.ReadUint8(&keys) || keys > MaxKeys {
		return false
	}
	m.Keys = make([]MemberKey, keys)
	for i := range m.Keys {
		k := &m.Keys[i]
		if !readPublic(s, &k.Public) || !readTime(s, &k.From) || !readTime(s, &k.Until) || !readTime(s, &k.Revoked) {
			return false
		}
	}
	return true
}

func readPublic(s *cryptobyte.String, p *identity.Public) bool {
	var b []byte
	if !s.ReadBytes(&b, 32) {
		return false
	}
	var err error
	*p, err = identity.PublicFromBytes(b)
	return err == nil
}

// maxSeconds is the year 9999: later seconds overflow what prints.
const maxSeconds = 253402300799

func readTime(s *cryptobyte.String, t *time.Time) bool {
	var v uint64
	if !s.ReadUint64(&v) || v > maxSeconds {
		return false
	}
	*t = time.Time{}
	if v != 0 {
		*t = time.Unix(int64(v), 0).UTC()
	}
	return true
}

// digestContent is the digest of a roster's canonical bytes.
func digestContent(canonical []byte) Digest {
	return sha256.Sum256(append([]byte("dragnet roster content 1\x00"), canonical...))
}

// digestLink chains the digest of a version to all versions before it.
func digestLink(previous, content Digest) Digest {
	return sha256.Sum256(append(append([]byte("dragnet roster link 1\x00"), previous[:]...), content[:]...))
}
