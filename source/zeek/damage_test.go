package zeek

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/flow"
)

const head = "#separator \\x09\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\torig_bytes\n"

const good = "1700000000.5\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t10\n"

// TestDamagedLines: each damaged line is counted with its place and its reason,
// and the good line behind it is still read.
func TestDamagedLines(t *testing.T) {
	for _, c := range []struct{ line, reason string }{
		{"", ""},
		{"# a comment", ""},
		{"1.5\t192.0.2.1\t1", "3 values, but #fields names 8 columns"},
		{good[:len(good)-1] + "\textra", "9 values, but #fields names 8 columns"},
		{"-\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t10", "ts is not set"},
		{"-1.5\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t10", `ts "-1.5" is not a time between 1970 and 2106`},
		{"XXXXXXXXXX.XXXXXX\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t10", `ts "XXXXXXXXXX.XXXXXX" is not a time between 1970 and 2106`},
		{"4294967296.0\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t10", `ts "4294967296.0" is not a time between 1970 and 2106`},
		{"nan\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t10", `ts "nan" is not a time between 1970 and 2106`},
		{"1.5\t192.0.2.256\t1\t192.0.2.2\t2\ttcp\tSF\t10", `id.orig_h "192.0.2.256" is not an address`},
		{"1.5\t192.0.2\t1\t192.0.2.2\t2\ttcp\tSF\t10", `id.orig_h "192.0.2" is not an address`},
		{"1.5\t192.0.02.1\t1\t192.0.2.2\t2\ttcp\tSF\t10", `id.orig_h "192.0.02.1" is not an address`},
		{"1.5\t192.0.2.1\t65536\t192.0.2.2\t2\ttcp\tSF\t10", `id.orig_p "65536" is not a port 0-65535`},
		{"1.5\t192.0.2.1\t-5\t192.0.2.2\t2\ttcp\tSF\t10", `id.orig_p "-5" is not a port 0-65535`},
		{"1.5\t192.0.2.1\t1\t2001:db8:::1\t2\ttcp\tSF\t10", `id.resp_h "2001:db8:::1" is not an address`},
		{"1.5\t192.0.2.1\t1\t192.0.2.2\t\ttcp\tSF\t10", `id.resp_p "" is not a port 0-65535`},
		{"1.5\t192.0.2.1\t1\t192.0.2.2\t2\ttcpp\tSF\t10", `proto "tcpp" is not a protocol`},
		{"1.5\t192.0.2.1\t1\t192.0.2.2\t2\t-\tSF\t10", `proto is not set`},
		{"1.5\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tESTAB\t10", `conn_state "ESTAB" is not one of Zeek's states (S0, SF, REJ ...)`},
		{"1.5\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t18446744073709551616", `orig_bytes "18446744073709551616" is not a count`},
		{"1.5\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\tSF\t" + strings.Repeat("9", 50), `orig_bytes "` + strings.Repeat("9", 40) + `"... is not a count`},
		{"1.5\t192.0.2.1\x00\t1\t192.0.2.2\t2\ttcp\tSF\t10", `id.orig_h "192.0.2.1\x00" is not an address`},
		{"\x00\x01\xff\xfe\x80", "1 values, but #fields names 8 columns"},
		{`{"ts":1.5}`, "1 values, but #fields names 8 columns"},
		{strings.Repeat("x", maxLine+1), "longer than 1 MiB"},
		{strings.Repeat("x", 10<<20), "longer than 1 MiB"},
		{strings.Repeat("#", 3<<20), "longer than 1 MiB"},
	} {
		log := []byte(head + good + c.line + "\n" + good)
		var want []flow.Problem
		if c.reason != "" {
			want = []flow.Problem{{Place: "log:4", Reason: c.reason}}
		}
		for _, size := range []int{64, chunkSize, 4 << 20} {
			flows, r := readAll(t, log, flow.AllColumns, size)
			if cov := r.Coverage(); cov.Skipped != uint64(len(want)) || !cmp.Equal(cov.Problems, want) {
				t.Errorf("%.60q in chunks of %d: skipped %d, problems\n%v, want\n%v", c.line, size, cov.Skipped, cov.Problems, want)
			}
			if len(flows) != 2 || flows[0] != flows[1] {
				t.Errorf("%.60q in chunks of %d: the good lines gave %v", c.line, size, flows)
			}
		}
	}
}

