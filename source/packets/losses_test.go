package packets

import (
	"testing"

	"pgregory.net/rapid"
)

// lossTwin is losses done byte by byte.
type lossTwin struct {
	next int64
	seen map[int64]bool
	gaps
}

func (w *lossTwin) run() {
	for w.seen[w.next] {
		w.next++
	}
}

func (w *lossTwin) receive(from, to int64) {
	for p := from; p < to; p++ {
		w.seen[p] = true
	}
	w.run()
}

func (w *lossTwin) acknowledge(upTo int64) {
	for w.next < upTo {
		from := w.next
		for w.next < upTo && !w.seen[w.next] {
			w.next++
		}
		if w.next > from {
			w.addGap(w.next - from)
		}
		w.run()
	}
}

// TestGapsAreThoseOfTheTwin plays data and acknowledgements.
func TestGapsAreThoseOfTheTwin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l lossTracker
		l.startAt()
		w := lossTwin{next: 1, seen: map[int64]bool{}}
		var got gaps
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			at := max(1, w.next+rapid.Int64Range(-50, 300).Draw(t, "where"))
			var g gaps
			if rapid.IntRange(0, 3).Draw(t, "what") == 0 {
				g = l.addAck(at)
				w.acknowledge(at)
			} else {
				to := at + rapid.Int64Range(0, 100).Draw(t, "length")
				g = l.addData(at, to)
				w.receive(at, to)
			}
			got.holes += g.holes
			got.bytes += g.bytes
			if got != w.gaps || l.next != w.next {
				t.Fatalf("got %+v at %d, want %+v at %d", got, l.next, w.gaps, w.next)
			}
		}
	})
}

// TestHolesAreBounded leaves every other byte out.
func TestHolesAreBounded(t *testing.T) {
	var l lossTracker
	l.startAt()
	var got gaps
	const n = 10_000
	for i := range int64(n) {
		g := l.addData(2+2*i, 3+2*i)
		got.holes += g.holes
		got.bytes += g.bytes
		if len(l.ahead) > maxAhead {
			t.Fatalf("%d ranges held", len(l.ahead))
		}
	}
	if got.holes != n-maxAhead || got.bytes != n-maxAhead {
		t.Errorf("got %+v", got)
	}
}
