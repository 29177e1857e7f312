package agents

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"dragnet/internal/state"
	agentv1 "dragnet/wire/agent/v1"
)

// From is the sender of an item.
type From struct{ Name, Role string }

// Handler handles the items of a kind.
type Handler struct {
	// Roles are those whose items are accepted.
	Roles []string
	// Handle handles an item. What it writes through tx is committed together
	// with the note that the item was handled, so an item counts once however
	// often it is sent. Handle may be called again if tx could not be committed,
	// and so must have no effect elsewhere. An error made by Refuse concerns the
	// item; on any other the agent stops, and sends the item again later.
	Handle func(ctx context.Context, tx *state.Tx, from From, item *agentv1.Item) error
}

type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// Refuse marks err as a fault of the item, which is then skipped.
func Refuse(err error) error { return refusal{err} }

// maxSpools bounds the spools remembered of an agent, which normally has one.
const maxSpools = 8

// maxSequence keeps sequences within what databases count.
const maxSequence = 1 << 62

// takeItems handles the items that were not handled before.
func (r *Registry) takeItems(ctx context.Context, from From, spool string, items []*agentv1.Item) (out *agentv1.SendItemsResponse, err error) {
	err = r.db.Update(ctx, func(tx *state.Tx) error {
		out = &agentv1.SendItemsResponse{}
		var received int64
		err := tx.QueryRow(`SELECT received FROM agent_spool WHERE member = ? AND spool = ?`, from.Name, spool).Scan(&received)
		if ignoreNoRows(err) != nil {
			return err
		}
		last, missed, handled := uint64(received), uint64(0), 0
		for _, item := range items {
			if item.Sequence <= last {
				continue // it came before, and its acknowledgement was lost
			}
			missed += item.Sequence - last - 1
			last = item.Sequence
			problem, err := r.handleItem(ctx, tx, from, item)
			if err != nil {
				return fmt.Errorf("item %d, %s: %w", item.Sequence, item.Kind, err)
			}
			if problem != nil {
				out.Refusals = append(out.Refusals, &agentv1.Refusal{Sequence: item.Sequence, Problem: problem.Error()})
				continue
			}
			handled++
		}
		out.Acknowledged = last
		if last == uint64(received) {
			return nil
		}
		return r.noteReceived(tx, from.Name, spool, last, [3]uint64{uint64(handled), uint64(len(out.Refusals)), missed})
	})
	return out, err
}

// noteReceived records up to which item a spool was received.
func (r *Registry) noteReceived(tx *state.Tx, name, spool string, last uint64, counts [3]uint64) error {
	if _, err := tx.Exec(`INSERT INTO agent_spool (member, spool, received, at) VALUES (?, ?, ?, ?)
		ON CONFLICT (member, spool) DO UPDATE SET received = excluded.received, at = excluded.at`, name, spool, int64(last), r.now().UnixNano()); err != nil {
		return err
	}
	if _, err := tx.Exec(`DELETE FROM agent_spool WHERE member = ? AND spool NOT IN (SELECT spool FROM agent_spool WHERE member = ? ORDER BY at DESC LIMIT ?)`,
		name, name, maxSpools); err != nil {
		return err
	}
	_, err := tx.Exec(`UPDATE agent_member SET seen = ?, received = received + ?, refused = refused + ?, missed = missed + ? WHERE name = ?`,
		r.now().UnixNano(), int64(counts[0]), int64(counts[1]), int64(counts[2]), name)
	return err
}

// handleItem passes an item to its handler. The first result is a fault of the
// item; the item then leaves nothing in tx.
func (r *Registry) handleItem(ctx context.Context, tx *state.Tx, from From, item *agentv1.Item) (problem, err error) {
	h, ok := r.handlers[item.Kind]
	switch {
	case !ok:
		return fmt.Errorf("this node knows no items of kind %q", item.Kind), nil
	case !slices.Contains(h.Roles, from.Role):
		return fmt.Errorf("items of kind %q are not for a %s to send", item.Kind, from.Role), nil
	}
	if _, err := tx.Exec(`SAVEPOINT item`); err != nil {
		return nil, err
	}
	if err := h.Handle(ctx, tx, from, item); err != nil {
		refused, ok := errors.AsType[refusal](err)
		if !ok {
			return nil, err
		}
		if _, err := tx.Exec(`ROLLBACK TO SAVEPOINT item`); err != nil {
			return nil, err
		}
		problem = refused
	}
	_, err = tx.Exec(`RELEASE SAVEPOINT item`)
	return problem, err
}

// maxItems bounds the items of one request.
const maxItems = 4096

// checkItems checks a request against the bounds that agents keep.
func checkItems(m *agentv1.SendItemsRequest) (spool string, err error) {
	if len(m.Spool) != 16 {
		return "", fmt.Errorf("%w: a spool's name of %d bytes; want 16", ErrWrong, len(m.Spool))
	}
	if len(m.Items) > maxItems {
		return "", fmt.Errorf("%w: %d items in a request; want at most %d", ErrWrong, len(m.Items), maxItems)
	}
	last := uint64(0)
	for _, item := range m.Items {
		if item == nil || item.Sequence <= last || item.Sequence > maxSequence || len(item.Kind) > 64 {
			return "", fmt.Errorf("%w: items must have ascending sequences from 1, and kinds of at most 64 bytes", ErrWrong)
		}
		last = item.Sequence
	}
	return hex.EncodeToString(m.Spool), nil
}