func TestDamagedObjects(t *testing.T) {
	const good = `{"ts":1.5,"id.orig_h":"192.0.2.1","id.orig_p":1,"id.resp_h":"192.0.2.2","id.resp_p":2,"proto":"tcp","conn_state":"SF"}`
	for _, c := range []struct{ line, reason string }{
		{good[:len(good)-1], "not one whole JSON object: wrong from character 118 on"},
		{good + "}", "not one whole JSON object: wrong from character 119 on"},
		{`[` + good + `]`, "no #fields line comes before it, and it is not a JSON object"},
		{"1.5\t192.0.2.1", "no #fields line comes before it, and it is not a JSON object"},
		{strings.Replace(good, "1.5", "01.5", 1), "not one whole JSON object: wrong from character 8 on"},
		{strings.Replace(good, "1.5", "1.", 1), "not one whole JSON object: wrong from character 9 on"},
		{strings.Replace(good, "1.5", "-1.5", 1), `ts "-1.5" is not a time between 1970 and 2106`},
		{strings.Replace(good, "1.5", "1e999999999999", 1), `ts "1e999999999999" is not a time between 1970 and 2106`},
		{strings.Replace(good, "1.5", "true", 1), `ts "true" is not a time between 1970 and 2106`},
		{strings.Replace(good, "1.5", "null", 1), `ts is not set`},
		{strings.Replace(good, `"tcp"`, `"\ud800"`, 1), `proto "�" is not a protocol`},
		{strings.Replace(good, `"tcp"`, `"\x"`, 1), "not one whole JSON object: wrong from character 1 on"},
		{strings.Replace(good, `"tcp"`, "\"t\x00p\"", 1), "not one whole JSON object: wrong from character 97 on"},
		{strings.Replace(good, `"conn_state":"SF"`, `"query":"example.net"`, 1), "neither conn_state nor _path: not a line of a conn log"},
		{strings.Replace(good, `"ts"`, `"_path":"dns","ts"`, 1), `_path "dns" is not conn`},
		{`{"a":` + strings.Repeat("[", 1<<19) + strings.Repeat("]", 1<<19-10) + `}`, "not one whole JSON object: wrong from character 37 on"},
	} {
		flows, r := readAll(t, []byte(good+"\n"+c.line+"\n"+good+"\n"), flow.AllColumns, chunkSize)
		want := []flow.Problem{{Place: "log:2", Reason: c.reason}}
		if diff := cmp.Diff(want, r.Coverage().Problems); diff != "" {
			t.Errorf("%.150q: problems (-want +got):\n%s", c.line, diff)
		}
		if len(flows) != 2 || flows[0] != flows[1] {
			t.Errorf("%.150q: the good lines gave %v", c.line, flows)
		}
	}
}

func TestAddressesAreMadeComparable(t *testing.T) {
	log := head + "1.5\tfe80::1%eth0\t1\t::ffff:192.0.2.2\t2\ttcp\tSF\t10\n"
	flows, _ := readAll(t, []byte(log), 0, chunkSize)
	if len(flows) != 1 || flows[0].Orig.String() != "fe80::1" || flows[0].Resp.String() != "192.0.2.2" {
		t.Errorf("read %v", flows)
	}
}

