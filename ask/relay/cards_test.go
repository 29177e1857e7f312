package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/ask/relay"
	"dragnet/wire/exchange"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

func key(group, n int) identity.ID { return identity.ID{byte(group), byte(n >> 8), byte(n)} }

// TestSybilCards: an attacker with many keys fills the share of its network only; other
// strangers and members find room.
func TestSybilCards(t *testing.T) { both(t, sybilCards) }

func sybilCards(t *testing.T, address string) {
	limits := small()
	limits.Witnesses, limits.Strangers, limits.PerNetwork = 60, 50, 4
	b, ctx := open(t, address, limits), t.Context()
	register := func(now time.Time, k identity.ID, from string) error {
		w := relay.Registrant{Key: k, Member: from == ""}
		if from != "" {
			w.Address = netip.MustParseAddr(from)
		}
		return b.Register(ctx, now, w, []byte("card"))
	}
	many := func(group int, from func(int) string) (taken int) {
		for n := range 300 {
			switch err := register(noon, key(group, n), from(n)); {
			case err == nil:
				taken++
			case !errors.Is(err, relay.ErrFull):
				t.Fatal(err)
			}
		}
		return taken
	}
	for name, x := range map[string]struct {
		group, most int
		from        func(int) string
	}{
		"one network":         {1, 4, func(n int) string { return fmt.Sprintf("198.51.100.%d", n%256) }},
		"one /16":             {2, 32, func(n int) string { return fmt.Sprintf("203.0.%d.7", n%256) }},
		"one network of IPv6": {3, 4, func(n int) string { return fmt.Sprintf("2001:db8:1:%x::1", n) }},
	} {
		if taken := many(x.group, x.from); taken != x.most {
			t.Errorf("%s: %d cards, want %d", name, taken, x.most)
		}
	}
	if err := register(noon, key(9, 1), "192.0.2.1"); err != nil {
		t.Errorf("an honest stranger: %v", err)
	}
	// With addresses all over the world it fills the share of strangers, and no more.
	many(4, func(n int) string { return fmt.Sprintf("%d.%d.0.1", 11+n%80, n%256) })
	if n, _, err := b.Count(ctx); n != limits.Strangers || err != nil {
		t.Errorf("%d cards of strangers, %v; want %d", n, err, limits.Strangers)
	}
	for n := range limits.Witnesses {
		if err := register(noon, key(5, n), ""); err != nil {
			t.Fatalf("member %d: %v", n, err)
		}
	}
	if err := register(noon, key(5, limits.Witnesses), ""); !errors.Is(err, relay.ErrFull) {
		t.Errorf("members displace one another: %v", err)
	}
}

// TestTheSilentGiveWay: a card whose witness stays away is no reason to refuse another.
func TestTheSilentGiveWay(t *testing.T) {
	limits := small()
	limits.Witnesses, limits.Strangers, limits.PerNetwork = 10, 3, 3
	b, ctx := open(t, t.TempDir()+"/relay.db", limits), t.Context()
	for n := range byte(3) {
		if err := b.Register(ctx, noon, stranger(n), []byte{n}); err != nil {
			t.Fatal(err)
		}
	}
	later := noon.Add(20 * time.Minute)
	if err := relay.NoteHeard(b, ctx, map[identity.ID]time.Time{who(0): later, who(1): later}); err != nil {
		t.Fatal(err)
	}
	if err := b.Register(ctx, later, stranger(7), []byte{7}); err != nil {
		t.Fatalf("beside a silent one: %v", err)
	}
	if err := b.Register(ctx, later, stranger(8), []byte{8}); !errors.Is(err, relay.ErrFull) {
		t.Errorf("one that polls was displaced: %v", err)
	}
	cards, _, err := b.Cards(ctx, nil, 10)
	if err != nil || fmt.Sprint(cards) != "[[0] [1] [7]]" {
		t.Errorf("cards %v, %v", cards, err)
	}
}

// TestPollsOfStrangersHideNoWitness: keys without a card that poll do not make a witness
// that polls look silent, nor does a database that is away for a while.
func TestPollsOfStrangersHideNoWitness(t *testing.T) {
	limits := small()
	limits.Witnesses, limits.Strangers, limits.PerNetwork = 4, 1, 1
	path := t.TempDir() + "/relay.db"
	b, ctx := open(t, path, limits), t.Context()
	s := relay.NewService(b, relay.Dependencies{})
	before := time.Now().Add(-time.Hour)
	if err := b.Register(ctx, before, stranger(0), []byte{0}); err != nil {
		t.Fatal(err)
	}
	for n := range 10 * limits.Witnesses {
		if err := relay.Hear(s, ctx, key(9, n)); err != nil {
			t.Fatal(err)
		}
	}
	if err := relay.Hear(s, ctx, who(0)); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := relay.Sweep(s, gone); err == nil {
		t.Error("a sweep without its database succeeded")
	}
	if err := relay.Sweep(s, ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.Register(ctx, time.Now(), stranger(1), []byte{1}); !errors.Is(err, relay.ErrFull) {
		t.Errorf("a witness that polls was displaced: %v", err)
	}
}

// TestAnAnswerMakesNobodyKnown: a stranger whom a message is for stays one: known
// connections are never closed to make room, and strangers share half of the memory.
func TestAnAnswerMakesNobodyKnown(t *testing.T) {
	s := relay.NewService(open(t, t.TempDir()+"/relay.db", small()), relay.Dependencies{
		Member: func(identity.Public) (relay.Membership, bool) { return relay.Membership{}, false },
	})
	r := httptest.NewRequest(http.MethodPost, exchangev1connect.RelayServiceAnswerMessageProcedure, nil)
	if c := relay.CallerOf(s, r); c.Known || !strings.HasPrefix(c.Name, "key ") {
		t.Errorf("who answers is %+v, want a stranger by its key", c)
	}
}

// TestOneOrganisationHasOneShare: 16 keys of one member are no larger share, and its
// messages keep those of others waiting no longer than one of each.
func TestOneOrganisationHasOneShare(t *testing.T) { both(t, oneShare) }

func oneShare(t *testing.T, address string) {
	limits := small()
	limits.Messages, limits.Bytes, limits.TotalBytes = 40, 1<<20, 1<<20
	b, ctx := open(t, address, limits), t.Context()
	witness := who(1)
	stored := 0
	for n := range 100 {
		from := relay.Sender{Key: key(7, n%16), Organisation: "org:mallory"}
		l := exchange.Message{ID: exchange.MessageID{byte(n)}, To: witness, Expires: noon.Add(time.Hour), Sealed: []byte("garbage")}
		switch err := b.Post(ctx, noon, from, []exchange.Message{l}); {
		case err == nil:
			stored++
		case !errors.Is(err, relay.ErrFull):
			t.Fatal(err)
		}
	}
	if stored != limits.Messages {
		t.Errorf("%d messages of one organisation were stored, want %d", stored, limits.Messages)
	}
	honest := message(200, witness, "honest")
	if err := b.Post(ctx, noon, sender(who(2)), []exchange.Message{honest}); err != nil {
		t.Fatal(err)
	}
	got, err := b.Fetch(ctx, noon, witness)
	if err != nil || len(got) != stored+1 || got[0].ID != honest.ID && got[1].ID != honest.ID {
		t.Errorf("of %d messages, the honest one is not among the first two: %v", len(got), err)
	}
}
