package agents

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"dragnet/internal/state"
	"dragnet/node/api"
	"dragnet/wire/agent/v1/agentv1connect"
	"dragnet/wire/enrol"
)

// TestIntakeIsShared: an agent that sends as much as it can leaves places to others.
func TestIntakeIsShared(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := make(chan string, 100)
	h := n.limitRequests(http.HandlerFunc(func(_ http.ResponseWriter, q *http.Request) {
		began <- api.PeerOf(q.Context()).Name
		<-ctx.Done()
	}))
	send := func(name string) {
		q := httptest.NewRequestWithContext(api.WithPeer(ctx, api.Peer{Name: name, Role: "guard"}), http.MethodPost, agentv1connect.AgentServiceSendItemsProcedure, nil)
		go h.ServeHTTP(httptest.NewRecorder(), q)
	}
	for range 50 {
		send("greedy")
	}
	<-began
	send("other")
	for {
		select {
		case name := <-began:
			if name == "other" {
				return
			}
		case <-ctx.Done():
			t.Fatal("another agent waits behind one with 50 requests")
		}
	}
}

// TestStrangersDoNotWrite: a made-up token is refused while another transaction writes.
func TestStrangersDoNotWrite(t *testing.T) {
	n := startNode(t, t.TempDir(), "127.0.0.1:0")
	request, err := enrol.Request(filepath.Join(t.TempDir(), "stranger"))
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("made up"))
	err = n.db.Update(t.Context(), func(*state.Tx) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := n.redeemToken(ctx, hex.EncodeToString(digest[:]), request, applicant{})
		return err
	})
	if !errors.Is(err, errMadeUp) {
		t.Errorf("%v", err)
	}
}
