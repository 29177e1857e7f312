// Package invitation is the link by which an organisation is invited into a
// community, and the code that both sides compare before it is let in.
//
// The link says where the clearinghouse is and which keys to trust, and holds a secret
// that lets one key ask for membership. Who steals it can ask first; so the operator
// and the new member compare the code by other means, such as a telephone: it differs
// as soon as one of them sees another key than the other.
package invitation

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"dragnet/wire/identity"
)

// Link is an invitation.
type Link struct {
	// URL is where the clearinghouse answers, such as https://203.0.113.1:8443.
	URL string
	// Community and Member are the names of both.
	Community, Member string
	// Server is the key that the clearinghouse answers with, Signer the one that signs
	// the roster.
	Server, Signer identity.Public
	// Secret is shown to the clearinghouse, once.
	Secret [16]byte
}

const (
	marker  = "dragnet-1"
	maxLink = 1000
)

var encoding = base64.RawURLEncoding.Strict()

// String is the link: an address whose part after the sign # no browser sends.
func (l *Link) String() string {
	return l.URL + "/#" + strings.Join([]string{
		marker, l.Community, l.Member, encoding.EncodeToString(l.Server.Bytes()), encoding.EncodeToString(l.Signer.Bytes()), encoding.EncodeToString(l.Secret[:]),
	}, ",")
}

// ErrLink says that a text is no invitation.
var ErrLink = errors.New("this is no invitation of dragnet; was it copied whole?")

// Parse reads what String wrote, and accepts nothing else.
func Parse(text string) (l Link, err error) {
	text = strings.TrimSpace(text)
	address, rest, ok := strings.Cut(text, "/#")
	parts := strings.Split(rest, ",")
	if !ok || len(text) > maxLink || len(parts) != 6 || parts[0] != marker {
		return l, ErrLink
	}
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.String() != address {
		return l, fmt.Errorf("%w (its address is %.100q; want such as https://203.0.113.1:8443)", ErrLink, address)
	}
	l = Link{URL: address, Community: parts[1], Member: parts[2]}
	if !IsName(l.Community) || !IsName(l.Member) {
		return l, fmt.Errorf("%w (it names %.100q and %.100q)", ErrLink, l.Community, l.Member)
	}
	for i, k := range []*identity.Public{&l.Server, &l.Signer} {
		b, err := encoding.DecodeString(parts[3+i])
		if err != nil {
			return l, ErrLink
		}
		if *k, err = identity.PublicFromBytes(b); err != nil || k.IsZero() {
			return l, ErrLink
		}
	}
	secret, err := encoding.DecodeString(parts[5])
	if err != nil || len(secret) != len(l.Secret) {
		return l, ErrLink
	}
	l.Secret = [16]byte(secret)
	return l, nil
}

// IsName reports whether a community or a member may be called so: 1 to 63 lower-case
// letters, digits and hyphens, as a label of a domain name, since it is also that of
// a directory.
func IsName(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Code is what both sides compare: of all that the link says but its secret, and of
// the key that asks. It has 100 bits: finding keys that lead to the same one is infeasible.
func Code(l *Link, key identity.Public) string {
	h := sha256.New()
	for _, part := range [][]byte{[]byte("dragnet invitation code 1"), []byte(l.URL), []byte(l.Community), []byte(l.Member), l.Server.Bytes(), l.Signer.Bytes(), key.Bytes()} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	text := strings.ToLower(base32.StdEncoding.EncodeToString(h.Sum(nil)[:13])[:20])
	return strings.Join([]string{text[:4], text[4:8], text[8:12], text[12:16], text[16:]}, "-")
}
