package exchange

import (
	"net/http"
	"time"
)

const (
	// readWithin is how long a caller may hold up a write of an answer. All writes
	// together may be held up as long, and a second more for each leastRate bytes: an
	// answer is in memory until the last has left.
	readWithin = 30 * time.Second
	leastRate  = 64 << 10
)

// boundAnswers ends the connection, or the stream, of a caller that reads its answer
// too slowly. How long the parts of an answer take to make does not count.
func boundAnswers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := &boundedWriter{ResponseWriter: w, control: http.NewResponseController(w), within: readWithin}
		next.ServeHTTP(b, r)
		_ = b.control.SetWriteDeadline(time.Now().Add(readWithin)) // for what is buffered still
	})
}

type boundedWriter struct {
	http.ResponseWriter
	control *http.ResponseController
	within  time.Duration
	written int64
	held    time.Duration // by the caller, in all
}

// bound runs f with a deadline for its writes. Without one afterwards, a stream would
// end while its next part is made.
func (w *boundedWriter) bound(f func() error) error {
	begin := time.Now()
	left := w.within + time.Duration(w.written)*time.Second/leastRate - w.held
	if err := w.control.SetWriteDeadline(begin.Add(min(left, w.within))); err != nil {
		return err
	}
	if err := f(); err != nil {
		return err
	}
	w.held += time.Since(begin)
	return w.control.SetWriteDeadline(time.Time{})
}

// Write is that of http.ResponseWriter. It writes in pieces, so that the deadline of
// each follows from what left before it.
func (w *boundedWriter) Write(b []byte) (n int, err error) {
	for {
		piece := b[n:min(len(b), n+leastRate)]
		w.written += int64(len(piece))
		err := w.bound(func() error {
			m, err := w.ResponseWriter.Write(piece)
			n += m
			return err
		})
		if err != nil || n == len(b) {
			return n, err
		}
	}
}

// Unwrap is for http.ResponseController.
func (w *boundedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// FlushError is that of http.ResponseController.
func (w *boundedWriter) FlushError() error { return w.bound(w.control.Flush) }

// Flush is that of http.Flusher, which Connect's streams ask for.
func (w *boundedWriter) Flush() { _ = w.FlushError() } // the next write fails, too
