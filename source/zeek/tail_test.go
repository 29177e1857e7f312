package zeek

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"

	"dragnet/flow"
)

// growing is a log that somebody else writes to.
type growing struct{ bytes.Buffer }

// TestFollowsGrowingLog appends a log byte by byte: no line may be lost,
// counted twice, or read before its end.
func TestFollowsGrowingLog(t *testing.T) {
	for _, log := range []string{smallTSV, smallJSON, head + good + "garbage\n" + strings.Repeat("x", 3<<20) + "\n" + good} {
		src := &growing{}
		r := NewReader(src, "log", flow.AllColumns)
		step := max(1, len(log)/2000)
		var got []flow.Flow
		for rest := log; len(rest) > 0; {
			n := min(step, len(rest))
			src.WriteString(rest[:n])
			rest = rest[n:]
			for {
				batch, err := r.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, batch...)
			}
			written := log[:len(log)-len(rest)]
			if end := int64(strings.LastIndexByte(written, '\n') + 1); r.Offset() != end {
				t.Fatalf("after %d bytes the offset is %d, the last line ends at %d", len(written), r.Offset(), end)
			}
		}
		want, skipped := twin([]byte(log), flow.AllColumns)
		if !slices.Equal(got, want) || r.Coverage().Skipped != uint64(len(skipped)) {
			t.Errorf("read %d flows and skipped %d lines, want %d and %d", len(got), r.Coverage().Skipped, len(want), len(skipped))
		}
	}
}

// TestResumes stops after every line and goes on in a new Reader, as after a
// restart of the program.
func TestResumes(t *testing.T) {
	log := smallTSV + strings.Replace(head, `\x09`, ",", 1)
	log = log[:strings.LastIndex(log, "#fields")] + "#unset_field,?\n#fields,proto,ts,id.orig_h,id.orig_p,id.resp_h,id.resp_p,duration\nudp,1.5,::1,1,::2,2,?\ngarbage\nudp,2.5,::1,1,::2,2,1\n"
	for _, log := range []string{log, smallJSON} {
		want, r := readAll(t, []byte(log), flow.AllColumns, chunkSize)
		wantProblems := r.Coverage().Problems
		for i := range len(log) {
			if i > 0 && log[i-1] != '\n' {
				continue
			}
			before, a := readAll(t, []byte(log[:i]), flow.AllColumns, chunkSize)
			text, err := json.Marshal(a.Mark())
			if err != nil {
				t.Fatal(err)
			}
			var m Mark
			if err := json.Unmarshal(text, &m); err != nil {
				t.Fatal(err)
			}
			b := NewReader(strings.NewReader(log[m.Offset:]), "log", flow.AllColumns)
			b.Resume(m)
			if b.Mark() != m {
				t.Fatalf("resumed at %+v, not %+v", b.Mark(), m)
			}
			all := before
			for {
				batch, err := b.Next()
				if err != nil {
					break
				}
				all = append(all, batch...)
			}
			if !slices.Equal(all, want) || b.Offset() != int64(len(log)) {
				t.Fatalf("resumed at %d: %d flows, want %d; ends at %d", i, len(all), len(want), b.Offset())
			}
			if problems := append(a.Coverage().Problems, b.Coverage().Problems...); !slices.Equal(problems, wantProblems) {
				t.Fatalf("resumed at %d: problems %v, want %v", i, problems, wantProblems)
			}
		}
	}
}

// TestMarkBetweenBatches: the offset moves with what has been returned, not
// with what has been read ahead.
func TestMarkBetweenBatches(t *testing.T) {
	log := head + strings.Repeat(good, 3*batchSize)
	r := NewReader(strings.NewReader(log), "log", 0)
	for i := 1; i <= 3; i++ {
		batch, err := r.Next()
		if err != nil || len(batch) != batchSize {
			t.Fatal(len(batch), err)
		}
		m := r.Mark()
		if want := int64(len(head) + i*batchSize*len(good)); m.Offset != want || m.Line != int64(2+i*batchSize) {
			t.Errorf("after batch %d the mark is at byte %d, line %d; want byte %d", i, m.Offset, m.Line, want)
		}
	}
}
