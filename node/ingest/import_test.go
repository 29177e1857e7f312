package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/zeek"
	"dragnet/store/disk"
)

const epoch = "2026-11-22"

const header = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#open\t%s\n" +
	"#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\torig_pkts\n"

// line is flow number n of a log: its number is the time in seconds, and the
// originator's packets.
func line(n int) string {
	return fmt.Sprintf("%d.000000\tC%d\t192.0.%d.%d\t%d\t198.51.100.%d\t22\ttcp\tSF\t%d\n", n, n, n>>8&0xff, n&0xff, 1024+n%50000, n%250, n)
}

// conn is a conn log of flows from to to.
func connLog(from, to int) string {
	var b strings.Builder
	fmt.Fprintf(&b, header, fmt.Sprint(from))
	for n := from; n < to; n++ {
		b.WriteString(line(n))
	}
	return b.String()
}

// place is a data directory and a folder of logs.
type place struct {
	t    *testing.T
	dir  string
	logs string
	keep int // logs, in crash tests
}

func newPlace(t *testing.T) *place {
	p := &place{t: t, dir: filepath.Join(t.TempDir(), "data"), logs: t.TempDir()}
	return p
}

func (p *place) write(name, text string) string {
	p.t.Helper()
	path := filepath.Join(p.logs, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	return path
}

func squeeze(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write([]byte(text))
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// bring imports files in one go and returns what became of them.
func (p *place) bring(files ...string) []Imported {
	p.t.Helper()
	w, err := disk.NewWriter(p.dir, epoch)
	if err != nil {
		p.t.Fatal(err)
	}
	defer w.Close()
	logs, err := w.Sources(context.Background())
	if err != nil {
		p.t.Fatal(err)
	}
	m := NewImporter(logs, w)
	var done []Imported
	for _, f := range files {
		one, err := m.Import(context.Background(), f)
		if err != nil {
			p.t.Fatal(err)
		}
		done = append(done, one)
	}
	if err := m.Commit(); err != nil {
		p.t.Fatal(err)
	}
	return done
}

// numbers are the flows stored, in order.
func numbers(t *testing.T, dir string) []int {
	t.Helper()
	s, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	var out []int
	_, err = s.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		mu.Lock()
		defer mu.Unlock()
		for _, f := range batch {
			out = append(out, int(f.OrigPkts))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

// want checks that exactly the flows from to to are stored, each once.
func (p *place) want(from, to int) {
	p.t.Helper()
	got := numbers(p.t, p.dir)
	if len(got) != to-from || len(got) > 0 && (got[0] != from || got[len(got)-1] != to-1) || len(slices.Compact(got)) != to-from {
		p.t.Fatalf("%d flows are stored, want %d, each once", len(got), to-from)
	}
}

func status(t *testing.T, done []Imported, want ...ImportStatus) {
	t.Helper()
	var got []ImportStatus
	for _, d := range done {
		got = append(got, d.Status)
	}
	if !slices.Equal(got, want) {
		t.Errorf("status %v, want %v", got, want)
	}
}

// TestALineIsImportedOnce grows, renames and compresses a log between imports.
func TestALineIsImportedOnce(t *testing.T) {
	for _, size := range []int{3, 100, 5000} { // below and above identityBytes
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			p := newPlace(t)
			log := p.write("conn.log", connLog(0, size))
			status(t, p.bring(log), New)
			status(t, p.bring(log), Unchanged)
			p.want(0, size)

			p.write("conn.log", connLog(0, 2*size)+"5.0\tCut")
			status(t, p.bring(log), Grown)
			p.want(0, 2*size)

			rotated := filepath.Join(p.logs, "conn.00.log")
			if err := os.Rename(log, rotated); err != nil {
				t.Fatal(err)
			}
			p.write("conn.log", connLog(9*size, 10*size))
			status(t, p.bring(rotated, log), Unchanged, New)

			packed := p.write("conn.00.log.gz", squeeze(t, connLog(0, 3*size)))
			status(t, p.bring(packed, packed), Grown, Unchanged)
			os.Remove(rotated)
			got := numbers(t, p.dir)
			if len(got) != 4*size || len(slices.Compact(got)) != 4*size {
				t.Errorf("%d flows, want %d, each once", len(got), 4*size)
			}
		})
	}
}

func TestTwoLogsWithOneHeader(t *testing.T) {
	p := newPlace(t)
	head := fmt.Sprintf(header, "now")
	a, b := p.write("a.log", head), p.write("b.log", head)
	p.bring(a, b)
	for n := range 50 {
		p.write("a.log", head+strings.Join(lines(0, n), ""))
		p.write("b.log", head+strings.Join(lines(1000, 1000+n), ""))
		p.bring(a, b)
	}
	if got := numbers(t, p.dir); len(got) != 2*49 || len(slices.Compact(got)) != 2*49 {
		t.Errorf("%d flows, want %d, each once", len(got), 2*49)
	}
}

func lines(from, to int) (out []string) {
	for n := from; n < to; n++ {
		out = append(out, line(n))
	}
	return out
}

func TestAChangedLogIsRefused(t *testing.T) {
	p := newPlace(t)
	text := connLog(0, 5000)
	log := p.write("conn.log", text)
	p.bring(log)
	p.write("conn.log", text[:len(text)-200]+"changed"+text[len(text)-190:])
	status(t, p.bring(log), Refused)
	p.write("conn.log", text[:len(text)-200])
	status(t, p.bring(log), Refused)
	p.want(0, 5000)
	status(t, p.bring(p.write("letter", "Dear Sir")), Refused)
	status(t, p.bring(p.write("empty.log", "")), Unchanged)
}

func TestADamagedArchiveCountsUpToTheDamage(t *testing.T) {
	p := newPlace(t)
	packed := squeeze(t, connLog(0, 20000))
	log := p.write("conn.log.gz", packed[:len(packed)/2])
	status(t, p.bring(log), New)
	part := len(numbers(t, p.dir))
	if part == 0 || part >= 20000 {
		t.Fatalf("%d flows of half an archive", part)
	}
	status(t, p.bring(log), Unchanged)
	p.write("conn.log.gz", packed)
	status(t, p.bring(log), Grown)
	p.want(0, 20000)
}

// TestJSONLogsAreKnownAgain has no header to tell logs apart by.
func TestJSONLogsAreKnownAgain(t *testing.T) {
	data := testkit.Data(t, "zeek-logs", "json", "conn.json.log")
	p := newPlace(t)
	first := p.bring(data)
	status(t, first, New)
	text, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	status(t, p.bring(p.write("renamed", string(text))), Unchanged)
	if got := len(numbers(t, p.dir)); got != int(first[0].Flows) || got == 0 {
		t.Errorf("%d flows, want %d", got, first[0].Flows)
	}
}

// TestEveJSONIsImportedOnce grows and compresses Suricata's log, and reads it as
// a file, with the same result.
func TestEveJSONIsImportedOnce(t *testing.T) {
	event := func(n int) string {
		return fmt.Sprintf(`{"timestamp":"2026-11-22T10:00:00.000000+0000","flow_id":%d,"event_type":"flow","src_ip":"192.0.2.1","src_port":%d,"dest_ip":"198.51.100.1","dest_port":22,"proto":"TCP",`+
			`"flow":{"pkts_toserver":%d,"pkts_toclient":1,"start":"2026-11-22T10:00:00.000000+0000","end":"2026-11-22T10:00:01.000000+0000"},"tcp":{"tcp_flags_ts":"02","tcp_flags_tc":"14"}}`+"\n", n, n, n)
	}
	events := func(from, to int) (text string) {
		for n := from; n < to; n++ {
			text += event(n) + `{"timestamp":"2026-11-22T10:00:00.000000+0000","event_type":"stats"}` + "\n"
		}
		return text
	}
	p := newPlace(t)
	log := p.write("eve.json", events(0, 500))
	status(t, p.bring(log), New)
	p.write("eve.json", events(0, 900)+event(900)[:100])
	status(t, p.bring(log, log), Grown, Unchanged)
	p.want(0, 900)
	status(t, p.bring(p.write("eve.1.json.gz", squeeze(t, events(0, 1000)))), Grown)
	p.want(0, 1000)
	opened, err := Open(p.logs)
	if err != nil {
		t.Fatal(err)
	}
	cov, err := opened.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		for _, f := range batch {
			if f.State != flow.REJ {
				t.Errorf("%+v", f)
			}
		}
		return nil
	})
	// The half line at the end of the plain file waits for its other half.
	if err != nil || cov.Flows != 900+1000 || cov.Skipped != 0 {
		t.Errorf("%+v, %v", cov, err)
	}
}

