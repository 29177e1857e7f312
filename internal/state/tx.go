package state

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
)

// Tx is a transaction. Statements mark their parameters with '?' in both
// databases; a '?' inside quotes is text.
type Tx struct {
	ctx      context.Context
	tx       *sql.Tx
	postgres bool
}

// Exec runs a statement.
func (t *Tx) Exec(statement string, args ...any) (sql.Result, error) {
	return t.tx.ExecContext(t.ctx, t.adaptStatement(statement), args...)
}

// Query runs a statement that yields rows, which the caller closes.
func (t *Tx) Query(statement string, args ...any) (*sql.Rows, error) {
	return t.tx.QueryContext(t.ctx, t.adaptStatement(statement), args...)
}

// QueryRow runs a statement that yields one row.
func (t *Tx) QueryRow(statement string, args ...any) *sql.Row {
	return t.tx.QueryRowContext(t.ctx, t.adaptStatement(statement), args...)
}

// Each calls scan for every row of a query and stops at its first error.
func (t *Tx) Each(scan func(*sql.Rows) error, statement string, args ...any) (err error) {
	rows, err := t.Query(statement, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		if err := scan(rows); err != nil {
			return err
		}
	}
	return rows.Err()
}

func (t *Tx) adaptStatement(statement string) string {
	if t.postgres {
		return numberParameters(statement)
	}
	return statement
}

// numberParameters writes the parameters '?' as PostgreSQL's $1, $2, ...
func numberParameters(statement string) string {
	var b strings.Builder
	n, quote := 0, byte(0)
	for i := range len(statement) {
		c := statement[i]
		switch {
		case quote != 0:
			if c == quote {
				quote = 0
			}
		case c == '\'' || c == '"':
			quote = c
		case c == '?':
			n++
			b.WriteByte('$')
			b.WriteString(strconv.Itoa(n))
			continue
		}
		b.WriteByte(c)
	}
	return b.String()
}
