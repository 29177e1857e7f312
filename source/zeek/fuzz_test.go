package zeek

import (
	"bytes"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"dragnet/flow"
)

var sameFlow = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

// readAll reads log in chunks of the given size.
func readAll(t testing.TB, log []byte, cols flow.Columns, size int) ([]flow.Flow, *Reader) {
	t.Helper()
	r := NewReader(bytes.NewReader(log), "log", cols)
	r.stream.size = size
	var flows []flow.Flow
	for {
		batch, err := r.Next()
		if err == io.EOF {
			return flows, r
		}
		if err != nil {
			t.Fatal(err)
		}
		flows = append(flows, batch...)
	}
}

// agree fails unless Reader gives the same as its twin, however it is fed.
func agree(t *testing.T, log []byte, cols flow.Columns) {
	t.Helper()
	wantFlows, wantSkipped := twin(log, cols)
	for _, size := range []int{7, 64, chunkSize} {
		flows, r := readAll(t, log, cols, size)
		if !slices.Equal(wantFlows, flows) {
			t.Fatalf("flows in chunks of %d (-twin +reader):\n%s", size, cmp.Diff(wantFlows, flows, sameFlow))
		}
		if got, want := r.Coverage().Skipped, uint64(len(wantSkipped)); got != want {
			t.Fatalf("in chunks of %d: skipped %d lines, twin %d: %v", size, got, want, r.Coverage().Problems)
		}
		for i, l := range r.parser.lost.first {
			if l.line != wantSkipped[i] {
				t.Fatalf("in chunks of %d: problem %d is at line %d, want %d (%s)", size, i, l.line, wantSkipped[i], l.reason)
			}
		}
		if end := int64(bytes.LastIndexByte(log, '\n') + 1); r.Offset() != end {
			t.Fatalf("in chunks of %d: offset %d, want %d, the end of the last whole line", size, r.Offset(), end)
		}
		h := r.parser.c.head
		if back := parseHeader(r.Mark().Header); *back != *h && !strings.HasPrefix(h.refused, "#separator") {
			t.Fatalf("the header\n%+v\ncomes back as\n%+v", h, back)
		}
	}
}

// FuzzTSV starts from logs with a header, FuzzJSON from logs without; both
// readers meet any bytes.
func FuzzTSV(f *testing.F) {
	f.Add([]byte(smallTSV), uint16(flow.AllColumns))
	f.Add([]byte("#separator ,\n#fields,proto,ts,id.orig_h,id.orig_p,id.resp_h,id.resp_p\nudp,1.5,::1,1,::ffff:1.2.3.4,2\n"), uint16(0))
	addRealLines(f, "zeek-logs", "missing_host", "2024-04-19.conn.00-00-00-01-00-00.log.gz")
	f.Fuzz(func(t *testing.T, log []byte, cols uint16) {
		Is(log)
		agree(t, log, flow.Columns(cols))
	})
}

// FuzzJSON: see FuzzTSV.
func FuzzJSON(f *testing.F) {
	f.Add([]byte(smallJSON), uint16(flow.AllColumns))
	f.Add([]byte(`{"ts":"2024-04-19T01:00:00.5Z","id":{"orig_h":"\u0031.2.3.4"},"a":[{"b":null}],"conn_state":"S0"}`+"\n"), uint16(0))
	addRealLines(f, "zeek-logs", "json", "conn.json.log")
	f.Fuzz(func(t *testing.T, log []byte, cols uint16) {
		if !utf8.Valid(log) {
			t.Skip("the library replaces what is not UTF-8")
		}
		agree(t, log, flow.Columns(cols))
	})
}

// addRealLines seeds f with the beginning of a shared log, where there is one.
func addRealLines(f *testing.F, elem ...string) {
	root := os.Getenv("DRAGNET_DATA")
	if root == "" {
		return
	}
	log, err := openFile(filepath.Join(append([]string{root}, elem...)...))
	if err != nil {
		f.Fatal(err)
	}
	defer log.Close()
	prefix := make([]byte, 4096)
	n, _ := io.ReadFull(log, prefix)
	f.Add(prefix[:n], uint16(flow.AllColumns))
}
