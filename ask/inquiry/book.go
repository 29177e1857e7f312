// Package inquiry asks witnesses over the network: the detective's part of
// sharing between organisations. It decides which witnesses are asked and in
// what order (Allman et al. 2006, section 3.4: one witness, those near, a random
// sample, all), carries questions and answers within deadlines, and records the
// outcome of each. What the answers mean is decided by ask/detective.
package inquiry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dragnet/ask/detective"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// Book is a detective's file of the witnesses that it knows, each of which
// somebody has checked. Witnesses that only a relay knows are asked too, but
// all of them together have one class.
type Book struct {
	// Relays store messages to witnesses without a URL; the first
	// that has the witness's card is used.
	Relays []BookRelay `yaml:"relays"`
	// Clearinghouse publishes the epochs whose salts are used; without a URL
	// the day is the epoch.
	Clearinghouse BookRelay `yaml:"clearinghouse"`
	// Roster is the community's list of members: it says who is behind witnesses,
	// and finds the members' witnesses on the relays.
	Roster BookRoster `yaml:"roster"`
	// Witnesses are those whose key and organisation were checked.
	Witnesses []Contact `yaml:"witnesses"`
}

// BookRelay is a question relay, or a clearinghouse.
type BookRelay struct {
	// Name is used in messages.
	Name string `yaml:"name"`
	// URL is for example https://203.0.113.1:8444, Key the key it must hold.
	URL string          `yaml:"url"`
	Key identity.Public `yaml:"key"`
}

// Contact is a witness of the book.
type Contact struct {
	// Name is what results call it.
	Name string `yaml:"name"`
	// Key is the key it must hold.
	Key identity.Public `yaml:"key"`
	// URL is for example https://203.0.113.1:8443; empty if it is reached over a
	// relay.
	URL string `yaml:"url"`
	// Organisation and AS identify who runs it: witnesses that share one of
	// them are one class, and count once. All without either, whose keys are not
	// on the roster, are one class too.
	Organisation string `yaml:"organisation"`
	AS           uint32 `yaml:"as"`
	// Networks are the witness's own: about hosts in them its testimony alone
	// is enough.
	Networks []netip.Prefix `yaml:"networks"`

	// Stranger marks one that is not in the book but on a relay.
	Stranger bool `yaml:"-"`
	class    string
	member   *roster.Member // nil where no roster lists the key
}

// Validate reports the first invalid entry.
func (b *Book) Validate() error {
	for i := range b.Relays {
		e := exchange.Endpoint{URL: b.Relays[i].URL, Key: b.Relays[i].Key}
		if err := e.Validate(); err != nil {
			return fmt.Errorf("relays[%d]: %w", i, err)
		}
	}
	if b.Clearinghouse.URL != "" {
		e := exchange.Endpoint{URL: b.Clearinghouse.URL, Key: b.Clearinghouse.Key}
		if err := e.Validate(); err != nil {
			return fmt.Errorf("clearinghouse: %w", err)
		}
	}
	names, keys := map[string]bool{}, map[identity.Public]bool{}
	for i := range b.Witnesses {
		c := &b.Witnesses[i]
		switch {
		case c.Name == "" || strings.ContainsFunc(c.Name, isUnprintable):
			return fmt.Errorf("witnesses[%d].name: give it a name without spaces", i)
		case names[c.Name]:
			return fmt.Errorf("witnesses[%d].name: two witnesses are called %q", i, c.Name)
		case c.Key.IsZero():
			return fmt.Errorf("witnesses[%d].key: %s has no key; ask its operator for it", i, c.Name)
		case keys[c.Key]:
			return fmt.Errorf("witnesses[%d].key: two witnesses have one key", i)
		}
		names[c.Name], keys[c.Key] = true, true
		if c.URL == "" {
			continue
		}
		e := exchange.Endpoint{URL: c.URL, Key: c.Key}
		if err := e.Validate(); err != nil {
			return fmt.Errorf("witnesses[%d].url: %w", i, err)
		}
	}
	if !b.Roster.Signer.IsZero() && b.Roster.File == "" {
		return fmt.Errorf("roster.file: name the file that keeps the newest roster")
	}
	b.Vouch(nil, time.Time{}, nil)
	return nil
}

func isUnprintable(r rune) bool { return r <= ' ' || r == 0x7f }

// Source describes the witness to package detective.
func (c *Contact) Source() detective.KnownWitness {
	return detective.KnownWitness{Name: c.Name, As: c.Key.ID().String(), Class: c.class, Verified: !c.Stranger, Networks: c.Networks}
}

// Find is the witness of a name or URL.
func (b *Book) Find(what string) (Contact, bool) {
	i := slices.IndexFunc(b.Witnesses, func(c Contact) bool {
		return c.Name == what || c.URL != "" && strings.TrimRight(c.URL, "/") == strings.TrimRight(what, "/")
	})
	if i < 0 {
		return Contact{}, false
	}
	return b.Witnesses[i], true
}
