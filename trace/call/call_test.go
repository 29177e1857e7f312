package call

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"dragnet/trace/token"
)

func newKey(t *testing.T) (ed25519.PublicKey, ed25519.PrivateKey) {
	t.Helper()
	pub, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return pub, key
}

func TestRedeem(t *testing.T) {
	hostKey, host := newKey(t)
	listed, investigator := newKey(t)
	_, stranger := newKey(t)
	dir := t.TempDir()
	s, err := token.Open(dir, host, token.DefaultLimits())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	tok, err := s.Put([]byte(`{"v":1}`), token.Account{User: 0}, true)
	if err != nil {
		t.Fatal(err)
	}
	config, err := ServerTLS(host, []ed25519.PublicKey{listed})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: Handler(dir, host, "h1", slog.New(slog.DiscardHandler)), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	go srv.Serve(tls.NewListener(l, config))
	defer srv.Close()
	at := l.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()

	redemptions, err := Redeem(ctx, at, investigator, hostKey, []string{tok, token.Random()}, "case 7")
	if err != nil || len(redemptions) != 2 {
		t.Fatalf("%d redemptions, %v", len(redemptions), err)
	}
	r, err := redemptions[0].Open()
	if err != nil || string(r.Record) != `{"v":1}` || !strings.Contains(r.For, token.FormatKey(listed)) || !strings.Contains(r.For, "case 7") {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := redemptions[1].Open(); err != nil || r.Problem == "" {
		t.Errorf("unknown token: %+v, %v", r, err)
	}
	if _, err := Redeem(ctx, at, stranger, hostKey, []string{tok}, ""); err == nil {
		t.Error("a stranger redeemed a token")
	}
	if _, err := Redeem(ctx, at, investigator, listed, []string{tok}, ""); err == nil || !strings.Contains(err.Error(), "not the expected") {
		t.Errorf("another host's key: %v", err)
	}
	if _, err := Redeem(ctx, at, investigator, hostKey, []string{"no token"}, ""); err == nil {
		t.Error("something that is not a token was redeemed")
	}
	if _, err := Redeem(ctx, at, investigator, hostKey, make([]string, maxTokens+1), ""); err == nil {
		t.Error("a call without bounds was answered")
	}
}
