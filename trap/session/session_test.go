package session

import (
	"testing"
	"time"
)

func TestRecorderIsBounded(t *testing.T) {
	now := time.Unix(1, 0)
	r := NewRecorder(Session{Stage: Outbound}, 10, func() time.Time { now = now.Add(time.Second); return now })
	r.Add(false, []byte("0123456"))
	r.Add(true, []byte("ok"))
	r.Add(false, []byte("789abc"))
	s := r.Finish("closed")
	r.Add(false, []byte("late"))
	if string(s.Sent) != "0123456789" || string(s.Answered) != "ok" || s.Lost != 3 || len(s.Chunks) != 3 || s.Chunks[2].Bytes != 3 || !s.Capture().Trapped {
		t.Errorf("%+v", s)
	}
	r = NewRecorder(Session{}, 1<<20, func() time.Time { now = now.Add(time.Second); return now })
	for i := range 3 * maxChunks {
		r.Add(i%2 == 0, []byte("x"))
	}
	s = r.Finish("closed")
	total := 0
	for _, c := range s.Chunks {
		total += c.Bytes
	}
	if len(s.Chunks) > maxChunks || total != 3*maxChunks || len(s.Sent)+len(s.Answered) != total {
		t.Errorf("%d chunks of %d bytes", len(s.Chunks), total)
	}
}

// TestMemoryIsShared: many recorders hold no more than there is room for, each keeps
// its beginning, and what one releases another may use.
func TestMemoryIsShared(t *testing.T) {
	const room = 64 << 10
	m := NewMemory(room)
	now := time.Unix(1, 0)
	tick := func() time.Time { now = now.Add(time.Second); return now }
	var all []*Recorder
	for range 50 {
		r := NewRecorder(Session{}, 1<<20, tick)
		r.Share(m)
		all = append(all, r)
		for i := range 2000 {
			r.Add(i%2 == 0, make([]byte, 10))
		}
	}
	held := 0
	for i, r := range all {
		s := r.Finish("closed")
		size := len(s.Sent) + len(s.Answered)
		if size+int(s.Lost) != 20_000 || size < freeBytes/4 {
			t.Errorf("recorder %d holds %d bytes and lost %d", i, size, s.Lost)
		}
		chunks := 0
		for _, c := range s.Chunks {
			chunks += c.Bytes
		}
		if chunks != size {
			t.Errorf("recorder %d has chunks of %d bytes of %d", i, chunks, size)
		}
		held += size + chunkBytes*len(s.Chunks)
		r.Release()
	}
	if held > room+50*freeBytes {
		t.Errorf("%d bytes are held", held)
	}
	r := NewRecorder(Session{}, 1<<20, tick)
	r.Share(m)
	r.Add(false, make([]byte, room))
	if s := r.Finish("closed"); s.Lost != 0 || m.left.Load() < 0 {
		t.Errorf("%d bytes lost although all was released", s.Lost)
	}
	r.Release()
	if left := m.left.Load(); left != room {
		t.Errorf("%d bytes are left of %d", left, room)
	}
}
