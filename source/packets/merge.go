package packets

import (
	"cmp"
	"container/heap"
	"errors"
	"fmt"
	"io"
	"slices"

	"dragnet/flow"
	"dragnet/packet/capture"
)

// tape is one capture file in a merge, with its next packet.
type tape struct {
	path string
	head look
	file *capture.File
	next capture.Record
}

// merge yields the packets of several files in the order of time. A file is
// open only from its first packet to its last.
type merge struct {
	waiting []*tape // by first packet
	playing tapes   // a heap by next packet
	current *tape   // whose packet was yielded last
	cov     *flow.Coverage
}

// newMerge looks at the beginning of each file. What cannot be read later is
// counted in cov.
func newMerge(paths []string, cov *flow.Coverage) (*merge, error) {
	m := &merge{cov: cov}
	for _, path := range paths {
		head, err := lookAt(path)
		if err != nil {
			return nil, err
		}
		m.waiting = append(m.waiting, &tape{path: path, head: head})
	}
	slices.SortStableFunc(m.waiting, func(a, b *tape) int { return cmp.Compare(a.head.first, b.head.first) })
	return m, nil
}

// read fetches t's next packet; at the end it closes t.
func (m *merge) read(t *tape) (more bool) {
	for {
		var err error
		if t.next, err = t.file.Next(); err == nil {
			return true
		}
		var skip *capture.SkipError
		var damage *capture.DamageError
		switch {
		case errors.As(err, &skip):
			m.cov.Skip(t.place(skip.Number), "%s", skip.Reason)
			continue
		case errors.As(err, &damage):
			m.cov.Skip(t.place(damage.Number), "%s; what stands before it was read", damage.Reason)
		case err != io.EOF:
			m.cov.Skip(t.path, "%v", err)
		}
		t.close()
		return false
	}
}

// place names a packet in a report.
func (t *tape) place(number uint64) string { return fmt.Sprintf("%s:packet %d", t.path, number) }

func (t *tape) close() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}

// step returns the tape whose next packet is the earliest, nil at the end. The
// packet is valid until the next call.
func (m *merge) step() (*tape, error) {
	if t := m.current; t != nil {
		m.current = nil
		if m.read(t) {
			if len(m.playing) == 0 && len(m.waiting) == 0 {
				m.current = t
				return t, nil
			}
			heap.Push(&m.playing, t)
		}
	}
	for len(m.waiting) > 0 && (len(m.playing) == 0 || m.waiting[0].head.first <= m.playing[0].next.Time) {
		t := m.waiting[0]
		m.waiting = m.waiting[1:]
		var err error
		if t.file, err = capture.Open(t.path); err != nil {
			return nil, err
		}
		if m.read(t) {
			heap.Push(&m.playing, t)
		}
	}
	if len(m.playing) == 0 {
		return nil, nil
	}
	m.current = heap.Pop(&m.playing).(*tape)
	return m.current, nil
}

// close closes the files that are still open.
func (m *merge) close() {
	for _, t := range m.playing {
		t.close()
	}
	if m.current != nil {
		m.current.close()
	}
}

// tapes is a heap by the time of the next packet.
type tapes []*tape

func (h tapes) Len() int           { return len(h) }
func (h tapes) Less(i, j int) bool { return h[i].next.Time < h[j].next.Time }
func (h tapes) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are called by container/heap.
func (h *tapes) Push(x any) { *h = append(*h, x.(*tape)) }

func (h *tapes) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}
