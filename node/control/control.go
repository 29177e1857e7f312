// Package control opens what a node keeps besides flows: its control state, its
// authority, and the agents in both. The node does, and so do commands that work
// on a data directory, with or without a node running on it.
package control

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"dragnet/internal/durable"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/node/layout"
	"dragnet/wire/enrol"
)

// Control is opened control state.
type Control struct {
	DB     *state.DB
	Agents *agents.Registry
}

// folder is where control state is within a data directory.
const folder = "control"

// Open opens what is kept beside the data directory dir, which it makes where
// there is none. address is where the control state is, for state.Open; empty
// stands for an SQLite file within dir. handlers are given what agents send.
func Open(ctx context.Context, dir, address string, handlers map[string]agents.Handler, log *slog.Logger) (*Control, error) {
	if err := layout.MakeDataDir(dir); err != nil {
		return nil, err
	}
	authority, err := enrol.OpenAuthority(layout.AuthorityDir(dir))
	if err != nil {
		return nil, err
	}
	if address == "" {
		address = layout.StateFile(dir)
	}
	db, err := state.Open(ctx, address)
	if err != nil {
		return nil, err
	}
	registry, err := agents.Open(ctx, db, authority, handlers, log)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &Control{db, registry}, nil
}

// Close closes the control state.
func (c *Control) Close() error { return c.DB.Close() }

// Backup copies what is kept beside the data directory dir, as far as it is
// within it, to the data directory copied. The key of the authority is part of
// it.
func Backup(ctx context.Context, dir, copied string) error {
	from, to := filepath.Join(dir, folder), filepath.Join(copied, folder)
	key := filepath.Join("authority", "authority.pem")
	text, err := os.ReadFile(filepath.Join(from, key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // no node has run on it
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(to, "authority"), 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(to, key), text, 0o600); err != nil {
		return err
	}
	database := filepath.Join(from, "state.db")
	if _, err := os.Stat(database); errors.Is(err, fs.ErrNotExist) {
		return nil // it is in PostgreSQL
	}
	db, err := state.Open(ctx, database)
	if err != nil {
		return err
	}
	return errors.Join(db.Copy(ctx, filepath.Join(to, "state.db")), db.Close())
}
