package layout

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"dragnet/internal/durable"
	"dragnet/internal/state"
	"dragnet/store/disk"
)

// Copy copies all of a data directory to another, which must not exist or be
// empty: the flows as they are at one moment, then every other file, the
// database as it is at one moment. A node may be running on d. Progress is
// called with the number of bytes of flows copied. As root, the copy gets the
// owner of d.
//
// The flows come first: a copy may hold decisions about flows that it lacks, but
// no flows of a later moment than its decisions.
func (d Directory) Copy(ctx context.Context, to string, progress func(bytes int)) error {
	if err := checkEmpty(to); err != nil {
		return err
	}
	store, err := disk.Open(string(d))
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Backup(ctx, to, progress); err != nil {
		return err
	}
	err = filepath.WalkDir(string(d), func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(string(d), path)
		if err != nil || rel == "." {
			return err
		}
		switch {
		case disk.Owns(rel) && entry.IsDir():
			return fs.SkipDir
		case disk.Owns(rel), isTemporary(entry.Name()), !entry.IsDir() && !entry.Type().IsRegular():
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o700)
		case filepath.Ext(rel) == ".db":
			return copyDatabase(ctx, path, filepath.Join(to, rel))
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		return err
	}
	return d.giveOwner(to)
}

// StateElsewhere reports whether a node ran on d and kept its database elsewhere.
func (d Directory) StateElsewhere() bool {
	_, authority := os.Stat(d.Authority())
	_, database := os.Stat(d.State())
	return authority == nil && errors.Is(database, fs.ErrNotExist)
}

func checkEmpty(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s is not empty; name a new directory", dir)
	}
	return nil
}

// isTemporary reports whether a file is useless without the running process: what
// SQLite keeps beside an open database, and files that are being written.
func isTemporary(name string) bool {
	for _, suffix := range []string{".db-wal", ".db-shm", ".db-journal"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return strings.HasPrefix(name, ".")
}

func copyDatabase(ctx context.Context, from, to string) error {
	db, err := state.Open(ctx, from)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Copy(ctx, to), db.Close()); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return os.Chmod(to, 0o600)
}

func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return durable.WriteFile(to, content, info.Mode().Perm())
}

// giveOwner gives the owner of d to everything in a directory, if we are root.
func (d Directory) giveOwner(to string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(string(d))
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(to, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, int(owner.Uid), int(owner.Gid))
	})
}
