package api

import (
	"context"
	"errors"

	"connectrpc.com/connect"
)

// Gate bounds how many requests for heavy work, such as reading all flows, are
// served at a time.
type Gate struct {
	at, waiting chan struct{}
}

// NewGate returns a gate that serves n requests at a time and lets eight times as
// many wait; it refuses more.
func NewGate(n int) *Gate {
	return &Gate{make(chan struct{}, n), make(chan struct{}, 9*n)}
}

var errBusy = errors.New("the node is busy with other requests of this kind; try again later")

// Enter waits until a request may be served; call leave when it is done.
func (g *Gate) Enter(ctx context.Context) (leave func(), err error) {
	select {
	case g.waiting <- struct{}{}:
	default:
		return nil, connect.NewError(connect.CodeResourceExhausted, errBusy)
	}
	select {
	case g.at <- struct{}{}:
		return func() { <-g.at; <-g.waiting }, nil
	case <-ctx.Done():
		<-g.waiting
		return nil, ctx.Err()
	}
}
