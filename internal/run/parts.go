package run

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Part is something that is started and stopped once.
type Part interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Failing is a part that can fail after its start.
type Failing interface {
	Failed() <-chan error
}

// Parts are started in order and stopped in the opposite one.
type Parts []Part

// stopWithin is how long parts may take to stop that were started before one that could
// not.
const stopWithin = 10 * time.Second

// Start starts all; when one cannot start, those before it are stopped, also if that was
// because ctx ended.
func (p Parts) Start(ctx context.Context) error {
	for i, part := range p {
		if err := part.Start(ctx); err != nil {
			stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
			defer cancel()
			return errors.Join(err, p[:i].Stop(stop))
		}
	}
	return nil
}

// Stop stops all, also those after one that reports an error.
func (p Parts) Stop(ctx context.Context) error {
	var err error
	for _, part := range slices.Backward(p) {
		err = errors.Join(err, part.Stop(ctx))
	}
	return err
}

// Failed receives the error of the first part that fails. Call it once, after New
// of all parts.
func (p Parts) Failed() <-chan error {
	failed := make(chan error, len(p))
	for _, part := range p {
		f, ok := part.(Failing)
		if !ok {
			continue
		}
		go func() { failed <- <-f.Failed() }()
	}
	return failed
}
