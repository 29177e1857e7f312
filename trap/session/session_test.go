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
