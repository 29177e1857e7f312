package relay_test

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/ask/relay"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func small() relay.Configuration {
	return relay.Configuration{Witnesses: 3, Strangers: 3, PerNetwork: 3, Messages: 4, Bytes: 1000, TotalBytes: 1500, AnswerBytes: 400, Life: time.Hour}
}

func open(t testing.TB, address string, l relay.Configuration) *relay.Mailboxes {
	t.Helper()
	db, err := state.Open(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	b, err := relay.NewMailboxes(db, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Migrate(context.Background()); err != nil {
		t.Fatal(err)
	}
	return b
}

func both(t *testing.T, f func(t *testing.T, address string)) {
	t.Run("sqlite", func(t *testing.T) { f(t, filepath.Join(t.TempDir(), "relay.db")) })
	t.Run("postgres", func(t *testing.T) { f(t, testkit.Postgres(t)) })
}

func who(n byte) identity.ID { return identity.ID{n} }

func sender(k identity.ID) relay.Sender { return relay.Sender{Key: k, Organisation: k.String()} }

// stranger calls from a different network.
func stranger(n byte) relay.Registrant {
	return relay.Registrant{Key: who(n), Address: netip.AddrFrom4([4]byte{198, n, 100, 1})}
}

func message(n byte, to identity.ID, text string) exchange.Message {
	return exchange.Message{ID: exchange.MessageID{n}, To: to, Expires: noon.Add(time.Hour), Sealed: []byte(text)}
}

// TestOneMessage follows a message from its sender to the witness and the answer
// back; no other key can read either.
func TestOneMessage(t *testing.T) { both(t, testOneMessage) }

func testOneMessage(t *testing.T, address string) {
	b, ctx := open(t, address, small()), t.Context()
	detective, witness, other := who(1), who(2), who(3)
	l := message(1, witness, "question")
	for range 2 { // the acknowledgement was lost, and it is posted again
		if err := b.Post(ctx, noon, sender(detective), []exchange.Message{l}); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := b.Fetch(ctx, noon, other); len(got) != 0 || err != nil {
		t.Errorf("another witness fetched %v, %v", got, err)
	}
	for range 2 {
		got, err := b.Fetch(ctx, noon, witness)
		if err != nil || len(got) != 1 || got[0].ID != l.ID || !bytes.Equal(got[0].Sealed, l.Sealed) {
			t.Fatalf("fetched %v, %v", got, err)
		}
	}
	if _, err := b.Answer(ctx, noon, other, l.ID, []byte("forged")); !errors.Is(err, relay.ErrUnknown) {
		t.Errorf("another witness answered: %v", err)
	}
	for range 2 {
		if sender, err := b.Answer(ctx, noon, witness, l.ID, []byte("answer")); err != nil || sender != detective && sender != (identity.ID{}) {
			t.Fatal(sender, err)
		}
	}
	if _, err := b.Answer(ctx, noon, witness, l.ID, []byte("another answer")); !errors.Is(err, relay.ErrConflict) {
		t.Errorf("answered twice: %v", err)
	}
	if got, err := b.Fetch(ctx, noon, witness); len(got) != 0 || err != nil {
		t.Errorf("an answered message is still there: %v, %v", got, err)
	}
	if _, err := b.Collect(ctx, other, l.ID); !errors.Is(err, relay.ErrUnknown) {
		t.Errorf("another detective collected: %v", err)
	}
	there, err := b.Answered(ctx, detective, []exchange.MessageID{{9}, l.ID})
	if diff := cmp.Diff([]exchange.MessageID{l.ID}, there); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for range 2 {
		if got, err := b.Collect(ctx, detective, l.ID); err != nil || string(got) != "answer" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if err := b.Discard(ctx, other, []exchange.MessageID{l.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Collect(ctx, detective, l.ID); err != nil {
		t.Errorf("another detective discarded it: %v", err)
	}
	if err := b.Discard(ctx, detective, []exchange.MessageID{l.ID}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Collect(ctx, detective, l.ID); !errors.Is(err, relay.ErrUnknown) {
		t.Errorf("collected what was discarded: %v", err)
	}
}

// TestLimits: nothing grows beyond them, and what is refused leaves no trace.
func TestLimits(t *testing.T) { both(t, limits) }

func limits(t *testing.T, address string) {
	b, ctx := open(t, address, small()), t.Context()
	detective, witness := who(1), who(2)
	late := message(1, witness, "x")
	late.Expires = noon.Add(2 * time.Hour)
	past := message(1, witness, "x")
	past.Expires = noon
	for name, messages := range map[string][]exchange.Message{
		"expires too late":  {late},
		"expired":           {past},
		"too many bytes":    {message(1, witness, "x"), message(2, witness, string(make([]byte, 1000)))},
		"too many messages": {message(1, witness, "x"), message(2, witness, "x"), message(3, witness, "x"), message(4, witness, "x"), message(5, witness, "x")},
		"one number, twice": {message(1, witness, "x"), message(1, witness, "y")},
	} {
		if err := b.Post(ctx, noon, sender(detective), messages); err == nil {
			t.Errorf("%s: taken", name)
		}
		if got, err := b.Fetch(ctx, noon, witness); len(got) != 0 || err != nil {
			t.Errorf("%s: left %d messages behind, %v", name, len(got), err)
		}
	}
	if err := b.Post(ctx, noon, sender(detective), []exchange.Message{message(1, witness, string(make([]byte, 700)))}); err != nil {
		t.Fatal(err)
	}
	if err := b.Post(ctx, noon, sender(who(9)), []exchange.Message{message(1, witness, string(make([]byte, 900)))}); !errors.Is(err, relay.ErrFull) {
		t.Errorf("beyond the bytes of all: %v", err)
	}
	if _, err := b.Answer(ctx, noon, witness, exchange.MessageID{1}, make([]byte, 401)); !errors.Is(err, exchange.ErrTooLarge) {
		t.Errorf("a large answer: %v", err)
	}
	if _, err := b.Answer(ctx, noon, witness, exchange.MessageID{1}, make([]byte, 400)); !errors.Is(err, relay.ErrFull) {
		t.Errorf("an answer beyond the sender's bytes: %v", err)
	}
	for n := range byte(4) {
		if err := b.Register(ctx, noon, stranger(n), []byte("card")); (err == nil) != (n < 3) {
			t.Errorf("card %d: %v", n, err)
		}
	}
	if err := b.Register(ctx, noon.Add(time.Hour), stranger(0), []byte("a new card")); err != nil {
		t.Errorf("a known witness on a full relay: %v", err)
	}
	if err := b.Expire(ctx, noon.Add(exchange.CardLife)); err != nil {
		t.Fatal(err)
	}
	cards, _, err := b.Cards(ctx, nil, 10)
	if diff := cmp.Diff([][]byte{[]byte("a new card")}, cards); diff != "" || err != nil {
		t.Errorf("%v, cards (-want +got):\n%s", err, diff)
	}
	if got, err := b.Fetch(ctx, noon, witness); len(got) != 0 || err != nil {
		t.Errorf("an expired message is still there: %v", err)
	}
}

// TestAgainstModel: random sequences of what senders and witnesses do, beside a
// map.
func TestAgainstModel(t *testing.T) {
	limits := relay.DefaultConfiguration()
	b := open(t, filepath.Join(t.TempDir(), "relay.db"), limits)
	run := byte(0)
	rapid.Check(t, func(r *rapid.T) {
		run++
		ctx := context.Background()
		type slot struct {
			to     byte
			text   string
			answer *string
		}
		mailboxes := map[exchange.MessageID]*slot{}
		detective := identity.ID{200, run}
		for range rapid.IntRange(1, 15).Draw(r, "steps") {
			id := exchange.MessageID{run, rapid.Byte().Draw(r, "message") % 4}
			to, text := rapid.ByteRange(1, 2).Draw(r, "witness"), rapid.SampledFrom([]string{"a", "b"}).Draw(r, "text")
			witness := identity.ID{to, run}
			s := mailboxes[id]
			switch rapid.SampledFrom([]string{"post", "answer", "discard", "fetch", "collect"}).Draw(r, "what") {
			case "post":
				err := b.Post(ctx, noon, sender(detective), []exchange.Message{{ID: id, To: witness, Expires: noon.Add(time.Hour), Sealed: []byte(text)}})
				if s == nil {
					mailboxes[id] = &slot{to: to, text: text}
				}
				if conflict := s != nil && (s.to != to || s.text != text); conflict != errors.Is(err, relay.ErrConflict) || !conflict && err != nil {
					r.Fatalf("post: %v", err)
				}
			case "answer":
				_, err := b.Answer(ctx, noon, witness, id, []byte(text))
				switch {
				case s == nil || s.to != to:
					if !errors.Is(err, relay.ErrUnknown) {
						r.Fatalf("answer to nothing: %v", err)
					}
				case s.answer == nil:
					s.answer = &text
					fallthrough
				default:
					if (err == nil) != (*s.answer == text) {
						r.Fatalf("answer: %v", err)
					}
				}
			case "discard":
				if err := b.Discard(ctx, detective, []exchange.MessageID{id}); err != nil {
					r.Fatal(err)
				}
				delete(mailboxes, id)
			case "fetch":
				got, err := b.Fetch(ctx, noon, witness)
				n := 0
				for _, s := range mailboxes {
					if s.to == to && s.answer == nil {
						n++
					}
				}
				if err != nil || len(got) != n {
					r.Fatalf("fetched %d of %d, %v", len(got), n, err)
				}
			case "collect":
				got, err := b.Collect(ctx, detective, id)
				if there := s != nil && s.answer != nil; there != (err == nil) || there && string(got) != *s.answer {
					r.Fatalf("collected %q, %v", got, err)
				}
			}
		}
	})
}
