package inquiry_test

import (
	"bytes"
	"context"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	"dragnet/ask/inquiry"
	"dragnet/ask/witness/endpoint"
	"dragnet/dossier"
	"dragnet/wire/envelope"
	"dragnet/wire/exchange"
	exchangev1 "dragnet/wire/exchange/v1"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

// impostor is a witness whose answer to a question is given by a test.
type impostor struct {
	do func(ctx context.Context, question []byte, send func([]byte) error) error
}

func (i impostor) AskQuestion(ctx context.Context, r *exchangev1.AskQuestionRequest, out *connect.ServerStream[exchangev1.AskQuestionResponse]) error {
	return i.do(ctx, r.Envelope, func(b []byte) error { return out.Send(&exchangev1.AskQuestionResponse{Chunk: b}) })
}

func (c *community) impostor(name string, do func(ctx context.Context, send func([]byte) error) error) {
	c.Helper()
	c.deceiver(name, newKey(c), func(ctx context.Context, _ []byte, send func([]byte) error) error { return do(ctx, send) })
}

func (c *community) deceiver(name string, k *identity.Key, do func(context.Context, []byte, func([]byte) error) error) {
	c.Helper()
	mux := http.NewServeMux()
	mux.Handle(exchangev1connect.NewWitnessServiceHandler(impostor{do}, exchange.Options(1<<20)...))
	s, err := exchange.Listen("127.0.0.1:0", k, mux, silence)
	if err != nil {
		c.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	c.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
		<-done
	})
	c.book.Witnesses = append(c.book.Witnesses, inquiry.Contact{Name: name, Key: k.Public(), URL: "https://" + s.Address(), Organisation: name})
}

// endless sends piece again and again until the reader is gone.
func endless(send func([]byte) error, piece []byte, pause time.Duration) error {
	for {
		if err := send(piece); err != nil {
			return err
		}
		time.Sleep(pause)
	}
}

// TestBadAnswers: every way to answer badly is counted as what it is, once, and
// changes nothing about what the others say.
func TestBadAnswers(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(func(conf *endpoint.Configuration) { conf.Policy.Floor = 1 })
	good := len(c.book.Witnesses)
	seal := func(k *identity.Key, question, body []byte, id dossier.QuestionID) []byte {
		from, err := envelope.From(question)
		if err != nil {
			t.Error(err)
		}
		data, err := exchange.SealTestimony(k, from, time.Now(), time.Minute, id, body)
		if err != nil {
			t.Error(err)
		}
		return data
	}
	body := func(question []byte) []byte { // of an envelope in order
		e, err := exchange.OpenQuestion(question, addressee(question), time.Now(), func(identity.ID) (identity.Public, bool) { return c.ours.Public(), true })
		if err != nil {
			t.Error(err)
			return nil
		}
		return e.Body
	}
	own, thief := newKey(t), newKey(t)
	c.impostor("flood", func(_ context.Context, send func([]byte) error) error { return endless(send, make([]byte, 64<<10), 0) })
	c.impostor("drip", func(_ context.Context, send func([]byte) error) error {
		return endless(send, []byte{0}, 10*time.Millisecond)
	})
	c.impostor("empty", func(context.Context, func([]byte) error) error { return nil })
	c.deceiver("half", own, func(_ context.Context, q []byte, send func([]byte) error) error {
		data := seal(own, q, bytes.Repeat([]byte{1}, 1000), dossier.IDOf(body(q)))
		return send(data[:len(data)/2])
	})
	other := newKey(t)
	c.deceiver("unsigned", other, func(_ context.Context, q []byte, send func([]byte) error) error {
		return send(seal(thief, q, []byte("words"), dossier.IDOf(body(q))))
	})
	liar := newKey(t)
	c.deceiver("unsealed", liar, func(_ context.Context, q []byte, send func([]byte) error) error {
		return send(seal(liar, q, []byte("no testimony at all"), dossier.IDOf(body(q))))
	})
	old := newKey(t)
	c.deceiver("replay", old, func(_ context.Context, q []byte, send func([]byte) error) error {
		return send(seal(old, q, []byte("an old one"), dossier.IDOf([]byte("another question"))))
	})
	conf, p := c.asks(truth)
	conf.Deadline, conf.MaxAnswer = 4*time.Second, 8<<20
	got := map[string]inquiry.AskStatus{}
	times := map[string]int{}
	conf.Note = func(n inquiry.Note) {
		if n.Status != inquiry.Waiting {
			got[n.Witness] = n.Status
			times[n.Witness]++
		}
	}
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]inquiry.AskStatus{
		"flood": inquiry.Broken, "drip": inquiry.Broken, "empty": inquiry.Broken, "half": inquiry.Broken,
		"unsigned": inquiry.Forged, "unsealed": inquiry.Forged, "replay": inquiry.Replayed,
	} {
		if got[name] != want || times[name] != 1 {
			t.Errorf("%s: %s, noted %d times; want %s once", name, got[name], times[name], want)
		}
	}
	if want := "4 of 11 answered, 2 forged, 1 replayed, 4 broken"; out.Tally.String() != want {
		t.Errorf("state %q, want %q", out.Tally, want)
	}
	if len(out.Result.Witnesses) != good || len(named(out.Result)) != len(wanted(truth)) {
		t.Errorf("the other witnesses: %v", named(out.Result))
	}
}

// addressee reads the receiver of an envelope: version, kind, from, to.
func addressee(data []byte) (to identity.ID) {
	at := 2 + int(data[1]) + len(to)
	copy(to[:], data[at:])
	return to
}

func awaitCards(t *testing.T, c *community, e exchange.Endpoint, n int) {
	t.Helper()
	b, err := exchange.DialRelay(c.ours, e)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for range 500 {
		cards, err := b.Witnesses(t.Context(), time.Now())
		if err == nil && len(cards) >= n {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("the relay has not seen %d witnesses", n)
}