func TestSquidsLogIsImportedOnce(t *testing.T) {
	const request = "1286536309.450 180 192.168.0.224 TCP_MISS/200 411 GET http://www.example.com/ - HIER_DIRECT/198.51.100.7 text/html\n"
	p := newPlace(t)
	status(t, p.bring(p.write("access.log", request)), New)
	done := p.bring(p.write("access.log", request+"nonsense\n"+request))
	status(t, done, Grown)
	if done[0].Flows != 1 || done[0].Skipped != 1 || len(numbers(t, p.dir)) != 2 {
		t.Errorf("%+v", done)
	}
}

func TestCapturesAreImportedWholeOnce(t *testing.T) {
	p := newPlace(t)
	text, err := os.ReadFile("../../lab/incident/testdata/aurora.pcap.gz")
	if err != nil {
		t.Fatal(err)
	}
	log := p.write("a.pcap.gz", string(text))
	first := p.bring(log, p.write("b.pcap.gz", string(text)))
	status(t, first, New, Unchanged)
	status(t, p.bring(log), Unchanged)
	if got := len(numbers(t, p.dir)); got != int(first[0].Flows) || got == 0 {
		t.Errorf("%d flows, want %d", got, first[0].Flows)
	}
}

// TestTheRealLogComesBackWhole compares every field of 105,918 real flows.
func TestTheRealLogComesBackWhole(t *testing.T) {
	folder := testkit.Data(t, "zeek-logs", "missing_host")
	p := newPlace(t)
	files, err := Files(folder)
	if err != nil {
		t.Fatal(err)
	}
	p.bring(files...)
	count := map[flow.Flow]int{}
	var mu sync.Mutex
	tally := func(sign int) func([]flow.Flow) error {
		return func(batch []flow.Flow) error {
			mu.Lock()
			defer mu.Unlock()
			for _, f := range batch {
				f.History = strings.Clone(f.History)
				if count[f] += sign; count[f] == 0 {
					delete(count, f)
				}
			}
			return nil
		}
	}
	log, err := zeek.Open(folder)
	if err != nil {
		t.Fatal(err)
	}
	want, err := log.Scan(context.Background(), flow.AllTime, flow.AllColumns, tally(1))
	if err != nil {
		t.Fatal(err)
	}
	s, err := disk.Open(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.Scan(context.Background(), flow.AllTime, flow.AllColumns, tally(-1))
	if err != nil {
		t.Fatal(err)
	}
	for f, n := range count {
		t.Fatalf("%d flows differ, such as %+v, stored %d times too few", len(count), f, n)
	}
	if got.Flows != want.Flows || got.From != want.From || got.To != want.To || got.Skipped != want.Skipped {
		t.Errorf("coverage %v, want %v", got, want)
	}
}
