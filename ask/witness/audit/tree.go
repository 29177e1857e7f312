package audit

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"golang.org/x/mod/sumdb/tlog"

	"dragnet/internal/state"
	"dragnet/wire/treehead"
)

// treeReader reads stored hashes.
func treeReader(tx *state.Tx) tlog.HashReader {
	return tlog.HashReaderFunc(func(numbers []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(numbers))
		for i, n := range numbers {
			var hash []byte
			if err := tx.QueryRow(`SELECT hash FROM ask_tree WHERE number = ?`, n).Scan(&hash); err != nil {
				return nil, fmt.Errorf("hash %d of the record's tree: %w", n, err)
			}
			if len(hash) != len(out[i]) {
				return nil, fmt.Errorf("hash %d of the record's tree is damaged", n)
			}
			out[i] = tlog.Hash(hash)
		}
		return out, nil
	})
}

// addToTree adds entry number n, from 0, as the next leaf.
func addToTree(tx *state.Tx, n int64, text []byte) error {
	hashes, err := tlog.StoredHashes(n, text, treeReader(tx))
	if err != nil {
		return err
	}
	for i, h := range hashes {
		if _, err := tx.Exec(`INSERT INTO ask_tree (number, hash) VALUES (?, ?) ON CONFLICT (number) DO UPDATE SET hash = excluded.hash`,
			tlog.StoredHashIndex(0, n)+int64(i), h[:]); err != nil {
			return err
		}
	}
	return nil
}

// fillTree makes the tree of a record that an older version started without one.
func (d *Trail) fillTree(ctx context.Context) error {
	var hashes, entries bool
	err := d.db.View(ctx, func(tx *state.Tx) error {
		return tx.QueryRow(`SELECT EXISTS (SELECT 1 FROM ask_tree), EXISTS (SELECT 1 FROM ask_entry)`).Scan(&hashes, &entries)
	})
	if err != nil || hashes || !entries {
		return err
	}
	var texts [][]byte
	if err := d.eachEntry(ctx, 0, func(_ int64, text, _ []byte) error {
		texts = append(texts, append([]byte(nil), text...))
		return nil
	}); err != nil {
		return err
	}
	return d.db.Update(ctx, func(tx *state.Tx) error {
		for n, text := range texts {
			if err := addToTree(tx, int64(n), text); err != nil {
				return err
			}
		}
		return nil
	})
}

// Root is the number of entries and the root of the tree over them.
func (d *Trail) Root(ctx context.Context) (size int64, root tlog.Hash, err error) {
	err = d.db.View(ctx, func(tx *state.Tx) error {
		if err := tx.QueryRow(`SELECT COALESCE(MAX(seq), 0) FROM ask_entry`).Scan(&size); err != nil {
			return err
		}
		root, err = tlog.TreeHash(size, treeReader(tx))
		return err
	})
	return size, root, err
}

// Prove proves that the record of a size continues that of an earlier one.
func (d *Trail) Prove(ctx context.Context, from, size int64) (proof tlog.TreeProof, err error) {
	if from <= 0 || from >= size {
		return nil, nil
	}
	err = d.db.View(ctx, func(tx *state.Tx) error {
		proof, err = tlog.ProveTree(size, from, treeReader(tx))
		return err
	})
	return proof, err
}

// keptHeads is how many heads are kept.
const keptHeads = 100

// SaveHead keeps a head that another has signed.
func (d *Trail) SaveHead(ctx context.Context, size int64, head string) error {
	return d.db.Update(ctx, func(tx *state.Tx) error {
		if _, err := tx.Exec(`INSERT INTO ask_head (size, head) VALUES (?, ?) ON CONFLICT (size) DO UPDATE SET head = excluded.head`, size, head); err != nil {
			return err
		}
		_, err := tx.Exec(`DELETE FROM ask_head WHERE size NOT IN (SELECT size FROM ask_head ORDER BY size DESC LIMIT ?)`, keptHeads)
		return err
	})
}

// LastHead is the newest head that another has signed, and its size; both are zero if
// there is none.
func (d *Trail) LastHead(ctx context.Context) (size int64, head string, err error) {
	err = d.db.View(ctx, func(tx *state.Tx) error {
		err := tx.QueryRow(`SELECT size, head FROM ask_head ORDER BY size DESC LIMIT 1`).Scan(&size, &head)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		return err
	})
	return size, head, err
}

// Heads are those that others have signed, the oldest first, as far as they are kept.
func (d *Trail) Heads(ctx context.Context) (heads []string, err error) {
	err = d.db.View(ctx, func(tx *state.Tx) error {
		heads = nil
		return tx.Each(func(r *sql.Rows) error {
			var head string
			err := r.Scan(&head)
			heads = append(heads, head)
			return err
		}, `SELECT head FROM ask_head ORDER BY size`)
	})
	return heads, err
}

// VerifyHeads computes the tree again from the entries, and checks that the record
// continues each of the heads, which others have seen.
func (d *Trail) VerifyHeads(ctx context.Context, heads []treehead.TreeHead) error {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(numbers []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(numbers))
		for i, n := range numbers {
			if n >= int64(len(hashes)) {
				return nil, fmt.Errorf("%w: it has no hash %d", ErrTampered, n)
			}
			out[i] = hashes[n]
		}
		return out, nil
	})
	size := int64(0)
	if err := d.eachEntry(ctx, 0, func(_ int64, text, _ []byte) error {
		more, err := tlog.StoredHashes(size, text, reader)
		hashes = append(hashes, more...)
		size++
		return err
	}); err != nil {
		return err
	}
	for i := range heads {
		h := &heads[i]
		if h.Size > size {
			return fmt.Errorf("%w: it has %d entries, and had %d when others signed it", ErrTampered, size, h.Size)
		}
		root, err := tlog.TreeHash(h.Size, reader)
		if err != nil {
			return err
		}
		if root != h.Root {
			return fmt.Errorf("%w: its first %d entries are not those that others signed", ErrTampered, h.Size)
		}
	}
	return nil
}
