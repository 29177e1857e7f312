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

// captureFile is one capture file in a merge, with its next packet.
type captureFile struct {
	path string
	head preview
	file *capture.File
	next capture.Record
}

// mergedFiles yields the packets of several files in the order of time. A file is
// open only from its first packet to its last.
type mergedFiles struct {
	waiting []*captureFile // by first packet
	playing fileHeap       // a heap by next packet
	current *captureFile   // whose packet was yielded last
	cov     *flow.Coverage
}

// newMerge reads the start of each file. What cannot be read later is counted
// in cov.
func newMerge(paths []string, cov *flow.Coverage) (*mergedFiles, error) {
	m := &mergedFiles{cov: cov}
	for _, path := range paths {
		head, err := previewFile(path)
		if err != nil {
			return nil, err
		}
		m.waiting = append(m.waiting, &captureFile{path: path, head: head})
	}
	slices.SortStableFunc(m.waiting, func(a, b *captureFile) int { return cmp.Compare(a.head.first, b.head.first) })
	return m, nil
}

// readNext fetches t's next packet; at the end it closes t.
func (m *mergedFiles) readNext(t *captureFile) (more bool) {
	for {
		var err error
		if t.next, err = t.file.Next(); err == nil {
			return true
		}
		var skip *capture.SkipError
		var damage *capture.DamageError
		switch {
		case errors.As(err, &skip):
			m.cov.Skip(t.placeOf(skip.Number), "%s", skip.Reason)
			continue
		case errors.As(err, &damage):
			m.cov.Skip(t.placeOf(damage.Number), "%s; the packets before it were read", damage.Reason)
		case err != io.EOF:
			m.cov.Skip(t.path, "%v", err)
		}
		t.closeFile()
		return false
	}
}

// placeOf names a packet in a report.
func (t *captureFile) placeOf(number uint64) string {
	return fmt.Sprintf("%s:packet %d", t.path, number)
}

func (t *captureFile) closeFile() {
	if t.file != nil {
		t.file.Close()
		t.file = nil
	}
}

// nextFile returns the tape whose next packet is the earliest, nil at the end. The
// packet is valid until the next call.
func (m *mergedFiles) nextFile() (*captureFile, error) {
	if t := m.current; t != nil {
		m.current = nil
		if m.readNext(t) {
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
		if m.readNext(t) {
			heap.Push(&m.playing, t)
		}
	}
	if len(m.playing) == 0 {
		return nil, nil
	}
	m.current = heap.Pop(&m.playing).(*captureFile)
	return m.current, nil
}

// closeAll closes the files that are still open.
func (m *mergedFiles) closeAll() {
	for _, t := range m.playing {
		t.closeFile()
	}
	if m.current != nil {
		m.current.closeFile()
	}
}

// fileHeap is a heap by the time of the next packet.
type fileHeap []*captureFile

func (h fileHeap) Len() int           { return len(h) }
func (h fileHeap) Less(i, j int) bool { return h[i].next.Time < h[j].next.Time }
func (h fileHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are called by container/heap.
func (h *fileHeap) Push(x any) { *h = append(*h, x.(*captureFile)) }

func (h *fileHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	*h = old[:len(old)-1]
	return t
}
