package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"dragnet/flow"
	"dragnet/store"
)

// Store is a database of flows. It is safe for concurrent use.
type Store struct {
	conn    driver.Conn
	db      string
	address string // without its password
	version release
}

// Open opens the store at an address for reading.
func Open(ctx context.Context, address string) (*Store, error) {
	s, err := connect(ctx, address)
	if err != nil {
		return nil, err
	}
	version, err := s.schemaVersion(ctx)
	if err == nil && version == 0 {
		err = fmt.Errorf("%s holds no flows yet; 'dragnet flow import --data %[1]s FILE...' adds some", s.address)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Close ends the connection.
func (s *Store) Close() error { return s.conn.Close() }

// view is what is committed at one time.
type view struct {
	flow.Coverage
	// visible is the condition that a row counts.
	visible string
}

func (s *Store) readView(ctx context.Context) (v view, err error) {
	// A writer whose days were all dropped has no rows left to show.
	var writers, batches []string
	err = s.eachRow(ctx, "read the commits", "SELECT writer, max(batch) FROM $db.commits WHERE id = '' AND writer IN (SELECT writer FROM $db.days) GROUP BY writer", func(r driver.Rows) error {
		var writer, batch uint64
		err := r.Scan(&writer, &batch)
		writers, batches = append(writers, fmt.Sprint(writer)), append(batches, fmt.Sprint(batch))
		return err
	})
	if err != nil {
		return v, err
	}
	v.visible = committedCondition(writers, batches)
	text := "SELECT sum(flows), min(first_start), max(last_start), max(sampling_rate) FROM $db.days WHERE " + v.visible
	err = s.eachRow(ctx, "read what is stored", text, func(r driver.Rows) error {
		return r.Scan(&v.Flows, (*int64)(&v.From), (*int64)(&v.To), &v.Sampling)
	})
	if err != nil {
		return v, err
	}
	text = "SELECT sum(most) FROM (SELECT max(skipped) AS most FROM $db.commits WHERE id != '' GROUP BY id)"
	err = s.eachRow(ctx, "read what was skipped", text, func(r driver.Rows) error { return r.Scan(&v.Skipped) })
	return v, err
}

// fewWriters is the number up to which comparing with each is faster than a
// table.
const fewWriters = 8

// committedCondition is the condition that a row is of one of writers and of at
// most its batch in batches.
func committedCondition(writers, batches []string) string {
	if len(writers) == 0 {
		return "0"
	}
	if len(writers) > fewWriters {
		// An array of numbers takes the narrowest type that fits all.
		return fmt.Sprintf("batch <= transform(writer, [%s, 18446744073709551615], [%s, 18446744073709551615], toUInt64(0))", strings.Join(writers, ", "), strings.Join(batches, ", "))
	}
	any := make([]string, len(writers))
	for i := range writers {
		any[i] = fmt.Sprintf("writer = %s AND batch <= %s", writers[i], batches[i])
	}
	return "(" + strings.Join(any, " OR ") + ")"
}

// Coverage describes what is stored. Lines that could not be used were listed
// when they were imported; here they are only counted.
func (s *Store) Coverage(ctx context.Context) (flow.Coverage, error) {
	v, err := s.readView(ctx)
	return v.Coverage, err
}

// Bytes is the size of all tables on the server's disk.
func (s *Store) Bytes(ctx context.Context) (n int64, err error) {
	var total uint64
	err = s.eachRow(ctx, "read the sizes", "SELECT sum(bytes_on_disk) FROM system.parts WHERE database = '$db' AND active", func(r driver.Rows) error { return r.Scan(&total) })
	return int64(total), err
}

// Sources lists the logs imported, by all nodes.
func (s *Store) Sources(ctx context.Context) ([]store.ImportedLog, error) {
	return s.readSources(ctx, "1")
}

// sourceColumns are the columns of an insert into commits.
const sourceColumns = "id, writer, batch, name, read_bytes, head, tail, line, header, whole, flows, skipped, imported"

func (s *Store) readSources(ctx context.Context, where string) (all []store.ImportedLog, err error) {
	text := "SELECT id, name, read_bytes, head, tail, line, header, whole, flows, skipped, imported FROM $db.commits WHERE id != '' AND " + where +
		" ORDER BY id, read_bytes DESC, batch DESC LIMIT 1 BY id"
	err = s.eachRow(ctx, "read what was imported", text, func(r driver.Rows) error {
		var f store.ImportedLog
		var whole uint8
		err := r.Scan(&f.ID, &f.Name, &f.Offset, &f.Head, &f.Tail, &f.Line, &f.Header, &whole, &f.Flows, &f.Skipped, (*int64)(&f.Imported))
		f.Whole = whole != 0
		all = append(all, f)
		return err
	})
	return all, err
}
