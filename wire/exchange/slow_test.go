package exchange

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// TestSlowReader: who does not read its answer holds it in memory for a bounded time;
// who reads slowly, but reads, gets it whole, and so does who waits for an answer
// whose parts take long to make.
func TestSlowReader(t *testing.T) {
	const size = 16 << 20
	for _, protocol := range []string{"h2", "http/1.1"} {
		ended := make(chan error, 1)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b := &boundedWriter{ResponseWriter: w, control: http.NewResponseController(w), within: time.Second}
			if r.URL.Path == "/parts" {
				for range 2 {
					if _, err := b.Write([]byte("part")); err != nil {
						ended <- err
						return
					}
					b.Flush()
					time.Sleep(1500 * time.Millisecond)
				}
				ended <- b.FlushError()
				return
			}
			_, err := b.Write(make([]byte, size))
			ended <- err
		}))
		s.EnableHTTP2 = protocol == "h2"
		s.StartTLS()
		t.Cleanup(s.Close)
		ask := func(path string) io.ReadCloser {
			transport := s.Client().Transport.(*http.Transport).Clone()
			transport.TLSClientConfig.NextProtos = []string{protocol}
			transport.ForceAttemptHTTP2 = protocol == "h2"
			t.Cleanup(transport.CloseIdleConnections)
			a, err := (&http.Client{Transport: transport}).Get(s.URL + path)
			if err != nil {
				t.Fatal(err)
			}
			return a.Body
		}
		silent := ask("/")
		if err := <-ended; err == nil {
			t.Errorf("%s: an answer that nobody reads was written", protocol)
		}
		silent.Close()
		slow := ask("/")
		n, piece := 0, make([]byte, 256<<10)
		for {
			m, err := io.ReadFull(slow, piece)
			if n += m; err != nil {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if err := <-ended; err != nil || n != size {
			t.Errorf("%s: a slow reader got %d bytes, %v", protocol, n, err)
		}
		slow.Close()
		parts := ask("/parts")
		got, err := io.ReadAll(parts)
		if err := <-ended; err != nil {
			t.Errorf("%s: parts: %v", protocol, err)
		}
		if err != nil || string(got) != "partpart" {
			t.Errorf("%s: %q, %v", protocol, got, err)
		}
		parts.Close()
	}
}
