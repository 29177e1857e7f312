package clearinghouse

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"dragnet/internal/state"
	"dragnet/wire/identity"
	"dragnet/wire/treehead"
)

// ErrRewritten says that a record does not continue what was shown before.
var ErrRewritten = errors.New("the record does not continue the one that was shown before")

// SeeHead takes note of the head of a member's record if the proof shows that it continues
// the last one, of last entries; for another from nothing happens and fresh is false. An
// empty head only asks. What was shown once is never forgotten for a shorter record.
func (h *Core) SeeHead(ctx context.Context, key identity.Public, text string, from int64, proof tlog.TreeProof) (last int64, lastHead string, fresh bool, err error) {
	var head treehead.TreeHead
	if text != "" {
		if head, err = treehead.Open(text, key); err != nil {
			return 0, "", false, err
		}
	}
	conflict := false
	err = h.db.Update(ctx, func(tx *state.Tx) error {
		fresh, conflict = false, false
		var root []byte
		last, lastHead = 0, ""
		err := tx.QueryRow(`SELECT size, root, head FROM clearinghouse_head WHERE public = ?`, key.Bytes()).Scan(&last, &root, &lastHead)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		if text == "" || from != last && head.Size > last {
			return nil
		}
		if conflict = !continues(&head, last, root, proof); conflict {
			_, err := tx.Exec(`UPDATE clearinghouse_head SET conflicts = conflicts + 1 WHERE public = ?`, key.Bytes())
			return err
		}
		fresh = true
		_, err = tx.Exec(`INSERT INTO clearinghouse_head (public, size, root, head, shown, conflicts) VALUES (?, ?, ?, ?, ?, 0)
			ON CONFLICT (public) DO UPDATE SET size = excluded.size, root = excluded.root, head = excluded.head, shown = excluded.shown`,
			key.Bytes(), head.Size, head.Root[:], text, h.now().UnixNano())
		return err
	})
	if err == nil && conflict {
		err = fmt.Errorf("%w: %d entries were", ErrRewritten, last)
	}
	return last, lastHead, fresh, err
}

// continues reports whether a head continues one of last entries.
func continues(head *treehead.TreeHead, last int64, root []byte, proof tlog.TreeProof) bool {
	switch {
	case last == 0:
		return true
	case len(root) != tlog.HashSize || head.Size < last:
		return false
	case head.Size == last:
		return head.Root == tlog.Hash(root)
	}
	return tlog.CheckTree(proof, head.Size, head.Root, last, tlog.Hash(root)) == nil
}
