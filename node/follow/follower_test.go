package follow

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/admin"
	"dragnet/internal/run"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
	"dragnet/store"
	"dragnet/store/clickhouse"
	"dragnet/store/disk"
)

const fields = "#separator \\x09\n#unset_field\t-\n#path\tconn\n#open\t%d\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\torig_pkts\n"

// sensor writes a log as Zeek does: it grows, is renamed and started again, and
// the old one is compressed.
type sensor struct {
	t     *testing.T
	dir   string
	next  int
	turns int
}

func (s *sensor) current() string { return filepath.Join(s.dir, "conn.log") }

func (s *sensor) append(text string) {
	s.t.Helper()
	f, err := os.OpenFile(s.current(), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	f.Close()
}

// log writes n lines, each in two halves.
func (s *sensor) log(n int) {
	for range n {
		line := fmt.Sprintf("%d.5\t192.0.2.%d\t%d\t198.51.100.1\t22\ttcp\tSF\t%d\n", 1700000000+s.next, s.next%250, s.next%60000, s.next)
		s.append(line[:len(line)/2])
		s.append(line[len(line)/2:])
		s.next++
	}
}

func (s *sensor) rotate() {
	s.t.Helper()
	s.turns++
	old := filepath.Join(s.dir, fmt.Sprintf("conn.%d.log", s.turns))
	if err := os.Rename(s.current(), old); err != nil {
		s.t.Fatal(err)
	}
	s.append(fmt.Sprintf(fields, s.turns))
	text, err := os.ReadFile(old)
	if err != nil {
		s.t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(text)
	z.Close()
	if err := os.WriteFile(old+".gz", b.Bytes(), 0o600); err != nil {
		s.t.Fatal(err)
	}
	os.Remove(old)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// followed is a follower with the server of its metrics.
type followed struct {
	*Follower
	admin *admin.Server
}

// follower follows logs into the data directory, or database, at place.
func follower(t *testing.T, place, logs string, change func(*Configuration, *Dependencies)) *followed {
	t.Helper()
	c, d := DefaultConfiguration(), Dependencies{Store: store.DefaultConfiguration(), Log: quiet()}
	c.Logs, c.Every, d.Store.Directory = []string{logs}, 100*time.Millisecond, place
	if clickhouse.Is(place) {
		d.Store.Directory, d.Store.ClickHouse = "unused", place
	}
	var err error
	if d.Admin, err = admin.New(admin.Configuration{Listen: "127.0.0.1:0"}, "test", "test", quiet()); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c, &d)
	}
	f, err := New(c, d)
	if err != nil {
		t.Fatal(err)
	}
	return &followed{f, d.Admin}
}

func start(t *testing.T, place, logs string) *followed {
	t.Helper()
	f := follower(t, place, logs, nil)
	if err := (run.Parts{f.Follower, f.admin}).Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	return f
}

func stop(t *testing.T, f *followed) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := (run.Parts{f.Follower, f.admin}).Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func numbers(t *testing.T, dir string) []int {
	t.Helper()
	s, err := ingest.OpenReader(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	var out []int
	_, err = s.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range batch {
			out = append(out, int(f.OrigPkts))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func get(t *testing.T, f *followed, path string) (int, string) {
	t.Helper()
	return testkit.Get(t, "http://"+f.admin.Address()+path)
}

// within waits until ok, and fails the test after a minute.
func within(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// TestALogIsFollowedThroughRotation also stops and starts the service while the
// log grows: every line is stored once.
func TestALogIsFollowedThroughRotation(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	log := &sensor{t: t, dir: t.TempDir()}
	log.append(fmt.Sprintf(fields, 0))
	s := start(t, dir, log.dir)
	for i := range 12 {
		log.log(200)
		if i%3 == 2 {
			log.rotate()
		}
		if i%4 == 3 {
			stop(t, s)
			log.log(50)
			s = start(t, dir, log.dir)
		}
	}
	within(t, "readiness", func() bool { code, _ := get(t, s, "/readyz"); return code == http.StatusOK })
	// Flows are seen beside the running service.
	within(t, "all lines", func() bool { return len(numbers(t, dir)) >= log.next })
	if code, text := get(t, s, "/livez"); code != http.StatusOK {
		t.Errorf("/livez: %d %s", code, text)
	}
	want := fmt.Sprintf("dragnet_flows_stored %d\n", log.next)
	within(t, want, func() bool { _, text := get(t, s, "/metrics"); return strings.Contains(text, want) })
	stop(t, s)
	got := numbers(t, dir)
	if len(got) != log.next || len(slices.Compact(got)) != log.next {
		t.Errorf("%d flows are stored, %d were logged", len(got), log.next)
	}
	if found, err := disk.Check(context.Background(), dir, nil); err != nil || len(found) > 0 {
		t.Error(found, err)
	}
}

// TestNodesFollowIntoOneDatabase: two nodes see the same log grow; then the
// server goes away, both end with an error, and others continue where they were.
func TestNodesFollowIntoOneDatabase(t *testing.T) {
	testkit.Long(t)
	server := testkit.StartClickHouse(t)
	address := server.Address("nodes")
	log := &sensor{t: t, dir: t.TempDir()}
	log.append(fmt.Sprintf(fields, 0))
	nodes := []*followed{start(t, address, log.dir), start(t, address, log.dir)}
	for range 4 {
		log.log(150)
		log.rotate()
	}
	within(t, "all lines", func() bool { return len(numbers(t, address)) >= log.next })
	server.Kill()
	log.log(150)
	for _, s := range nodes {
		if err := <-s.Failed(); err == nil {
			t.Error("a node without its database ended without an error")
		}
	}
	server.Start()
	// The claims of those that failed last half a minute.
	s := start(t, address, log.dir)
	within(t, "all lines", func() bool { return len(numbers(t, address)) >= log.next })
	if got := numbers(t, address); len(got) != log.next || len(slices.Compact(slices.Clone(got))) != log.next {
		t.Fatalf("%d flows are stored, %d different, %d were logged", len(got), len(slices.Compact(got)), log.next)
	}
	want := fmt.Sprintf("dragnet_flows_stored %d\n", log.next)
	within(t, want, func() bool { _, text := get(t, s, "/metrics"); return strings.Contains(text, want) })
	stop(t, s)
}

// TestNewDayUsesNewSalts moves the clock, forwards and back.
func TestNewDayUsesNewSalts(t *testing.T) {
	log := &sensor{t: t, dir: t.TempDir()}
	log.append(fmt.Sprintf(fields, 0))
	log.log(100)
	dir := filepath.Join(t.TempDir(), "data")
	s := follower(t, dir, log.dir, nil)
	var err error
	now := time.Date(2023, 11, 15, 0, 0, 0, 0, time.UTC)
	s.now = func() time.Time { return now }
	s.epoch = s.currentEpoch()
	if s.place, err = ingest.OpenWriter(context.Background(), dir, s.epoch); err != nil {
		t.Fatal(err)
	}
	if err := s.prepareImporter(context.Background()); err != nil {
		t.Fatal(err)
	}
	stored := func() *disk.Store {
		d, err := disk.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = d.Close() })
		return d
	}
	for _, day := range []string{"2023-11-15", "2023-11-16", "2040-01-01", "2023-11-15"} {
		if now, err = time.Parse(time.DateOnly, day); err != nil {
			t.Fatal(err)
		}
		log.log(10)
		if err := s.readLogs(context.Background()); err != nil {
			t.Fatal(err)
		}
		for _, g := range stored().Segments() {
			if g.Epoch != day {
				t.Errorf("on %s a segment is of epoch %s", day, g.Epoch)
			}
		}
	}
	if cov, err := stored().Coverage(t.Context()); err != nil || cov.Flows != uint64(log.next) {
		t.Errorf("%d flows after the clock jumped, want %d, %v", cov.Flows, log.next, err)
	}
	stop(t, s)
}

func TestInvalidSettings(t *testing.T) {
	for name, change := range map[string]func(*Configuration, *Dependencies){
		"every":     func(c *Configuration, _ *Dependencies) { c.Every = 0 },
		"keep_days": func(_ *Configuration, d *Dependencies) { d.Store.KeepDays = -1 },
		"directory": func(_ *Configuration, d *Dependencies) { d.Store.Directory = "" },
	} {
		c, d := DefaultConfiguration(), Dependencies{Store: store.DefaultConfiguration(), Log: quiet()}
		change(&c, &d)
		if _, err := New(c, d); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