// TestMemoryIsBounded reads a line that never ends, and as many histories as
// there are lines.
func TestMemoryIsBounded(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	endless := io.LimitReader(repeat("x"), 64<<20)
	r := NewReader(io.MultiReader(strings.NewReader(head+good), endless, strings.NewReader("\n"+good)), "log", flow.AllColumns)
	if n := drain(t, r); n != 2 || r.Coverage().Skipped != 1 {
		t.Errorf("%d flows, %+v", n, r.Coverage())
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 16<<20 {
		t.Errorf("a line of 64 MiB cost %d MiB", used>>20)
	}
	var in interner
	in.seed = newParser(0).histories.seed
	for i := range 100_000 {
		if s := fmt.Sprintf("S%d", i); in.intern([]byte(s)) != s {
			t.Fatal("another text came back")
		}
	}
}

type repeat string

func (r repeat) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = r[0]
	}
	return len(p), nil
}

// TestDamagedFiles: what can be read is, and the coverage names the place.
func TestDamagedFiles(t *testing.T) {
	log := []byte(head + strings.Repeat(good, 50_000))
	packed := gz(t, log)
	second := gz(t, []byte(good+good))
	flipped := bytes.Clone(packed)
	flipped[len(flipped)-5] ^= 1 // of the checksum
	invalid := bytes.Clone(packed)
	copy(invalid[10:], "\xff\xff\xff\xff") // a block type that does not exist
	for _, c := range []struct {
		name      string
		content   []byte
		least     uint64 // flows, of 50,000
		most      uint64
		lineFlows int // how many lines the problem is behind the flows read; -1: no problem
		reason    string
	}{
		{"whole.log", log, 50_000, 50_000, -1, ""},
		{"whole.log.gz", packed, 50_000, 50_000, -1, ""},
		{"gzip.log", packed, 50_000, 50_000, -1, ""}, // told by content
		{"members.log.gz", append(bytes.Clone(packed), second...), 50_002, 50_002, -1, ""},
		{"truncated.log.gz", packed[:len(packed)/2], 10_000, 40_000, 3, "the gzip data is cut off: nothing from this line on could be read"},
		{"truncated-end.log.gz", packed[:len(packed)-3], 50_000, 50_000, 3, "the gzip data is cut off: nothing from this line on could be read"},
		{"checksum.log.gz", flipped, 50_000, 50_000, 3, "gzip: invalid checksum: nothing from this line on could be read"},
		{"invalid.log.gz", invalid, 0, 0, 1, "flate: corrupt input before offset"},
		{"header.log.gz", packed[:5], 0, 0, 1, "the gzip data is cut off: nothing from this line on could be read"},
		{"trailing.log.gz", append(bytes.Clone(packed), "garbage behind"...), 50_000, 50_000, 3, "gzip: invalid header: nothing from this line on could be read"},
		{"cut.log", log[:len(log)-5], 49_999, 49_999, 3, "truncated: the log ends in the middle of this line"},
		{"empty.log", nil, 0, 0, -1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), c.name)
			if err := os.WriteFile(path, c.content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, cov := scanAll(t, flow.AllTime, flow.AllColumns, chunkSize, path)
			if cov.Flows < c.least || cov.Flows > c.most {
				t.Errorf("%d flows, want %d to %d", cov.Flows, c.least, c.most)
			}
			if c.lineFlows < 0 {
				if cov.Skipped != 0 {
					t.Errorf("skipped %d: %v", cov.Skipped, cov.Problems)
				}
				return
			}
			place := fmt.Sprintf("%s:%d", path, cov.Flows+uint64(c.lineFlows))
			if cov.Skipped != 1 || len(cov.Problems) != 1 || cov.Problems[0].Place != place || !strings.HasPrefix(cov.Problems[0].Reason, c.reason) {
				t.Errorf("skipped %d, problems %v, want one at %s: %s", cov.Skipped, cov.Problems, place, c.reason)
			}
		})
	}
}

func gz(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// scanAll gathers what Scan hands out.
func scanAll(t testing.TB, w flow.Window, cols flow.Columns, size int, paths ...string) ([]flow.Flow, flow.Coverage) {
	t.Helper()
	log, err := Open(paths...)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var all []flow.Flow
	cov, err := log.scanChunks(context.Background(), w, cols, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, batch...)
		return nil
	}, size)
	if err != nil {
		t.Fatal(err)
	}
	return all, cov
}
