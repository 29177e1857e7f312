package relay_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"dragnet/ask/relay"
	"dragnet/internal/admin"
	"dragnet/internal/state"
	"dragnet/wire/exchange"
	"dragnet/wire/exchange/v1/exchangev1connect"
	"dragnet/wire/identity"
)

func newKey(t *testing.T) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

var silence = slog.New(slog.NewTextHandler(io.Discard, nil))

// served is a relay on loopback with one detective.
type served struct {
	*testing.T
	service        *relay.Service
	db             *state.DB
	endpoint       exchange.Endpoint
	own, detective *identity.Key
}

func serve(t *testing.T) *served {
	s := &served{T: t, own: newKey(t), detective: newKey(t)}
	var err error
	if s.db, err = state.Open(t.Context(), filepath.Join(t.TempDir(), "relay.db")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.db.Close() })
	b, err := relay.NewMailboxes(s.db, relay.DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	s.service = relay.NewService(b, relay.Dependencies{Member: func(p identity.Public) (relay.Membership, bool) {
		return relay.Membership{Organisation: "org:college", Ask: true}, p == s.detective.Public()
	}, Log: silence})
	if err := s.service.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle(s.service.Handler())
	server, err := exchange.Listen("127.0.0.1:0", s.own, mux, silence)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() { server.Serve() })
	t.Cleanup(func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		server.Shutdown(now)
		running.Wait()
		if err := s.service.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s.endpoint = exchange.Endpoint{URL: "https://" + server.Address(), Key: s.own.Public()}
	return s
}

func (s *served) dial(k *identity.Key) *exchange.Relay {
	s.Helper()
	r, err := exchange.DialRelay(k, s.endpoint)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(r.Close)
	return r
}

// TestAStrangerAnswersNothing: answers that a stranger begins and never ends, as many as
// there were places, keep no witness from answering.
func TestAStrangerAnswersNothing(t *testing.T) {
	s := serve(t)
	config, err := identity.ClientTLS(newKey(t), s.own.Public())
	if err != nil {
		t.Fatal(err)
	}
	h := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	refused := make(chan int)
	for range 200 {
		body, hold := io.Pipe()
		defer hold.Close()
		go func() {
			r, err := h.Post(s.endpoint.URL+exchangev1connect.RelayServiceAnswerMessageProcedure, "application/connect+proto", body)
			if err != nil {
				refused <- 0
				return
			}
			r.Body.Close()
			refused <- r.StatusCode
		}()
	}
	witness := newKey(t)
	mailbox, err := exchange.NewMailbox(witness)
	if err != nil {
		t.Fatal(err)
	}
	card, err := exchange.SealCard(witness, mailbox, "north", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	ctx, at, from := t.Context(), s.dial(witness), s.dial(s.detective)
	if err := at.Register(ctx, card); err != nil {
		t.Fatal(err)
	}
	l := exchange.Message{ID: exchange.MessageID{1}, To: witness.ID(), Expires: time.Now().Add(time.Hour), Sealed: []byte("question")}
	if err := from.Post(ctx, []exchange.Message{l}); err != nil {
		t.Fatal(err)
	}
	if got, err := at.Fetch(ctx, time.Second); err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if err := at.Answer(ctx, l.ID, []byte("answer")); err != nil {
		t.Fatal(err)
	}
	answered := false
	err = from.Collect(ctx, []exchange.MessageID{l.ID}, time.Second, 100, func(_ exchange.MessageID, data []byte, err error) {
		answered = err == nil && string(data) == "answer"
	})
	if err != nil || !answered {
		t.Errorf("beside a stranger's answers: %v", err)
	}
	for range 200 { // each ends although its body does not
		<-refused
	}
}

// TestDatabaseIsLostForAWhile: the relay says so and goes on, and so does the process
// it is part of.
func TestDatabaseIsLostForAWhile(t *testing.T) {
	relay.SetSweepEvery(10 * time.Millisecond)
	defer relay.SetSweepEvery(time.Minute)
	s := serve(t)
	rename := func(from, to string) {
		t.Helper()
		if err := s.db.Update(t.Context(), func(tx *state.Tx) error {
			_, err := tx.Exec(`ALTER TABLE ` + from + ` RENAME TO ` + to)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	until := func(want admin.Level) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); s.service.Status(t.Context()).Level != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("it stays %+v", s.service.Status(t.Context()))
			}
		}
	}
	until(admin.OK)
	rename("relay_card", "gone")
	until(admin.Failed)
	rename("gone", "relay_card")
	until(admin.OK)
	select {
	case err := <-s.service.Failed():
		t.Errorf("the relay ended: %v", err)
	default:
	}
}
