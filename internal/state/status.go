package state

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"dragnet/internal/admin"
)

const (
	// probeWithin bounds a write that looks whether the database takes writes.
	probeWithin = 3 * time.Second
	// leastFree is how many bytes must be free beside an SQLite file: a small write
	// may still fit into a file where those of a working program no longer do.
	leastFree = 16 << 20
)

// CheckWritable reports why the database cannot be written: it is away, another program
// holds its lock, or its disk is full.
func (d *DB) CheckWritable(ctx context.Context) error {
	if d.sql == nil {
		return fmt.Errorf("control state %s is not open", Redact(d.address))
	}
	if !d.postgres {
		var fs unix.Statfs_t
		if err := unix.Statfs(filepath.Dir(d.address), &fs); err == nil && fs.Bavail*uint64(fs.Bsize) < leastFree {
			return fmt.Errorf("the disk of %s is full: %d bytes are free", d.address, fs.Bavail*uint64(fs.Bsize))
		}
	}
	ctx, cancel := context.WithTimeout(ctx, probeWithin)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		done <- d.Update(ctx, func(tx *Tx) error {
			_, err := tx.Exec(`INSERT INTO state_probe (number, at) VALUES (1, ?) ON CONFLICT (number) DO UPDATE SET at = excluded.at`, time.Now().UnixNano())
			return err
		})
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done(): // SQLite goes on to wait for its lock
		return fmt.Errorf("a write did not succeed within %v; does another program hold a lock?", probeWithin)
	}
}

// Status says whether the database can be used.
func (d *DB) Status(ctx context.Context) admin.Status {
	if err := d.CheckWritable(ctx); err != nil {
		return admin.Status{Part: "database", Level: admin.Failed, Text: fmt.Sprintf("control state cannot be written: %v", err), Hint: "until it can, nothing new is acknowledged; what was is kept"}
	}
	return admin.Status{Part: "database", Level: admin.OK, Text: "control state can be written"}
}

// CheckIntegrity reports damage of an SQLite file, and one without any tables of ours.
func (d *DB) CheckIntegrity(ctx context.Context) error {
	var tables int
	err := d.View(ctx, func(tx *Tx) error { return tx.QueryRow(`SELECT COUNT(*) FROM state_migration`).Scan(&tables) })
	if err == nil && tables == 0 {
		err = fmt.Errorf("%s: it has no tables; was it copied without what SQLite keeps beside it?", Redact(d.address))
	}
	if err != nil || d.postgres {
		return err
	}
	return d.View(ctx, func(tx *Tx) error {
		var said string
		if err := tx.QueryRow(`PRAGMA integrity_check(1)`).Scan(&said); err != nil {
			return fmt.Errorf("%s: %w", d.address, err)
		}
		if said != "ok" {
			return fmt.Errorf("%s is damaged: %s", d.address, said)
		}
		return nil
	})
}
