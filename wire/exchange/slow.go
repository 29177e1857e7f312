package exchange

import (
	"net/http"
	"time"
)

const (
	// readWithin is how long a caller may take for a piece of an answer. All of it may
	// take as long, and a second more for each leastRate bytes that left: an answer is in
	// memory until the last has.
	readWithin = 30 * time.Second
	leastRate  = 64 << 10
)

// boundAnswers ends the connection, or the stream, of a caller that reads its answer
// too slowly. How long the answer took to make does not count.
func boundAnswers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(&boundedWriter{ResponseWriter: w, within: readWithin}, r)
	})
}

type boundedWriter struct {
	http.ResponseWriter
	within  time.Duration
	begin   time.Time // of the first write
	written int64
}

// Write is that of http.ResponseWriter. It writes in pieces, so that the deadline of
// each follows from what was read before it.
func (w *boundedWriter) Write(b []byte) (n int, err error) {
	if w.begin.IsZero() {
		w.begin = time.Now()
	}
	for {
		piece := b[n:min(len(b), n+leastRate)]
		w.written += int64(len(piece))
		over := w.begin.Add(w.within + time.Duration(w.written)*time.Second/leastRate)
		if next := time.Now().Add(w.within); next.Before(over) {
			over = next
		}
		if err := http.NewResponseController(w.ResponseWriter).SetWriteDeadline(over); err != nil {
			return n, err
		}
		m, err := w.ResponseWriter.Write(piece)
		if n += m; err != nil || n == len(b) {
			return n, err
		}
	}
}

// Unwrap is for http.ResponseController.
func (w *boundedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// Flush is that of http.Flusher, which Connect's streams ask for.
func (w *boundedWriter) Flush() { _ = http.NewResponseController(w.ResponseWriter).Flush() }
