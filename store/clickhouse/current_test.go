package clickhouse

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

// engineVariable names a folder in which 'npm install chdb' was run: chdb is
// the engine of a current ClickHouse as a library.
const engineVariable = "DRAGNET_CHDB"

// engineScript runs statements that come as lines of JSON.
const engineScript = `
const { Session } = require(process.argv[1] + "/node_modules/chdb");
const session = new Session(process.argv[2]);
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  let reply;
  try { reply = { rows: String(session.query(JSON.parse(line), "JSONCompactEachRow") ?? "") }; } catch (e) { reply = { error: String(e) }; }
  process.stdout.write(JSON.stringify(reply) + "\n");
});`

// engine is a connection to it: the statements are those a server gets, only
// their transport is another.
type engine struct {
	driver.Conn // what the store does not use
	mu          sync.Mutex
	in          io.Writer
	out         *bufio.Reader
}

func startEngine(t *testing.T) *engine {
	t.Helper()
	folder := os.Getenv(engineVariable)
	if folder == "" {
		t.Skipf("%s is unset: see docs/how-to/clickhouse.md for how to run the statements on a current engine", engineVariable)
	}
	cmd := exec.Command("node", "-e", engineScript, folder, t.TempDir())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &engine{in: in, out: bufio.NewReader(out)}
}

// TestCurrentEngine runs what the other tests run on Debian's server.
func TestCurrentEngine(t *testing.T) {
	e := startEngine(t)
	n := 0
	for name, check := range checks {
		n++
		db := fmt.Sprintf("check%d", n)
		t.Run(name, func(t *testing.T) {
			check(t, func(t *testing.T) *Writer {
				t.Helper()
				s, err := newStore(e, db, "current engine")
				if err != nil {
					t.Fatal(err)
				}
				if err := s.applyMigrations(context.Background()); err != nil {
					t.Fatal(err)
				}
				return newWriter(s)
			})
		})
	}
}

func (e *engine) Close() error { return nil }

func (e *engine) ServerVersion() (*driver.ServerVersion, error) {
	rows, err := e.run("SELECT version()")
	if err != nil {
		return nil, err
	}
	var text string
	rows.Next()
	if err := rows.Scan(&text); err != nil {
		return nil, err
	}
	var v driver.ServerVersion
	_, err = fmt.Sscanf(text, "%d.%d", &v.Version.Major, &v.Version.Minor)
	return &v, err
}

func (e *engine) run(text string) (*engineRows, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	question, err := json.Marshal(text)
	if err != nil {
		return nil, err
	}
	if _, err := e.in.Write(append(question, '\n')); err != nil {
		return nil, err
	}
	line, err := e.out.ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var reply struct{ Rows, Error string }
	if err := json.Unmarshal(line, &reply); err != nil {
		return nil, err
	}
	if reply.Error != "" {
		return nil, fmt.Errorf("%s in %.2000s", reply.Error, text)
	}
	return &engineRows{left: strings.Split(strings.TrimSpace(reply.Rows), "\n")}, nil
}

func (e *engine) Exec(_ context.Context, text string, _ ...any) error {
	_, err := e.run(text)
	return err
}

func (e *engine) Query(_ context.Context, text string, _ ...any) (driver.Rows, error) {
	return e.run(text)
}

func (e *engine) QueryRow(_ context.Context, text string, _ ...any) driver.Row {
	rows, err := e.run(text)
	if err == nil && !rows.Next() {
		err = io.EOF
	}
	return engineRow{rows, err}
}

func (e *engine) PrepareBatch(_ context.Context, text string, _ ...driver.PrepareBatchOption) (driver.Batch, error) {
	return &engineBatch{e: e, into: text}, nil
}

type engineRow struct {
	rows *engineRows
	err  error
}

func (r engineRow) Err() error           { return r.err }
func (r engineRow) ScanStruct(any) error { return errors.ErrUnsupported }
func (r engineRow) Scan(to ...any) error {
	if r.err != nil {
		return r.err
	}
	return r.rows.Scan(to...)
}

type engineRows struct {
	driver.Rows
	left []string
	now  string
}

func (r *engineRows) Next() bool {
	if len(r.left) == 0 || r.left[0] == "" {
		return false
	}
	r.now, r.left = r.left[0], r.left[1:]
	return true
}

func (r *engineRows) Err() error   { return nil }
func (r *engineRows) Close() error { return nil }

// Scan fills values whose kind is that of the column; 64 bits come in quotes.
func (r *engineRows) Scan(to ...any) error {
	dec := json.NewDecoder(strings.NewReader(r.now))
	dec.UseNumber()
	var values []any
	if err := dec.Decode(&values); err != nil {
		return err
	}
	if len(values) != len(to) {
		return fmt.Errorf("%d columns, want %d", len(values), len(to))
	}
	for i, v := range values {
		text, field := fmt.Sprint(v), reflect.ValueOf(to[i]).Elem()
		var err error
		switch {
		case field.Kind() == reflect.String:
			field.SetString(text)
		case field.CanInt():
			var n int64
			n, err = strconv.ParseInt(text, 10, field.Type().Bits())
			field.SetInt(n)
		default:
			var n uint64
			n, err = strconv.ParseUint(text, 10, field.Type().Bits())
			field.SetUint(n)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

type engineBatch struct {
	driver.Batch
	e       *engine
	into    string
	columns []reflect.Value
}

type engineColumn struct {
	driver.BatchColumn
	b *engineBatch
}

func (b *engineBatch) Column(int) driver.BatchColumn { return engineColumn{b: b} }
func (b *engineBatch) Abort() error                  { return nil }

func (c engineColumn) Append(v any) error {
	c.b.columns = append(c.b.columns, reflect.ValueOf(v))
	return nil
}

func (b *engineBatch) Send() error {
	var text strings.Builder
	text.WriteString(b.into)
	quote := strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`, "\n", `\n`)
	for i := range b.columns[0].Len() {
		separator := " ("
		for _, c := range b.columns {
			text.WriteString(separator)
			separator = ", "
			if v := c.Index(i); v.Kind() == reflect.String {
				text.WriteString("'" + quote.Replace(v.String()) + "'")
			} else {
				fmt.Fprint(&text, v)
			}
		}
		text.WriteString(")")
	}
	return b.e.Exec(context.Background(), text.String())
}
