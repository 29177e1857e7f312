package lapi_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/publish"
	"dragnet/publish/lapi"
	"dragnet/publish/publishtest"
)

// filled is a server with n bans and as many keys; what the test needed to make
// them is given back.
func filled(b *testing.B, n, keys int) (*httptest.Server, *lapi.Server, *publishtest.Source, *publish.Feed) {
	b.Helper()
	var lines strings.Builder
	for i := range keys {
		fmt.Fprintln(&lines, lapi.KeyLine(fmt.Sprint("b", i), fmt.Sprint("key", i)))
	}
	path := filepath.Join(b.TempDir(), "keys")
	if err := os.WriteFile(path, []byte(lines.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	k, err := lapi.OpenKeys(path)
	if err != nil {
		b.Fatal(err)
	}
	source := publishtest.New()
	source.Fill(n)
	feed := source.Feed(b)
	server := lapi.New(k, feed.Now)
	server.Update(lapi.FromView(feed.View(), 0))
	s := httptest.NewServer(server)
	b.Cleanup(s.Close)
	return s, server, source, feed
}

func pull(b *testing.B, url string, key int, query string) int64 {
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url+"/v1/decisions/stream?"+query, nil)
	if err != nil {
		b.Error(err)
		return 0
	}
	r.Header.Set("X-Api-Key", fmt.Sprint("key", key))
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Error(err)
		return 0
	}
	defer a.Body.Close()
	n, err := io.Copy(io.Discard, a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		b.Errorf("%s, %v", a.Status, err)
	}
	return n
}

// BenchmarkStartup lets 100 bouncers pull 300,000 decisions at once. MB is the
// most memory that Go's heap took from the system meanwhile, of server and
// clients together; MB-before is that of the lists at rest.
func BenchmarkStartup(b *testing.B) {
	const bouncers = 100
	s, server, _, _ := filled(b, 300_000, bouncers)
	debug.FreeOSMemory()
	before := inUse()
	var most uint64
	for b.Loop() {
		var wg sync.WaitGroup
		for i := range bouncers {
			wg.Go(func() { b.SetBytes(bouncers * pull(b, s.URL, i, "startup=true")) })
		}
		done := make(chan struct{})
		go func() { wg.Wait(); close(done) }()
		for waiting := true; waiting; {
			select {
			case <-done:
				waiting = false
			case <-time.After(20 * time.Millisecond):
				most = max(most, inUse())
			}
		}
	}
	b.ReportMetric(float64(before)/1e6, "MB-before")
	b.ReportMetric(float64(most)/1e6, "MB")
	runtime.KeepAlive(server)
}

func inUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}

// BenchmarkDelta pulls what changed when 1000 of 300,000 decisions did, and when
// nothing did.
func BenchmarkDelta(b *testing.B) {
	for _, changed := range []int{0, 1000} {
		b.Run(fmt.Sprint("changed=", changed), func(b *testing.B) {
			s, server, source, feed := filled(b, 300_000, 1)
			pull(b, s.URL, 0, "startup=true")
			round := 0
			for b.Loop() {
				b.StopTimer()
				if changed > 0 {
					round++
					source.Advance(time.Second)
					source.Fill(changed)
					server.Update(lapi.FromView(publishtest.Refresh(b, feed), 0))
				}
				b.StartTimer()
				pull(b, s.URL, 0, "")
			}
		})
	}
}
