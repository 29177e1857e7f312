package centre

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"

	"dragnet/dossier"
	"dragnet/internal/state"
)

// Migrate brings the tables of the centre in db up to date.
func Migrate(ctx context.Context, db *state.DB) error {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return db.Migrate(ctx, "centre", steps)
}

// Decide keeps a decision about a signature of the centre, and returns the signature as it
// is then. Learning the signature again does not undo it. A running node puts it into
// effect at its next turn.
func Decide(ctx context.Context, db *state.DB, name string, d dossier.Lifecycle) (*dossier.Signature, error) {
	all, err := ListSignatures(ctx, db)
	if err != nil {
		return nil, err
	}
	for _, l := range all {
		if l.Name != name {
			continue
		}
		x, _, err := dossier.OpenSignature(l.File)
		if err != nil {
			return nil, err
		}
		if err := x.Decide(d); err != nil {
			return nil, err
		}
		body, err := json.Marshal(x.Lifecycle)
		if err != nil {
			return nil, err
		}
		return x, db.Update(ctx, func(tx *state.Tx) error {
			_, err := tx.Exec(`INSERT INTO centre_lifecycle (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body`, name, body)
			return err
		})
	}
	return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
}

// readLifecycles reads all decisions, by signature.
func readLifecycles(tx *state.Tx) (map[string][]byte, error) {
	all := map[string][]byte{}
	return all, tx.Each(func(r *sql.Rows) error {
		var name string
		var body []byte
		if err := r.Scan(&name, &body); err != nil {
			return err
		}
		all[name] = bytes.Clone(body)
		return nil
	}, `SELECT name, body FROM centre_lifecycle ORDER BY name`)
}

// decided is a digest of all decisions, which differs when one changes.
func (s *Centre) decided(ctx context.Context) (digest string, err error) {
	err = s.deps.DB.View(ctx, func(tx *state.Tx) error {
		all, err := readLifecycles(tx)
		if err != nil {
			return err
		}
		text, err := json.Marshal(all) // in order of the names
		sum := sha256.Sum256(text)
		digest = hex.EncodeToString(sum[:])
		return err
	})
	return digest, err
}

// apply makes body the newest decision about the signature in a file, unless that is nil.
func apply(x *dossier.Signature, body []byte) error {
	if body == nil {
		return nil
	}
	x.Lifecycle = new(dossier.Lifecycle)
	return json.Unmarshal(body, x.Lifecycle)
}
