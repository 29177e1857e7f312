package clickhouse

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

var update = flag.Bool("update", false, "rewrite the golden states; only for a migration that is not released yet")

// current is a current server.
var current = release{26, 7}

// showCreate lists how the server describes every table, in order of names.
func showCreate(t *testing.T, s *Store) string {
	t.Helper()
	var names, out []string
	err := s.eachRow(context.Background(), "test", "SELECT name FROM system.tables WHERE database = '$db' ORDER BY name", func(r driver.Rows) error {
		var name string
		err := r.Scan(&name)
		names = append(names, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		err := s.eachRow(context.Background(), "test", "SHOW CREATE TABLE $db."+name, func(r driver.Rows) error {
			var text string
			err := r.Scan(&text)
			out = append(out, strings.ReplaceAll(text, s.db+".", "")+";\n")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return strings.Join(out, "\n")
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: want (-) and got (+) differ:\n%s", path, diff)
	}
}

// TestStates: every migration leaves what it left when it was released, on
// Debian's server; a database in any of the states comes to the present one,
// with its flows.
func TestStates(t *testing.T) {
	server := testkit.StartClickHouse(t)
	flows := someFlows(12, 500)
	all := listMigrations(release{18, 16})
	for n := 1; n <= len(all); n++ {
		address := server.Address(fmt.Sprintf("state%d", n))
		old := writerAt(t, address, n)
		golden(t, fmt.Sprintf("state%d-18.16.sql", n), showCreate(t, old.Store))
		add(t, old, flows)
		if _, err := Open(context.Background(), address); err != nil {
			t.Errorf("schema %d cannot be read: %v", n, err)
		}
		w := openWriter(t, address)
		golden(t, fmt.Sprintf("state%d-18.16.sql", len(all)), showCreate(t, w.Store))
		if _, cov := allOf(t, w.Store); cov.Flows != uint64(len(flows)) {
			t.Errorf("schema %d came to the present one with %d flows, want %d", n, cov.Flows, len(flows))
		}
	}
	w := openWriter(t, server.Address("state1"))
	if err := w.insertBlock(context.Background(), "$db.schema (version)", []uint32{99}); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWriter(context.Background(), server.Address("state1")); err == nil || !strings.Contains(err.Error(), "has schema 99") {
		t.Errorf("a schema of the future: %v", err)
	}
}

// writerAt opens a new database as a program that knew n migrations did.
func writerAt(t *testing.T, address string, n int) *Writer {
	t.Helper()
	s, err := connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	statements := slices.Concat([]string{"CREATE DATABASE $db", "CREATE TABLE $db.schema (version UInt32) ENGINE = MergeTree ORDER BY version"}, slices.Concat(listMigrations(s.version)[:n]...))
	for _, text := range statements {
		if err := s.execText(context.Background(), "test", text); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.insertBlock(context.Background(), "$db.schema (version)", []uint32{uint32(n)}); err != nil {
		t.Fatal(err)
	}
	again, err := connect(context.Background(), address)
	if err != nil {
		t.Fatal(err)
	}
	w := newWriter(again)
	t.Cleanup(func() { _ = w.Close() })
	return w
}

func allOf(t *testing.T, s *Store) ([]flow.Flow, flow.Coverage) {
	return all(t, s, flow.AllTime, flow.AllColumns)
}

// checkConnectionsView: people read the same flows, by name.
func checkConnectionsView(t *testing.T, open func(*testing.T) *Writer) {
	w := open(t)
	flows := someFlows(13, 400)
	add(t, w, flows)
	if err := w.Append(context.Background(), someFlows(14, 10)); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	err := w.flushBlock(context.Background())
	w.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	var want, got []string
	for _, f := range flows {
		want = append(want, fmt.Sprint(int64(f.Start), f.Orig, f.OrigPort, f.Resp, f.RespPort, f.State, f.History))
	}
	err = w.eachRow(context.Background(), "test", "SELECT start_time, src_addr, src_port, dst_addr, dst_port, conn_state, history FROM $db.connections", func(r driver.Rows) error {
		var start int64
		var sport, dport uint16
		var src, dst, state, history string
		err := r.Scan(&start, &src, &sport, &dst, &dport, &state, &history)
		got = append(got, fmt.Sprint(start, src, sport, dst, dport, state, history))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range want { // fmt puts a space between what are no strings
		want[i] = strings.ReplaceAll(want[i], " ", "")
	}
	for i := range got {
		got[i] = strings.ReplaceAll(got[i], " ", "")
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("stored (-) and shown (+) differ:\n%.2000s", diff)
	}
}

// TestStatementsForCurrentServers keeps what a server of today is sent, which
// is not run here; see docs/how-to/clickhouse.md.
func TestStatementsForCurrentServers(t *testing.T) {
	var out []string
	for _, m := range listMigrations(current) {
		out = append(out, m...)
	}
	golden(t, "current.sql", strings.ReplaceAll(strings.Join(out, ";\n\n"), "$db.", "")+";\n")
}
