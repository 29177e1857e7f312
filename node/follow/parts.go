package follow

import (
	"context"
	"errors"
	"slices"
)

// Part is something that is started and stopped.
type Part interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// Parts are started in order and stopped in the opposite one.
type Parts []Part

// Start starts all; when one cannot start, those before it are stopped.
func (p Parts) Start(ctx context.Context) error {
	for i, part := range p {
		if err := part.Start(ctx); err != nil {
			return errors.Join(err, p[:i].Stop(ctx))
		}
	}
	return nil
}

// Stop stops all, whatever each says.
func (p Parts) Stop(ctx context.Context) error {
	var err error
	for _, part := range slices.Backward(p) {
		err = errors.Join(err, part.Stop(ctx))
	}
	return err
}
