package exchange

import (
	"crypto/ecdh"
	"crypto/hpke"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"dragnet/dossier"
	"dragnet/wire/envelope"
	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/identity"
)

// Mailbox opens what is sealed to a witness: DHKEM(X25519, HKDF-SHA256),
// HKDF-SHA256, ChaCha20-Poly1305 (RFC 9180, section 7).
type Mailbox struct{ private hpke.PrivateKey }

func kem() hpke.KEM { return hpke.DHKEM(ecdh.X25519()) }

// NewMailbox derives a witness's mailbox from its key, so that messages written
// before a restart can be opened after it. What is derived from is a signature
// that is made for nothing else and never shown; Ed25519 makes the same one
// every time (RFC 8032, section 5.1.6), and only the holder of the key can make it.
func NewMailbox(k *identity.Key) (*Mailbox, error) {
	secret, err := k.Sign("dragnet mailbox 1: never shown", nil)
	if err != nil {
		return nil, err
	}
	private, err := kem().DeriveKeyPair(secret)
	if err != nil {
		return nil, fmt.Errorf("derive the mailbox: %w", err)
	}
	return &Mailbox{private}, nil
}

// Public is what messages are sealed to.
func (m *Mailbox) Public() []byte { return m.private.PublicKey().Bytes() }

// messageInfo binds a message to its receiver.
func messageInfo(to identity.ID) []byte { return append([]byte("dragnet message v1\x00"), to[:]...) }

// SealMessage seals a question's envelope to a witness's mailbox.
func SealMessage(mailbox []byte, to identity.ID, question []byte) ([]byte, error) {
	public, err := kem().NewPublicKey(mailbox)
	if err != nil {
		return nil, fmt.Errorf("mailbox key: %w", err)
	}
	return hpke.Seal(public, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), messageInfo(to), question)
}

// OpenMessage opens a message to us.
func (m *Mailbox) OpenMessage(to identity.ID, sealed []byte) ([]byte, error) {
	if len(sealed) > MaxMessage {
		return nil, fmt.Errorf("message of %d bytes; at most %d", len(sealed), MaxMessage)
	}
	question, err := hpke.Open(m.private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), messageInfo(to), sealed)
	if err != nil {
		return nil, fmt.Errorf("message is not sealed to this mailbox: %w", err)
	}
	return question, nil
}

// MaxMessage bounds a message: the largest question, its envelope and its seal.
const MaxMessage = dossier.MaxQuestion + envelope.Overhead + 64

// Card is a witness's contact card. Its name is unverified.
type Card struct {
	Name    string
	Key     identity.Public
	Mailbox []byte
}

// Bounds of a card.
const (
	maxCard     = 1 << 10
	maxCardName = 255
	// CardLife is how long a card holds: a witness that stays away so long is
	// forgotten.
	CardLife = 7 * 24 * time.Hour
)

// SealCard signs a card for everybody: the public key's 32 bytes, then the
// envelope that it signed.
func SealCard(k *identity.Key, m *Mailbox, name string, now time.Time) ([]byte, error) {
	body, err := proto.Marshal(&exchangev1.Card{Name: name, Mailbox: m.Public()})
	if err != nil {
		return nil, err
	}
	sealed, err := envelope.Seal(k, envelope.Header{Kind: CardKind, Issued: now, Expires: now.Add(CardLife)}, body)
	return append(k.Public().Bytes(), sealed...), err
}

// OpenCard checks that the card's own key signed it: it proves that name and
// mailbox belong to the holder of the key alone.
func OpenCard(data []byte, now time.Time) (Card, error) {
	const keySize = 32
	if len(data) < keySize {
		return Card{}, envelope.ErrMalformed
	}
	key, err := identity.PublicFromBytes(data[:keySize])
	if err != nil {
		return Card{}, err
	}
	e, err := envelope.Open(data[keySize:], envelope.Expect{
		Kind: CardKind, Now: now, Skew: Skew, MaxBody: maxCard,
		Signer: func(id identity.ID) (identity.Public, bool) { return key, id == key.ID() },
	})
	if err != nil {
		return Card{}, err
	}
	var m exchangev1.Card
	if err := proto.Unmarshal(e.Body, &m); err != nil {
		return Card{}, fmt.Errorf("card: %w", err)
	}
	if _, err := kem().NewPublicKey(m.Mailbox); err != nil {
		return Card{}, fmt.Errorf("card: mailbox: %w", err)
	}
	if m.Name == "" || len(m.Name) > maxCardName {
		return Card{}, fmt.Errorf("card: a name has 1 to %d bytes", maxCardName)
	}
	return Card{Name: m.Name, Key: key, Mailbox: m.Mailbox}, nil
}
