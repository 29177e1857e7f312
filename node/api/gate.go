package api

import (
	"context"
	"errors"

	"connectrpc.com/connect"
)

// Gate bounds how much heavy work, such as reading all flows, is done at a time
// for all who ask.
type Gate struct {
	at, waiting chan struct{}
}

// NewGate lets work of n requests be done at a time and eight times as many
// wait; more are turned away.
func NewGate(n int) *Gate {
	return &Gate{make(chan struct{}, n), make(chan struct{}, 9*n)}
}

var errBusy = errors.New("the node has as many such requests as it takes; ask again later")

// Enter waits for the turn of a request; leave must be called when its work is
// done.
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
