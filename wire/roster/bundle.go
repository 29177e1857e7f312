package roster

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"

	"dragnet/internal/hint"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
)

// Kind of the envelope that carries a roster.
const Kind = "roster"

// Bundle is a roster as it travels and lies in files: enough for a reader who
// knows an earlier version, or only the first signing key, to check this one.
type Bundle struct {
	// Handovers are all changes of the signing key, the oldest first.
	Handovers []Handover
	// History holds the content digests of the versions before, the oldest
	// first, as many as were kept; the last is that of Version-1.
	History []Digest
	// Sealed is the envelope.
	Sealed []byte
}

// Handover says that a signing key was replaced, in the words of the old one.
type Handover struct {
	Old, New  identity.Public
	Signature []byte
}

// Bounds of a bundle. MaxHistory is more than ten years of daily versions.
const (
	MaxHistory   = 4096
	maxHandovers = 64
	MaxBundle    = MaxBytes + envelope.Overhead + MaxHistory*len(Digest{}) + maxHandovers*128 + 16
)

const (
	bundleVersion   = 1
	handoverPurpose = "dragnet roster handover 1"
)

func (h *Handover) text() []byte {
	return append(append([]byte{}, h.Old.Bytes()...), h.New.Bytes()...)
}

// Sign makes the next version after the bundle before, which is nil for the
// first one: it fills in Version and Previous. The key is the one that signed
// before.
func Sign(k *identity.Key, r *Roster, before *Bundle) (*Bundle, error) {
	next := &Bundle{}
	r.Version, r.Previous = 1, Digest{}
	if before != nil {
		held, err := before.Open(k.Public())
		if err != nil {
			return nil, fmt.Errorf("the roster before, which this key should have signed: %w", err)
		}
		next = before.continueFrom(r, held)
	}
	return next, next.sealRoster(k, r)
}

// Rotate makes the next version, in which the signing passes from the old key
// to the next one. Those that trust the old key follow.
func Rotate(old, next *identity.Key, r *Roster, before *Bundle) (*Bundle, error) {
	held, err := before.Open(old.Public())
	switch {
	case err != nil:
		return nil, fmt.Errorf("the roster before, which the old key should have signed: %w", err)
	case len(before.Handovers) == maxHandovers:
		return nil, fmt.Errorf("the signing key was replaced %d times already; start a new roster", maxHandovers)
	case old.Public() == next.Public():
		return nil, errors.New("the new signing key is the old one")
	}
	h := Handover{Old: old.Public(), New: next.Public()}
	if h.Signature, err = old.Sign(handoverPurpose, h.text()); err != nil {
		return nil, err
	}
	b := before.continueFrom(r, held)
	b.Handovers = append(b.Handovers, h)
	return b, b.sealRoster(next, r)
}

// continueFrom returns the start of the bundle for the version after b, whose
// roster is held.
func (b *Bundle) continueFrom(r *Roster, held *Held) *Bundle {
	r.Version, r.Previous = held.Version+1, held.Link
	history := slices.Concat(b.History, []Digest{held.content})
	return &Bundle{Handovers: slices.Clone(b.Handovers), History: history[max(0, len(history)-MaxHistory):]}
}

func (b *Bundle) sealRoster(k *identity.Key, r *Roster) error {
	r.Issued, r.Expires = r.Issued.UTC().Truncate(time.Second), r.Expires.UTC().Truncate(time.Second)
	body, err := r.MarshalBinary()
	if err != nil {
		return err
	}
	b.Sealed, err = envelope.Seal(k, envelope.Header{Kind: Kind, Issued: r.Issued, Expires: r.Expires}, body)
	return err
}

// currentSigner follows the handovers from a key.
func (b *Bundle) currentSigner(from identity.Public) identity.Public {
	for i := range b.Handovers {
		h := &b.Handovers[i]
		if h.Old == from && h.Old.Verify(handoverPurpose, h.text(), h.Signature) {
			from = h.New
		}
	}
	return from
}

// Held is a roster whose signature was checked.
type Held struct {
	Roster
	// Link chains it to all versions before.
	Link Digest

	content Digest
	byKey   map[identity.ID]place
}

// place is the position of a key.
type place struct{ member, key int }

// Check opens the roster if the key signed it, or one that the signing was
// handed to since, and returns which. It does not check its age.
func (b *Bundle) Check(pin identity.Public) (*Held, identity.Public, error) {
	signer := b.currentSigner(pin)
	h, err := b.Open(signer)
	return h, signer, err
}

