package community

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"dragnet/internal/durable"
	"dragnet/internal/state"
	"dragnet/wire/identity"
	"dragnet/wire/roster"
)

// The files of a backup; those of a clearinghouse's directory have the same names.
const (
	backupKey    = "identity.key"
	backupPublic = "identity.key.pub"
	backupHeld   = "roster.held"
	backupRoster = "roster.bin"
	backupState  = "state.db"
	backupRelay  = "relay.db"
)

// Backup copies what a clearinghouse needs to be the same one on another machine to a new
// directory: its key, which makes the copy as secret as the original, the roster, and
// the databases as of one moment each. The clearinghouse may be running. State in
// PostgreSQL is left out, and whole is false.
func Backup(ctx context.Context, c *Configuration, to string) (whole bool, err error) {
	if err := mustBeNew(to); err != nil {
		return false, err
	}
	if err := os.MkdirAll(to, 0o700); err != nil {
		return false, err
	}
	if _, err := identity.Load(c.Server.KeyPath()); err != nil {
		return false, fmt.Errorf("the clearinghouse's key: %w", err)
	}
	for name, from := range map[string]string{
		backupKey: c.Server.KeyPath(), backupPublic: c.Server.KeyPath() + ".pub", backupHeld: filepath.Join(c.Server.Directory, backupHeld), backupRoster: c.Server.RosterPath(),
	} {
		data, err := os.ReadFile(from)
		if errors.Is(err, fs.ErrNotExist) && name != backupKey {
			continue
		}
		if err == nil {
			err = durable.WriteFile(filepath.Join(to, name), data, 0o600)
		}
		if err != nil {
			return false, err
		}
	}
	db := c.Server.Database()
	if !db.IsPostgres() {
		if err := copyDatabase(ctx, db, c.Server.StatePath(), filepath.Join(to, backupState)); err != nil {
			return false, err
		}
	}
	relay := filepath.Join(c.Server.Directory, backupRelay)
	if err := copyDatabase(ctx, state.New(relay), relay, filepath.Join(to, backupRelay)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return !db.IsPostgres(), nil
}

func copyDatabase(ctx context.Context, db *state.DB, from, to string) error {
	if _, err := os.Stat(from); err != nil {
		return err // starting it would create it
	}
	if err := db.Start(ctx); err != nil {
		return err
	}
	if err := errors.Join(db.Copy(ctx, to), db.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return os.Chmod(to, 0o600)
}

// Restored is what a restored clearinghouse is.
type Restored struct {
	Key identity.Public
	// Roster is the version in force, 0 if the backup had none.
	Roster uint64
}

// Restore checks a backup and copies it to the directory that a configuration names,
// which must not exist or be empty. Newer, if not nil, is a roster of a later version
// than the backup's, as members hold it; it must descend from the backup's. Without it
// the next version that is signed would contradict what members hold.
func Restore(ctx context.Context, from string, c *Configuration, newer []byte) (out Restored, err error) {
	k, err := identity.Load(filepath.Join(from, backupKey))
	if err != nil {
		return out, fmt.Errorf("no backup of a clearinghouse: %w", err)
	}
	out.Key = k.Public()
	if err := mustBeNew(c.Server.Directory); err != nil {
		return out, err
	}
	bundle, version, err := restoredRoster(from, c, out.Key, newer)
	if err != nil {
		return out, err
	}
	out.Roster = version
	for _, name := range []string{backupState, backupRelay} {
		if err := checkDatabase(ctx, filepath.Join(from, name)); err != nil {
			return out, err
		}
	}
	if err := checkStatePlace(from, c); err != nil {
		return out, err
	}
	if err := os.MkdirAll(c.Server.Directory, 0o700); err != nil {
		return out, err
	}
	places := map[string]string{backupState: c.Server.StatePath(), backupRelay: filepath.Join(c.Server.Directory, backupRelay), backupPublic: c.Server.KeyPath() + ".pub"}
	for name, to := range places {
		data, err := os.ReadFile(filepath.Join(from, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			err = durable.WriteFile(to, data, 0o600)
		}
		if err != nil {
			return out, err
		}
	}
	if bundle != nil {
		for _, to := range []string{filepath.Join(c.Server.Directory, backupHeld), c.Server.RosterPath()} {
			if err := durable.WriteFile(to, bundle, 0o600); err != nil {
				return out, err
			}
		}
	}
	data, err := os.ReadFile(filepath.Join(from, backupKey))
	if err != nil {
		return out, err
	}
	return out, durable.WriteFile(c.Server.KeyPath(), data, 0o600) // last: without it nothing starts
}

// checkStatePlace refuses to put the database of a backup over another, or where none can
// be put.
func checkStatePlace(from string, c *Configuration) error {
	if _, err := os.Stat(filepath.Join(from, backupState)); err != nil {
		return nil // the backup has none: checkDatabase has looked
	}
	if c.Server.Database().IsPostgres() {
		return errors.New("the backup holds a database in a file, and server.state names PostgreSQL: restore without server.state")
	}
	if _, err := os.Stat(c.Server.StatePath()); err == nil {
		return fmt.Errorf("%s exists: move it away, or name another place in server.state", c.Server.StatePath())
	}
	return nil
}

// restoredRoster is the newest roster of a backup, or the one that members hold.
func restoredRoster(from string, c *Configuration, own identity.Public, newer []byte) ([]byte, uint64, error) {
	signer := own
	if c.Server.Signer != "" {
		var err error
		if signer, err = identity.ParsePublic(c.Server.Signer); err != nil {
			return nil, 0, err
		}
	}
	var newest []byte
	version := uint64(0)
	var keeper *roster.Keeper
	for _, name := range []string{backupHeld, backupRoster, ""} {
		data := newer
		if name != "" {
			var err error
			if data, err = os.ReadFile(filepath.Join(from, name)); errors.Is(err, fs.ErrNotExist) {
				continue
			} else if err != nil {
				return nil, 0, err
			}
		}
		if data == nil {
			continue
		}
		var b roster.Bundle
		if err := b.UnmarshalBinary(data); err != nil {
			return nil, 0, err
		}
		held, _, err := b.Check(signer)
		if err != nil {
			return nil, 0, fmt.Errorf("the roster was not signed by %s: %w", signer, err)
		}
		if keeper != nil && held.Version > version {
			// Its age does not matter here, its descent does.
			if _, err := keeper.Accept(data, held.Issued); err != nil {
				return nil, 0, fmt.Errorf("the newer roster: %w", err)
			}
		}
		if newest == nil || held.Version > version {
			newest, version = data, held.Version
			memory := memoryOf(data)
			if keeper, err = roster.NewKeeper(signer, &memory); err != nil {
				return nil, 0, err
			}
		}
	}
	return newest, version, nil
}

// memoryOf is a roster's storage that is not kept.
type memoryOf []byte

// Load gives the roster.
func (m *memoryOf) Load() ([]byte, error) { return *m, nil }

// Save keeps nothing.
func (m *memoryOf) Save([]byte) error { return nil }

// checkDatabase reports a copy that is damaged or has no tables.
func checkDatabase(ctx context.Context, path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	db, err := state.Open(ctx, path)
	if err != nil {
		return err
	}
	return errors.Join(db.CheckIntegrity(ctx), db.Close())
}
