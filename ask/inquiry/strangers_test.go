package inquiry_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"dragnet/ask/inquiry"
	"dragnet/flow"
	"dragnet/wire/exchange"
)

// TestManyStrangersAreNotAllAsked: a relay full of cards costs the detective a bounded
// number of messages, also with --all, and it ends when it is told to.
func TestManyStrangersAreNotAllAsked(t *testing.T) {
	c := newCommunity(t)
	k := newKey(t)
	e, stop := c.relay("127.0.0.1:0", filepath.Join(c.dir, "relay.db"), k)
	defer stop()
	c.book.Relays = []inquiry.BookRelay{{Name: "relay", URL: e.URL, Key: e.Key}}
	for n := range 30 { // as many as one network may have
		sybil := newKey(t)
		mailbox, err := exchange.NewMailbox(sybil)
		if err != nil {
			t.Fatal(err)
		}
		card, err := exchange.SealCard(sybil, mailbox, fmt.Sprint("sybil-", n), time.Now())
		if err != nil {
			t.Fatal(err)
		}
		r, err := exchange.DialRelay(sybil, e)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Register(t.Context(), card); err != nil {
			t.Fatal(err)
		}
		r.Close()
	}
	truth := c.incident(nil)
	conf, p := c.asks(truth)
	conf.Strangers, conf.Deadline = 5, 3*time.Second
	conf.Detective.Window = flow.AllTime
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if book := len(c.book.Witnesses); out.Tally.Count(inquiry.Answered) != book || out.Tally.Asked() != book+5 {
		t.Errorf("%s; want the %d of the book answered and 5 strangers asked", out.Tally, book)
	}
	ended, cancel := context.WithCancel(t.Context())
	conf.Note = func(n inquiry.Note) { cancel() } // as SIGTERM does, when the first is asked
	if _, err := inquiry.Run(ended, conf, p); err == nil {
		t.Error("it went on after it was ended")
	}
}
