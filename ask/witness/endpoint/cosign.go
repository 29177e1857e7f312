package endpoint

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"

	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/roster"
	"dragnet/wire/treehead"
)

// cosignRecord shows the record's head to the clearinghouse, which signs it if it continues
// the one before, and keeps it. Only members are served.
func (s *Service) cosignRecord(ctx context.Context, c *reporting.Client, server identity.Public) error {
	held, err := s.members.keeper.Current(s.now())
	if err != nil {
		return err
	}
	if _, err := held.May(s.key.ID(), 0, s.now()); errors.Is(err, roster.ErrUnknown) {
		return nil // a witness that is no member
	}
	size, root, err := s.audit.Root(ctx)
	if err != nil {
		return err
	}
	from, _, err := s.audit.LastHead(ctx)
	if err != nil || size == from {
		return err
	}
	head, err := treehead.Sign(s.key, size, root)
	if err != nil {
		return err
	}
	for range 2 { // again if it was shown another one last, as after a restored backup
		if from > size {
			return fmt.Errorf("the clearinghouse has seen %d entries of the record of questions, which has %d: it was cut, or restored from a backup", from, size)
		}
		proof, err := s.audit.Prove(ctx, from, size)
		if err != nil {
			return err
		}
		cosigned, last, _, err := c.CosignHead(ctx, head, from, proof)
		if err != nil {
			return fmt.Errorf("cosign the record of questions: %w", err)
		}
		if cosigned != "" {
			if _, err := treehead.OpenCosigned(cosigned, s.key.Public(), server); err != nil {
				return err
			}
			return s.audit.SaveHead(ctx, size, cosigned)
		}
		from = last
	}
	return errors.New("cosign the record of questions: the clearinghouse names another last head each time")
}

// isRewritten reports whether the clearinghouse says that our record was changed.
func isRewritten(err error) bool { return connect.CodeOf(err) == connect.CodeFailedPrecondition }
