// Package sensors is the node's side of its sensors: it takes their batches of
// flows from the agents' channel and keeps them until they are stored, so that
// each flow is stored once whatever is interrupted.
package sensors

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/source/sensor"
	agentv1 "dragnet/wire/agent/v1"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Intake keeps what sensors sent. It is safe for concurrent use.
type Intake struct {
	db  *state.DB
	now func() time.Time
}

// Dependencies of an intake.
type Dependencies struct {
	DB     *state.DB // of its tables
	Agents *agents.Registry
}

// New makes an intake; sensors' items are handled from when agents are served.
func New(d Dependencies) *Intake {
	i := &Intake{db: d.DB, now: time.Now}
	d.Agents.Handle(sensor.BatchKind, agents.Handler{Roles: []string{"sensor"}, Handle: i.keep})
	return i
}

// Start brings the tables up to date. The database must be open.
func (i *Intake) Start(ctx context.Context) error {
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	return i.db.Migrate(ctx, "sensor", steps)
}

// Stop does nothing.
func (*Intake) Stop(context.Context) error { return nil }

// maxWaiting bounds the batches that wait; each takes at most 1 MiB. Sensors keep
// the others in their spools meanwhile.
const maxWaiting = 1024

var errFull = errors.New("the store is behind with the flows of sensors")

// keep takes one batch.
func (i *Intake) keep(_ context.Context, tx *state.Tx, from agents.From, item *agentv1.Item) error {
	if item.Format != sensor.BatchFormat {
		return agents.Refuse(fmt.Errorf("flows of format %d; this node knows %d", item.Format, sensor.BatchFormat))
	}
	b, err := sensor.Decode(item.Body)
	if err != nil {
		return agents.Refuse(err)
	}
	var waiting int
	if err := tx.QueryRow(`SELECT COUNT(*) FROM sensor_batch`).Scan(&waiting); err != nil {
		return err
	}
	if waiting >= maxWaiting {
		return errFull
	}
	c, at := b.Counts, i.now().UnixNano()
	if _, err := tx.Exec(`INSERT INTO sensor_count (member, last, at, flows, packets, dropped, skipped, early, lost) VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (member) DO UPDATE SET last = sensor_count.last + 1, at = excluded.at, flows = sensor_count.flows + excluded.flows,
		packets = sensor_count.packets + excluded.packets, dropped = sensor_count.dropped + excluded.dropped, skipped = sensor_count.skipped + excluded.skipped,
		early = sensor_count.early + excluded.early, lost = sensor_count.lost + excluded.lost`,
		from.Name, at, len(b.Flows), bounded(c.Packets), bounded(c.Dropped), bounded(c.Skipped), bounded(c.Early), bounded(c.Lost)); err != nil {
		return err
	}
	if len(b.Flows) == 0 {
		return nil
	}
	_, err = tx.Exec(`INSERT INTO sensor_batch (member, number, body) SELECT member, last, ? FROM sensor_count WHERE member = ?`, item.Body, from.Name)
	return err
}

// bounded keeps a sum within what databases count, whatever a sensor says.
func bounded(n uint64) int64 { return int64(min(n, 1<<50)) }

// Waiting is one batch that waits to be stored.
type Waiting struct {
	Sensor string
	// Number ascends with each batch of a sensor.
	Number int64
	Flows  []flow.Flow
}

// Take shows the batches that wait to store, in order for each sensor, and
// forgets them when it returns without an error. A crash between makes them come
// again, with the same numbers.
func (i *Intake) Take(ctx context.Context, store func([]Waiting) error) error {
	for {
		batches, err := i.next(ctx)
		if err != nil || len(batches) == 0 {
			return err
		}
		if err := store(batches); err != nil {
			return err
		}
		if err := i.db.Update(ctx, func(tx *state.Tx) error {
			for _, b := range batches {
				if _, err := tx.Exec(`DELETE FROM sensor_batch WHERE member = ? AND number = ?`, b.Sensor, b.Number); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
}

// atOnce bounds the batches in memory.
const atOnce = 32

func (i *Intake) next(ctx context.Context) (batches []Waiting, err error) {
	err = i.db.View(ctx, func(tx *state.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var w Waiting
			var body []byte
			if err := rows.Scan(&w.Sensor, &w.Number, &body); err != nil {
				return err
			}
			b, err := sensor.Decode(body)
			if err != nil {
				return fmt.Errorf("batch %d of sensor %s: %w", w.Number, w.Sensor, err)
			}
			w.Flows = b.Flows
			batches = append(batches, w)
			return nil
		}, `SELECT member, number, body FROM sensor_batch ORDER BY member, number LIMIT ?`, atOnce)
	})
	return batches, err
}

// Seen is what a sensor said of itself so far.
type Seen struct {
	Sensor string
	At     time.Time
	Flows  uint64
	sensor.Counts
}

// Seen lists all sensors by name.
func (i *Intake) Seen(ctx context.Context) (all []Seen, err error) {
	err = i.db.View(ctx, func(tx *state.Tx) error {
		return tx.Each(func(rows *sql.Rows) error {
			var s Seen
			var at int64
			if err := rows.Scan(&s.Sensor, &at, &s.Flows, &s.Packets, &s.Dropped, &s.Skipped, &s.Early, &s.Lost); err != nil {
				return err
			}
			s.At = time.Unix(0, at).UTC()
			all = append(all, s)
			return nil
		}, `SELECT member, at, flows, packets, dropped, skipped, early, lost FROM sensor_count ORDER BY member`)
	})
	return all, err
}
