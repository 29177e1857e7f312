package clickhouse

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/store"
)

// TestServerGoesAway kills the server at random moments of inserts and commits.
// Whatever was acknowledged must be there once; what was not, all of it once or
// not at all, as the state of its log says.
func TestServerGoesAway(t *testing.T) {
	server := testkit.StartClickHouse(t)
	address := server.Address("fault")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds := 8
	if testkit.Short(t) {
		rounds = 3
	}
	const perBatch, batches = 100, 200
	flows := someFlows(9, batches*perBatch)
	next, broken, hit := 0, 0, 0 // next: the batch after the last that is acknowledged
	for broken < rounds {
		w, err := OpenWriter(context.Background(), address)
		if err != nil {
			t.Fatalf("after %d faults: %v", broken, err)
		}
		next = imported(t, w.Store)
		// The fault comes within the batch that follows a few, or the one after.
		var fault *time.Timer
		done := make(chan struct{})
		took := 50 * time.Millisecond
		for left := rng.IntN(6); next < batches && err == nil; next++ {
			if left--; left < 0 && fault == nil {
				fault = time.AfterFunc(time.Duration(rng.Int64N(2*int64(took))), func() {
					server.Kill()
					close(done)
				})
			}
			start := time.Now()
			if err = w.Append(context.Background(), flows[next*perBatch:][:perBatch]); err == nil {
				err = w.Commit(store.ImportedLog{ID: "log", Offset: int64(next + 1), Flows: perBatch})
			}
			if took = time.Since(start); err != nil {
				next--
			}
		}
		if err != nil {
			hit++
			if w.Commit() == nil {
				t.Fatal("a writer that failed goes on")
			}
		}
		if fault != nil && !fault.Stop() {
			<-done
		}
		server.Kill()
		server.Start()
		broken++
		_ = w.Close()
		s, err := Open(context.Background(), address)
		if err != nil {
			t.Fatal(err)
		}
		now := imported(t, s)
		if now != next && now != next+1 {
			t.Fatalf("%d batches were acknowledged, the store has %d", next, now)
		}
		got, cov := all(t, s, flow.AllTime, flow.AllColumns)
		if want := expect(flows[:now*perBatch], flow.AllTime); !slices.Equal(want, got) || cov.Flows != uint64(len(want)) {
			t.Fatalf("after %d batches, coverage %d: want (-) and stored (+) differ:\n%.2000s", now, cov.Flows, gocmp.Diff(want, got, comparing))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d batches; %d of %d faults interrupted one", next, hit, broken)
	if next < 3 || hit == 0 {
		t.Error("hardly anything was imported or interrupted, so nothing was tested")
	}
}

// imported is the number of batches in the state of the log.
func imported(t *testing.T, s *Store) int {
	t.Helper()
	sources, err := s.Sources(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(sources) == 0 {
		return 0
	}
	if len(sources) > 1 {
		t.Fatalf("one log, but states of %d: %+v", len(sources), sources)
	}
	return int(sources[0].Offset)
}

// checkClaims: of two writers one gets a log; the other gets it, with what became
// of it, after a commit, or when the first has been still for too long.
func checkClaims(t *testing.T, open func(*testing.T) *Writer) {
	ctx := context.Background()
	a, b := open(t), open(t)
	claim := func(w *Writer, name string, want bool) []store.ImportedLog {
		t.Helper()
		free, news, err := w.Claim(ctx, name)
		if err != nil || free != want {
			t.Fatalf("claim %s: free %v, want %v (%v)", name, free, want, err)
		}
		return news
	}
	claim(a, "1a", true)
	claim(a, "1a", true)
	claim(b, "1a", false)
	claim(b, "2b", true)
	add(t, a, someFlows(10, 50), store.ImportedLog{ID: "one", Name: "conn.log", Offset: 500})
	if news := claim(b, "1a", true); len(news) != 1 || news[0].Offset != 500 {
		t.Errorf("what the first committed is told as %+v", news)
	}
	if news := claim(b, "3c", true); len(news) != 0 {
		t.Errorf("old news: %+v", news)
	}
	// The first is suspended until its claim has expired.
	claim(a, "4d", true)
	if err := a.Append(ctx, someFlows(11, 50)); err != nil {
		t.Fatal(err)
	}
	if err := a.execText(ctx, "test", "INSERT INTO $db.claims SELECT day, name, writer, turn + 5, held, toUInt32(1) FROM $db.claims WHERE name = '4d'"); err != nil {
		t.Fatal(err)
	}
	claim(b, "4d", true)
	if err := a.Commit(store.ImportedLog{ID: "four"}); err == nil || !strings.Contains(err.Error(), "nothing was committed") {
		t.Errorf("a writer that lost its claim commits: %v", err)
	}
	if cov, err := b.Coverage(ctx); err != nil || cov.Flows != 50 {
		t.Errorf("%d flows, want 50 (%v)", cov.Flows, err)
	}
	// A writer that ends lets go.
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	claim(open(t), "2b", true)
	if _, _, err := a.Claim(ctx, "x'"); err == nil {
		t.Error("a name that is not a sum was taken")
	}
}
