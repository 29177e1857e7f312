package exchange_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"google.golang.org/protobuf/types/known/timestamppb"

	"dragnet/dossier"
	"dragnet/wire/envelope"
	"dragnet/wire/exchange"
	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/identity"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func key(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func knows(k *identity.Key) func(identity.ID) (identity.Public, bool) {
	return func(id identity.ID) (identity.Public, bool) { return k.Public(), id == k.ID() }
}

func TestQuestion(t *testing.T) {
	detective, witness, other := key(t), key(t), key(t)
	data, err := exchange.SealQuestion(detective, witness.ID(), now, time.Minute, []byte("q"))
	if err != nil {
		t.Fatal(err)
	}
	everybody, err := exchange.SealQuestion(detective, identity.ID{}, now, time.Minute, []byte("q"))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name string
		data []byte
		to   *identity.Key
		at   time.Duration
		from *identity.Key
		want error
	}{
		{"in order", data, witness, 0, detective, nil},
		{"clocks differ a little", data, witness, -time.Minute, detective, nil},
		{"clocks differ a lot", data, witness, -time.Hour, detective, envelope.ErrEarly},
		{"expired", data, witness, time.Hour, detective, envelope.ErrExpired},
		{"another witness's", data, other, 0, detective, envelope.ErrAudience},
		{"everybody's", everybody, witness, 0, detective, envelope.ErrAudience},
		{"a stranger's", data, witness, 0, other, envelope.ErrSigner},
		{"cut short", data[:len(data)-1], witness, 0, detective, envelope.ErrMalformed},
	} {
		if e, err := exchange.OpenQuestion(test.data, test.to.ID(), now.Add(test.at), knows(test.from)); !errors.Is(err, test.want) || err == nil && string(e.Body) != "q" {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestTestimony(t *testing.T) {
	detective, witness := key(t), key(t)
	id := dossier.IDOf([]byte("q"))
	data, err := exchange.SealTestimony(witness, detective.ID(), now, time.Minute, id, []byte("sealed"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := exchange.OpenTestimony(data, detective.ID(), witness.Public(), now, id); err != nil || string(got) != "sealed" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := exchange.OpenTestimony(data, detective.ID(), witness.Public(), now, dossier.IDOf([]byte("r"))); !errors.Is(err, exchange.ErrOtherQuestion) {
		t.Errorf("another question's: %v", err)
	}
	if _, err := exchange.OpenTestimony(data, detective.ID(), detective.Public(), now, id); !errors.Is(err, envelope.ErrSigner) {
		t.Errorf("another witness's: %v", err)
	}
	if _, err := exchange.OpenTestimony(data, witness.ID(), witness.Public(), now, id); !errors.Is(err, envelope.ErrAudience) {
		t.Errorf("another detective's: %v", err)
	}
}

// TestMailbox: messages open only at their receiver, also after a restart,
// and do not show what they hold.
func TestMailbox(t *testing.T) {
	witness, other := key(t), key(t)
	box, err := exchange.NewMailbox(witness)
	if err != nil {
		t.Fatal(err)
	}
	again, err := exchange.NewMailbox(witness)
	if err != nil || !bytes.Equal(box.Public(), again.Public()) {
		t.Fatal("the mailbox differs after a restart", err)
	}
	theirs, err := exchange.NewMailbox(other)
	if err != nil || bytes.Equal(box.Public(), theirs.Public()) {
		t.Fatal("two witnesses have one mailbox", err)
	}
	text := []byte("which key, mask and window")
	sealed, err := exchange.SealMessage(box.Public(), witness.ID(), text)
	if err != nil || bytes.Contains(sealed, text) {
		t.Fatal("the message shows its content", err)
	}
	if got, err := again.OpenMessage(witness.ID(), sealed); err != nil || !bytes.Equal(got, text) {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := theirs.OpenMessage(other.ID(), sealed); err == nil {
		t.Error("another witness opened it")
	}
	if _, err := box.OpenMessage(other.ID(), sealed); err == nil {
		t.Error("opened under another name")
	}
}

func TestCard(t *testing.T) {
	witness, thief := key(t), key(t)
	box, err := exchange.NewMailbox(witness)
	if err != nil {
		t.Fatal(err)
	}
	card, err := exchange.SealCard(witness, box, "north", now)
	if err != nil {
		t.Fatal(err)
	}
	if c, err := exchange.OpenCard(card, now); err != nil || c.Name != "north" || c.Key != witness.Public() || !bytes.Equal(c.Mailbox, box.Public()) {
		t.Errorf("%+v, %v", c, err)
	}
	stolen := append(thief.Public().Bytes(), card[32:]...)
	if _, err := exchange.OpenCard(stolen, now); !errors.Is(err, envelope.ErrSigner) {
		t.Errorf("a card under another key: %v", err)
	}
	if _, err := exchange.OpenCard(card, now.Add(2*exchange.CardLife)); !errors.Is(err, envelope.ErrExpired) {
		t.Errorf("an old card: %v", err)
	}
}

// FuzzMessages feeds every message that a stranger can send to what reads it.
func FuzzMessages(f *testing.F) {
	k := key(f)
	box, err := exchange.NewMailbox(k)
	if err != nil {
		f.Fatal(err)
	}
	card, err1 := exchange.SealCard(k, box, "north", now)
	question, err2 := exchange.SealQuestion(k, k.ID(), now, time.Minute, []byte("q"))
	message, err3 := exchange.SealMessage(box.Public(), k.ID(), question)
	posted, err4 := proto.Marshal(&exchangev1.Message{Id: make([]byte, 16), To: make([]byte, 32), Expires: timestamppb.New(now), Sealed: message})
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{card, question, message, posted, nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := exchange.OpenCard(data, now); err == nil && (c.Name == "" || c.Key.IsZero() || len(c.Mailbox) != 32) {
			t.Errorf("card %+v", c)
		}
		if e, err := exchange.OpenQuestion(data, k.ID(), now, knows(k)); err == nil && !bytes.Equal(data, question) {
			t.Errorf("a question without a sender: %+v", e)
		}
		if _, err := exchange.OpenTestimony(data, k.ID(), k.Public(), now, dossier.QuestionID{}); err == nil {
			t.Error("a testimony without a sender")
		}
		if _, err := box.OpenMessage(k.ID(), data); err == nil && !bytes.Equal(data, message) {
			t.Error("a message without a sender")
		}
		var m exchangev1.Message
		if proto.Unmarshal(data, &m) == nil {
			if l, err := exchange.ReadMessage(&m); err == nil && (len(l.Sealed) == 0 || !bytes.Equal(l.ID[:], m.Id)) {
				t.Errorf("message %+v", l)
			}
		}
	})
}
