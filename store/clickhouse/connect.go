package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const scheme = "clickhouse://"

// PasswordVariable is the environment variable with the password if the address
// has none: addresses are visible in process lists.
const PasswordVariable = "DRAGNET_CLICKHOUSE_PASSWORD"

// Is reports whether place looks like the address of a database.
func Is(place string) bool { return strings.HasPrefix(place, scheme) }

var databaseName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,62}$`)

// Check reports what is wrong with an address.
func Check(address string) error {
	_, _, err := parseAddress(address)
	return err
}

// parseAddress reads clickhouse://[user[:password]@]host[:port]/database, to which
// options of the driver may be added, such as ?secure=true.
func parseAddress(address string) (*clickhouse.Options, string, error) {
	o, err := clickhouse.ParseDSN(address)
	if err != nil {
		// The driver's message holds the whole address.
		return nil, "", fmt.Errorf("%s; want clickhouse://user@host:9000/database", Redact(err.Error()))
	}
	database := o.Auth.Database
	if !Is(address) || !databaseName.MatchString(database) {
		return nil, "", fmt.Errorf("%s names no database: want clickhouse://user@host:9000/database, of letters, digits and _", Redact(address))
	}
	for i, host := range o.Addr {
		if _, _, err := net.SplitHostPort(host); err != nil {
			o.Addr[i] = net.JoinHostPort(strings.Trim(host, "[]"), "9000")
		}
	}
	if o.Auth.Password == "" {
		o.Auth.Password = os.Getenv(PasswordVariable)
	}
	o.Auth.Database = "" // it may not exist yet; every table name is qualified
	o.DialTimeout = 10 * time.Second
	// Keys and committed batches are part of the text of a query.
	o.Settings = clickhouse.Settings{"max_query_size": 64 << 20}
	return o, database, nil
}

var secret = regexp.MustCompile(`(://[^:@/]*):[^@]*@`)

// Redact removes the password from an address, for messages.
func Redact(address string) string { return secret.ReplaceAllString(address, "$1:...@") }

// connect opens a connection and learns the server's version.
func connect(ctx context.Context, address string) (*Store, error) {
	o, database, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	conn, err := clickhouse.Open(o)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Redact(address), err)
	}
	return newStore(conn, database, Redact(address))
}

func newStore(conn driver.Conn, database, address string) (*Store, error) {
	s := &Store{conn: conn, db: database, address: address}
	v, err := conn.ServerVersion()
	if err != nil {
		return nil, errors.Join(s.wrapError("connect", err), conn.Close())
	}
	s.version = release{int(v.Version.Major), int(v.Version.Minor)}
	return s, nil
}

// release is a server's version: the year and the number within it.
type release struct{ major, minor int }

func (r release) atLeast(major, minor int) bool {
	return r.major > major || r.major == major && r.minor >= minor
}

// wrapError adds the address and the operation to an error.
func (s *Store) wrapError(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %s: %w", s.address, doing, err)
}

// qualify completes the names of tables.
func (s *Store) qualify(text string) string { return strings.ReplaceAll(text, "$db", s.db) }

func (s *Store) execText(ctx context.Context, doing, text string) error {
	return s.wrapError(doing, s.conn.Exec(ctx, s.qualify(text)))
}

// eachRow runs a query and calls scan once for every row.
func (s *Store) eachRow(ctx context.Context, doing, text string, scan func(driver.Rows) error) error {
	rows, err := s.conn.Query(ctx, s.qualify(text))
	if err != nil {
		return s.wrapError(doing, err)
	}
	for rows.Next() {
		if err := scan(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return s.wrapError(doing, errors.Join(rows.Err(), rows.Close()))
}

// insertBlock sends columns as one block.
func (s *Store) insertBlock(ctx context.Context, into string, columns ...any) error {
	if s.version.atLeast(21, 11) {
		// An insert that the server only queued is not acknowledged.
		ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{"async_insert": 0, "max_query_size": 64 << 20}))
	}
	// Servers before 19 want the names and the word VALUES.
	batch, err := s.conn.PrepareBatch(ctx, s.qualify("INSERT INTO "+into+" VALUES"))
	if err != nil {
		return s.wrapError("insert", err)
	}
	for i, c := range columns {
		if err := batch.Column(i).Append(c); err != nil {
			return s.wrapError("insert", errors.Join(err, batch.Abort()))
		}
	}
	return s.wrapError("insert", batch.Send())
}
