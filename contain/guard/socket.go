package guard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"dragnet/daw"
)

// Station is whom a guard reports to and takes orders from.
type Station interface {
	Exchange(ctx context.Context, b daw.Bulletin) (daw.Orders, error)
}

// Socket is a station on this machine, reached through its Unix socket: who may
// open the socket's file may take part, and nobody else can.
type Socket struct {
	path   string
	client *http.Client
}

// exchangePath is where a station answers bulletins.
const exchangePath = "/v1/exchange"

// maxOrders bounds the size of orders.
const maxOrders = 64 << 20

// NewSocket is a station that listens on the socket at path.
func NewSocket(path string) *Socket {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	return &Socket{path, &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 1}, Timeout: 30 * time.Second}}
}

// Exchange sends a bulletin and returns the orders that answer it.
func (s *Socket) Exchange(ctx context.Context, b daw.Bulletin) (daw.Orders, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return daw.Orders{}, fmt.Errorf("bulletin: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://station"+exchangePath, bytes.NewReader(body))
	if err != nil {
		return daw.Orders{}, err
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := s.client.Do(request)
	if err != nil {
		return daw.Orders{}, fmt.Errorf("station at %s: %w", s.path, err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, maxOrders+1))
	switch {
	case err != nil:
		return daw.Orders{}, fmt.Errorf("station at %s: %w", s.path, err)
	case len(text) > maxOrders:
		return daw.Orders{}, fmt.Errorf("station at %s: orders are longer than %d bytes", s.path, maxOrders)
	case answer.StatusCode != http.StatusOK:
		return daw.Orders{}, fmt.Errorf("station at %s: %s: %s", s.path, answer.Status, bytes.TrimSpace(text[:min(len(text), 500)]))
	}
	var o daw.Orders
	if err := json.Unmarshal(text, &o); err != nil {
		return daw.Orders{}, fmt.Errorf("station at %s: orders make no sense: %w", s.path, err)
	}
	return o, nil
}
