package agents

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"dragnet/internal/state"
	agentv1 "dragnet/wire/agent/v1"
)

// MaxDocument bounds a document, in bytes.
const MaxDocument = 4 << 20

// Configure sets the configuration of all agents of a role or, with a name, of
// that agent instead. Agents get it at once. Setting an equal document changes
// nothing.
func (r *Registry) Configure(ctx context.Context, role, name string, format uint32, body []byte) (version string, err error) {
	if err := checkRole(role); err != nil {
		return "", err
	}
	if len(body) > MaxDocument {
		return "", fmt.Errorf("%w: a configuration of %d bytes; want at most %d", ErrWrong, len(body), MaxDocument)
	}
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint32(nil, format), body...))
	version = hex.EncodeToString(sum[:8])
	err = r.db.Update(ctx, func(tx *state.Tx) error {
		if name != "" {
			var is string
			err := tx.QueryRow(`SELECT role FROM agent_member WHERE name = ?`, name).Scan(&is)
			if errors.Is(err, sql.ErrNoRows) || err == nil && is != role {
				return fmt.Errorf("%w: no %s is called %s; see 'dragnet agent list'", ErrUnknown, role, name)
			}
			if err != nil {
				return err
			}
		}
		_, err := tx.Exec(`INSERT INTO agent_document (role, member, version, format, body) VALUES (?, ?, ?, ?, ?)
			ON CONFLICT (role, member) DO UPDATE SET version = excluded.version, format = excluded.format, body = excluded.body`,
			role, name, version, int64(format), body)
		return err
	})
	if err == nil {
		r.wakeWaiters()
	}
	return version, err
}

// Document returns the configuration for an agent; nil if none was set.
func (r *Registry) Document(ctx context.Context, role, name string) (d *agentv1.Document, err error) {
	err = r.db.View(ctx, func(tx *state.Tx) error {
		d = &agentv1.Document{}
		return tx.QueryRow(`SELECT version, format, body FROM agent_document WHERE role = ? AND member IN ('', ?) ORDER BY member DESC LIMIT 1`,
			role, name).Scan(&d.Version, &d.Format, &d.Body)
	})
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return d, err
}

// wakeWaiters wakes the agents that wait for a document.
func (r *Registry) wakeWaiters() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Registry) whenChanged() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// lookEvery is how often the registry checks for documents that another program set.
const lookEvery = 2 * time.Second

// watchDocuments wakes agents that wait for a document when another program has
// set one in the same tables.
func (r *Registry) watchDocuments(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var last string
	for {
		var now string
		err := r.db.View(ctx, func(tx *state.Tx) error {
			now = ""
			return tx.Each(func(row *sql.Rows) error {
				var role, member, version string
				err := row.Scan(&role, &member, &version)
				now += role + " " + member + " " + version + "\n"
				return err
			}, `SELECT role, member, version FROM agent_document ORDER BY role, member`)
		})
		if err == nil && now != last {
			last = now
			r.wakeWaiters()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
