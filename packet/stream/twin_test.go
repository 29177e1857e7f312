package stream

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"

	"dragnet/flow"

	"pgregory.net/rapid"
)

// TestShuffledStreamComesOutWhole cuts a random stream into segments, repeats
// and shuffles them, and expects the same bytes.
func TestShuffledStreamComesOutWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 1, 4000).Draw(t, "data")
		isn := rapid.Uint32().Draw(t, "isn")
		type part struct{ from, to int }
		var parts []part
		for at := 0; at < len(data); {
			n := min(len(data)-at, rapid.IntRange(1, 400).Draw(t, "length"))
			parts = append(parts, part{at, at + n})
			at += n
		}
		for range rapid.IntRange(0, 10).Draw(t, "overlapping repeats") {
			from := rapid.IntRange(0, len(data)-1).Draw(t, "from")
			parts = append(parts, part{from, min(len(data), from+rapid.IntRange(1, 900).Draw(t, "n"))})
		}
		order := rapid.Permutation(parts).Draw(t, "order")
		var h transcript
		config := DefaultConfiguration()
		config.IgnoreChecksums = true
		a := New(config, func(Key) Handler { return &h })
		a.Packet(0, segment(client, isn, 0, flow.SYN, ""))
		for _, p := range order {
			a.Packet(0, segment(client, isn+1+uint32(p.from), 0, flow.ACK, string(data[p.from:p.to])))
		}
		if !bytes.Equal(h.text[ToServer].Bytes(), data) {
			t.Fatalf("%d bytes out of %d, or others", h.text[ToServer].Len(), len(data))
		}
		if a.Waiting() != 0 {
			t.Fatalf("%d bytes still wait", a.Waiting())
		}
	})
}

// ruler is a Handler that expects every byte to be the one of its position.
type ruler struct {
	t    *rapid.T
	next int64
	gaps int64
}

func byteAt(p int64) byte { return byte(p*7 + p>>8) }

func (h *ruler) Data(dir Direction, b []byte) {
	for _, c := range b {
		if dir != ToServer || c != byteAt(h.next) {
			h.t.Fatalf("byte %d is %d, direction %d", h.next, c, dir)
		}
		h.next++
	}
}

func (h *ruler) Gap(_ Direction, n int64) {
	if n <= 0 {
		h.t.Fatalf("gap of %d", n)
	}
	h.next += n
	h.gaps += n
}

func (h *ruler) Close(CloseReason) {}

// TestBoundsMixUpNoBytes sends segments from all over under tight bounds: what
// is handed out must stand at its position, and no more may wait than allowed.
func TestBoundsMixUpNoBytes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &ruler{t: t}
		config := DefaultConfiguration()
		config.IgnoreChecksums = true
		config.MaxWaiting = rapid.IntRange(0, 3000).Draw(t, "bound")
		config.MaxWaitingTotal = rapid.IntRange(0, 3000).Draw(t, "total")
		a := New(config, func(Key) Handler { return h })
		a.Packet(0, segment(client, 0xffffff00, 0, flow.SYN, ""))
		last := int64(0)
		for range rapid.IntRange(1, 80).Draw(t, "segments") {
			at := max(0, h.next+rapid.Int64Range(-500, 5000).Draw(t, "where"))
			b := make([]byte, rapid.IntRange(1, 1000).Draw(t, "length"))
			for i := range b {
				b[i] = byteAt(at + int64(i))
			}
			last = max(last, at+int64(len(b)))
			a.Packet(0, segment(client, 0xffffff01+uint32(at), 0, flow.ACK, string(b)))
			if a.Waiting() > config.MaxWaiting || a.Waiting() > config.MaxWaitingTotal {
				t.Fatalf("%d bytes wait, allowed are %d and %d", a.Waiting(), config.MaxWaiting, config.MaxWaitingTotal)
			}
		}
		a.Flush()
		if h.next != last || a.Waiting() != 0 {
			t.Fatalf("handed out to %d of %d", h.next, last)
		}
	})
}

// twin is one direction done the obvious way: every byte by its position.
type twin struct {
	known map[int64]byte
	next  int64
	text  bytes.Buffer
}

func (w *twin) data(at int64, b []byte) {
	for i, c := range b {
		if p := at + int64(i); p >= w.next {
			if _, ok := w.known[p]; !ok {
				w.known[p] = c
			}
		}
	}
	w.run()
}

func (w *twin) run() {
	for {
		c, ok := w.known[w.next]
		if !ok {
			return
		}
		w.text.WriteByte(c)
		w.next++
	}
}

// skip hands out everything before at.
func (w *twin) skip(at int64) {
	for w.next < at {
		from := w.next
		for _, ok := w.known[w.next]; !ok && w.next < at; _, ok = w.known[w.next] {
			w.next++
		}
		if w.next > from {
			fmt.Fprintf(&w.text, "<%d>", w.next-from)
		}
		w.run()
	}
}

func (w *twin) flush() {
	last := w.next
	for p := range w.known {
		last = max(last, p+1)
	}
	w.skip(last)
}

// FuzzReassembly plays segments and acknowledgements on one direction and
// compares with the twin. Each step is three bytes: what, where, how much.
func FuzzReassembly(f *testing.F) {
	f.Add(uint32(0), []byte{0, 0, 5, 0, 10, 5, 0, 5, 5, 3, 20, 0})
	f.Add(uint32(0xfffffff0), []byte{0, 30, 9, 0, 3, 4, 3, 40, 0, 0, 0, 60})
	f.Add(uint32(7), []byte{0, 100, 1, 0, 98, 5, 0, 90, 200, 3, 50, 0, 0, 0, 255})
	f.Fuzz(func(t *testing.T, isn uint32, steps []byte) {
		var h transcript
		config := DefaultConfiguration()
		config.IgnoreChecksums = true
		a := New(config, func(Key) Handler { return &h })
		a.Packet(0, segment(client, isn, 0, flow.SYN, ""))
		w := twin{known: map[int64]byte{}}
		fill := rand.NewChaCha8([32]byte{1})
		for ; len(steps) >= 3; steps = steps[3:] {
			at := w.next + int64(steps[1]) - 64 // around the next byte
			if steps[0]%4 == 3 {
				a.Packet(0, segment(server, 0, isn+1+uint32(at), flow.ACK, ""))
				w.skip(at)
				continue
			}
			b := make([]byte, steps[2])
			fill.Read(b)
			a.Packet(0, segment(client, isn+1+uint32(at), 0, flow.ACK, string(b)))
			w.data(at, b)
		}
		a.Flush()
		w.flush()
		if !bytes.Equal(h.text[ToServer].Bytes(), w.text.Bytes()) {
			t.Errorf("got  %q\nwant %q", h.text[ToServer].Bytes(), w.text.Bytes())
		}
		if a.Waiting() != 0 {
			t.Errorf("%d bytes still wait", a.Waiting())
		}
	})
}
