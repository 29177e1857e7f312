package ingest

import (
	"context"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/store"
)

// openPlace opens a database as an importer does.
func openPlace(t *testing.T, address string) (store.Writer, *Importer) {
	t.Helper()
	ctx := context.Background()
	place, err := OpenWriter(ctx, address, epoch)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = place.Close() })
	sources, err := place.Sources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return place, NewImporter(sources, place)
}

func importInto(t *testing.T, m *Importer, file string, want ImportStatus, flows uint64) {
	t.Helper()
	done, err := m.Import(context.Background(), file)
	if err != nil {
		t.Fatal(err)
	}
	if done.Status != want || done.Flows != flows {
		t.Errorf("%s: %+v, want %s with %d flows", filepath.Base(file), done, want, flows)
	}
	if err := m.Commit(); err != nil {
		t.Fatal(err)
	}
}

// TestNodesShareADatabase: two nodes that follow the same logs import each line
// once, whichever comes first, and know what the other did.
func TestNodesShareADatabase(t *testing.T) {
	address := testkit.StartClickHouse(t).Address("nodes")
	p := newPlace(t)
	file := p.write("whole.log", connLog(0, perLog))
	placeA, a := openPlace(t, address)
	_, b := openPlace(t, address)
	importInto(t, a, file, New, perLog)
	importInto(t, b, file, Unchanged, 0)
	var half string
	grow := func(n int) {
		t.Helper()
		half = p.write("half.log", connLog(20*perLog, 20*perLog+n))
	}
	grow(100)
	importInto(t, b, half, New, 100)
	grow(150)
	importInto(t, a, half, Grown, 50)
	importInto(t, b, half, Unchanged, 0)
	// While one imports, the other is refused.
	grow(200)
	if _, err := b.Import(context.Background(), half); err != nil {
		t.Fatal(err)
	}
	done, err := a.Import(context.Background(), half)
	if err != nil || done.Status != Busy || !strings.Contains(done.Problem, "another node") {
		t.Errorf("a log that another imports: %+v, %v", done, err)
	}
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
	importInto(t, a, half, Unchanged, 0)
	// A third that comes later knows it all.
	_, c := openPlace(t, address)
	importInto(t, c, half, Unchanged, 0)
	if cov, err := placeA.Coverage(context.Background()); err != nil || cov.Flows != perLog+200 {
		t.Errorf("%d flows, want %d (%v)", cov.Flows, perLog+200, err)
	}
}

// TestNodesRaceForLogs: four nodes are offered the same logs at once, again and
// again until each line is in.
func TestNodesRaceForLogs(t *testing.T) {
	address := testkit.StartClickHouse(t).Address("race")
	p := newPlace(t)
	const logs = 4
	for n := range logs {
		p.write(filepath.Base(logName(p.logs, n)), connLog(n*perLog, (n+1)*perLog))
	}
	place, _ := openPlace(t, address)
	var wg sync.WaitGroup
	for range 4 {
		_, m := openPlace(t, address)
		wg.Go(func() {
			for left := true; left; {
				left = false
				for n := range logs {
					done, err := m.Import(context.Background(), logName(p.logs, n))
					if err == nil {
						err = m.Commit()
					}
					if err != nil {
						t.Error(err)
						return
					}
					if done.Status == Busy {
						left = true
						time.Sleep(20 * time.Millisecond)
					}
				}
			}
		})
	}
	wg.Wait()
	if cov, err := place.Coverage(context.Background()); err != nil || cov.Flows != logs*perLog {
		t.Errorf("%d flows, want %d (%v)", cov.Flows, logs*perLog, err)
	}
}

func TestClaimNamesLastAsLogsGrow(t *testing.T) {
	const header = "#separator \\x09\n#open 2026\n"
	name := func(text string, want bool) string {
		t.Helper()
		n, started := claimName([]byte(text))
		if started != want {
			t.Errorf("%q: started %v", text, started)
		}
		return n
	}
	name("", false)
	name(header, false)
	name(header+"1\ta", false)
	name(strings.Repeat("#\n", identityBytes/2), true)
	first := name(header+"1\ta\n", true)
	if name(header+"1\ta\n2\t", true) != first || name(header+"1\ta\n2\tb\n", true) != first {
		t.Error("the name changes when the log grows")
	}
	if name(header+"1\tc\n", true) == first {
		t.Error("two logs share a name")
	}
}
