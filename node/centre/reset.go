package centre

import (
	"bytes"
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"

	"dragnet/dossier"
	"dragnet/internal/state"
)

// ErrUnknown is returned for a signature that the centre does not offer.
var ErrUnknown = errors.New("the signature centre has no such signature")

// asidePrefix begins the names of signatures that decisions name.
const asidePrefix = "reset"

// maxAside bounds the signatures that are set aside.
const maxAside = 1000

// SetAside makes the copy of a signature that a decision to reset connections can
// name, and returns its name, which a digest of the content is part of: what a
// trap sends later, and what is learnt from it, changes nothing about it.
func SetAside(ctx context.Context, db *state.DB, name string) (aside string, err error) {
	all, err := ListSignatures(ctx, db)
	if err != nil {
		return "", err
	}
	for _, l := range all {
		if l.Name != name {
			continue
		}
		if l.Problem != "" {
			return "", fmt.Errorf("signature %s is not offered to sensors: %s", name, l.Problem)
		}
		if l.Status != dossier.SignatureActive {
			return "", fmt.Errorf("signature %s is not in use: its status is %s", name, l.Status)
		}
		x, _, err := dossier.OpenSignature(l.File)
		if err != nil {
			return "", err
		}
		x.Name = asideName(&l)
		body, err := dossier.EncodeSignature(x, nil)
		if err != nil {
			return "", err
		}
		return x.Name, keepAside(ctx, db, x.Name, body)
	}
	return "", fmt.Errorf("%q: %w", name, ErrUnknown)
}

// asideName is the name of the copy of a signature that is set aside.
func asideName(l *Listed) string {
	sum := sha256.Sum256(l.learnt)
	name := fmt.Sprintf("%s-%s-%s", asidePrefix, hex.EncodeToString(sum[:8]), l.Name)
	return name[:min(len(name), 64)]
}

func keepAside(ctx context.Context, db *state.DB, name string, body []byte) error {
	return db.Update(ctx, func(tx *state.Tx) error {
		var n int
		if err := tx.QueryRow(`SELECT COUNT(*) FROM centre_aside WHERE name <> ?`, name).Scan(&n); err != nil {
			return err
		}
		if n >= maxAside {
			return fmt.Errorf("%d signatures are set aside for decisions already", n)
		}
		_, err := tx.Exec(`INSERT INTO centre_aside (name, body) VALUES (?, ?) ON CONFLICT (name) DO NOTHING`, name, body)
		return err
	})
}

// listSetAside are the signatures that decisions of s.resets name.
func (s *Centre) listSetAside(ctx context.Context) (all []Listed, err error) {
	named := map[string]bool{}
	for i := range s.resets.Decisions {
		named[s.resets.Decisions[i].Standing.Signature] = true
	}
	if len(named) == 0 {
		return nil, nil
	}
	err = s.deps.DB.View(ctx, func(tx *state.Tx) error {
		all = nil
		return tx.Each(func(r *sql.Rows) error {
			var l Listed
			var body []byte
			err := r.Scan(&l.Name, &body)
			if l.File = bytes.Clone(body); err == nil && named[l.Name] {
				all = append(all, l)
			}
			return err
		}, `SELECT name, body FROM centre_aside ORDER BY name`)
	})
	return all, err
}

// shareResets are the decisions to reset connections, each with the share of its
// bound that one who matches signatures gets.
func (s *Centre) shareResets(ctx context.Context) (dossier.Resets, error) {
	all := s.deps.Findings.Resets()
	if len(all.Decisions) == 0 || s.deps.Agents == nil {
		return dossier.Resets{}, nil
	}
	inspectors, err := s.countInspectors(ctx)
	if err != nil {
		return dossier.Resets{}, err
	}
	shared := dossier.Resets{Decisions: []dossier.Decision{}, Allow: all.Allow}
	for _, d := range all.Decisions {
		share := *d.Standing
		share.Most /= max(inspectors, 1)
		if d.Standing = &share; share.Most > 0 {
			shared.Decisions = append(shared.Decisions, d)
		} else if !s.tooMany {
			s.deps.Log.Warn("no connections are reset under a decision, since its bound is below the number of sensors", "decision", d.ID, "sensors", inspectors)
			s.tooMany = true
		}
	}
	return shared, nil
}

// countInspectors counts enrolled agents that are sent signatures.
func (s *Centre) countInspectors(ctx context.Context) (n int, err error) {
	for after := ""; ; {
		members, err := s.deps.Agents.ListMembers(ctx, after, 1000)
		if err != nil || len(members) == 0 {
			return n, err
		}
		for i := range members {
			if members[i].Role == "sensor" && members[i].Revoked.IsZero() {
				n++
			}
		}
		after = members[len(members)-1].Name
	}
}

func sameResets(a, b *dossier.Resets) bool { return reflect.DeepEqual(a, b) }
