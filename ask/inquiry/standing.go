package inquiry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"dragnet/ask/detective"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// BookRoster is the community's list of members, which says which organisation runs a
// witness, more reliably than a witness does and for more of them than a book.
type BookRoster struct {
	// Signer is the key that signs it; without one no roster is read.
	Signer identity.Public `yaml:"signer"`
	// File keeps the newest one that was accepted. The book's clearinghouse is asked
	// for newer ones.
	File string `yaml:"file"`
}

// Keeper is the keeper of the book's roster; nil if the book names none.
func (b *BookRoster) Keeper() (*roster.Keeper, error) {
	if b.Signer.IsZero() {
		return nil, nil
	}
	if b.File == "" {
		return nil, errors.New("roster.file: name the file that keeps the newest roster")
	}
	if info, err := os.Stat(b.File); err == nil && info.Size() > int64(roster.MaxBundle) {
		return nil, fmt.Errorf("roster.file: %s has %d bytes; at most %d", b.File, info.Size(), roster.MaxBundle)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return roster.NewKeeper(b.Signer, roster.File(b.File))
}

// Vouch takes over from a roster, nil if there is none, which organisation runs each of the
// witnesses of the book and of the relays: their class and their AS. It returns the
// witnesses of relays, those of members under their names.
func (b *Book) Vouch(list *roster.Held, now time.Time, strangers []Contact) []Contact {
	find := func(k identity.Public) *roster.Member {
		if list == nil {
			return nil
		}
		m, err := list.May(k.ID(), 0, now)
		if err != nil {
			return nil
		}
		return m
	}
	for i := range b.Witnesses {
		b.Witnesses[i].member = find(b.Witnesses[i].Key)
	}
	names := map[string]bool{}
	for i := range b.Witnesses {
		names[b.Witnesses[i].Name] = true
	}
	out := slices.Clone(strangers)
	for i := range out {
		c := &out[i]
		if c.member = find(c.Key); c.member == nil || c.member.Roles&roster.Witness == 0 {
			c.member = nil
			continue
		}
		c.Stranger = false
		if c.Name = c.member.Name; names[c.Name] {
			c.Name += "-" + c.Key.ID().String()[:8]
		}
		names[c.Name] = true
	}
	all := make([]*Contact, 0, len(b.Witnesses)+len(out))
	for i := range b.Witnesses {
		all = append(all, &b.Witnesses[i])
	}
	for i := range out {
		if !out[i].Stranger {
			all = append(all, &out[i])
		}
	}
	assignClasses(all)
	return out
}

// assignClasses joins the witnesses that share an organisation, an AS or a class of
// the roster, also through others. Of those whose organisation is not known
// any number may be one's: they have the voice of strangers.
func assignClasses(all []*Contact) {
	of := map[string]int{} // the first witness with this trait
	root := make([]int, len(all))
	find := func(i int) int {
		for root[i] != i {
			root[i] = root[root[i]]
			i = root[i]
		}
		return i
	}
	for i, c := range all {
		root[i] = i
		for _, t := range c.traits() {
			if j, ok := of[t]; ok {
				a, b := find(i), find(j)
				root[max(a, b)] = min(a, b)
				continue
			}
			of[t] = i
		}
	}
	for i, c := range all {
		if len(c.traits()) == 0 {
			c.class = detective.Unknown
			continue
		}
		c.class = all[find(i)].Name
	}
}

// traits are what makes two witnesses one voice.
func (c *Contact) traits() (out []string) {
	if o := strings.ToLower(strings.Join(strings.Fields(c.Organisation), " ")); o != "" {
		out = append(out, "organisation "+o)
	}
	if c.AS != 0 {
		out = append(out, fmt.Sprint("as ", c.AS))
	}
	if c.member != nil {
		out = append(out, "class "+c.member.Class)
		for _, as := range c.member.AS {
			out = append(out, fmt.Sprint("as ", as))
		}
	}
	return out
}

// Stranger is a contact for a card whose key is not in the book. The name on the
// card is not used: it could be another witness's.
func Stranger(card exchange.Card) Contact {
	return Contact{Name: "unverified-" + card.Key.ID().String()[:16], Key: card.Key, Stranger: true}
}