// Open checks that the key signed the roster. It says nothing about its age.
func (b *Bundle) Open(signer identity.Public) (*Held, error) {
	return open(b, signer, time.Time{}, 0)
}

// open checks the time too, unless now is zero.
func open(b *Bundle, signer identity.Public, now time.Time, skew time.Duration) (*Held, error) {
	expect := envelope.Expect{Kind: Kind, Now: now, Skew: skew, MaxBody: MaxBytes,
		Signer: func(id identity.ID) (identity.Public, bool) { return signer, id == signer.ID() }}
	if now.IsZero() {
		expect.Now, expect.Skew = time.Unix(0, 0), 1<<63-1 // about 292 years either way
	}
	e, err := envelope.Open(b.Sealed, expect)
	if err != nil {
		return nil, err
	}
	h := &Held{content: digestContent(e.Body), byKey: map[identity.ID]place{}}
	if err := h.UnmarshalBinary(e.Body); err != nil {
		return nil, err
	}
	if !h.Issued.Equal(e.Issued) || !h.Expires.Equal(e.Expires) {
		return nil, errors.New("roster: its times differ from those of its envelope")
	}
	h.Link = digestLink(h.Previous, h.content)
	for i := range h.Members {
		for j := range h.Members[i].Keys {
			h.byKey[h.Members[i].Keys[j].Public.ID()] = place{i, j}
		}
	}
	return h, nil
}

// Find is the member with this key and the key, whatever its state.
func (h *Held) Find(id identity.ID) (*Member, *MemberKey, error) {
	at, ok := h.byKey[id]
	if !ok {
		return nil, nil, ErrUnknown
	}
	m := &h.Members[at.member]
	return m, &m.Keys[at.key], nil
}

// May finds the member that holds a key and says whether it may do something
// at a time.
func (h *Held) May(id identity.ID, role Role, at time.Time) (*Member, error) {
	m, k, err := h.Find(id)
	if err != nil {
		return nil, err
	}
	if err := k.usable(at); err != nil {
		return m, err
	}
	if m.Roles&role != role {
		return m, ErrRole
	}
	return m, nil
}

// Signer is what envelope.Expect wants: the keys that may do something at a
// time.
func (h *Held) Signer(role Role, at time.Time) func(identity.ID) (identity.Public, bool) {
	return func(id identity.ID) (identity.Public, bool) {
		if _, err := h.May(id, role, at); err != nil {
			return identity.Public{}, false
		}
		_, k, err := h.Find(id)
		return k.Public, err == nil
	}
}

// MarshalBinary is the form of files and of the wire.
func (b *Bundle) MarshalBinary() ([]byte, error) {
	var out cryptobyte.Builder
	out.AddUint8(bundleVersion)
	out.AddUint8(uint8(len(b.Handovers)))
	for i := range b.Handovers {
		out.AddBytes(b.Handovers[i].text())
		out.AddUint8LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(b.Handovers[i].Signature) })
	}
	out.AddUint16(uint16(len(b.History)))
	for i := range b.History {
		out.AddBytes(b.History[i][:])
	}
	out.AddUint32LengthPrefixed(func(c *cryptobyte.Builder) { c.AddBytes(b.Sealed) })
	return out.Bytes()
}

// UnmarshalBinary reads the form; what is inside is not checked yet.
func (b *Bundle) UnmarshalBinary(data []byte) error {
	*b = Bundle{}
	s := cryptobyte.String(data)
	var version, handovers uint8
	var history uint16
	var sealed uint32
	fail := hint.Add(fmt.Errorf("roster bundle: %w", errMalformed), "is it the file that the clearinghouse signed? 'dragnet roster fetch' gets the current one")
	if len(data) > MaxBundle || !s.ReadUint8(&version) || version != bundleVersion || !s.ReadUint8(&handovers) || handovers > maxHandovers {
		return fail
	}
	b.Handovers = make([]Handover, handovers)
	for i := range b.Handovers {
		h := &b.Handovers[i]
		var signature cryptobyte.String
		if !readPublic(&s, &h.Old) || !readPublic(&s, &h.New) || !s.ReadUint8LengthPrefixed(&signature) {
			return fail
		}
		h.Signature = signature
	}
	if !s.ReadUint16(&history) || history > MaxHistory || int(history) > len(s)/len(Digest{}) {
		return fail
	}
	b.History = make([]Digest, history)
	for i := range b.History {
		s.CopyBytes(b.History[i][:])
	}
	if !s.ReadUint32(&sealed) || uint64(sealed) != uint64(len(s)) {
		return fail
	}
	b.Sealed = s
	return nil
}
