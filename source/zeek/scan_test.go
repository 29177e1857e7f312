package zeek

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// TestRealLogs compares with what awk counted once over the shared logs.
func TestRealLogs(t *testing.T) {
	server := netip.MustParseAddr("64.225.56.201")
	flows, cov := scanAll(t, flow.AllTime, flow.AllColumns, chunkSize, testkit.Data(t, "zeek-logs", "missing_host"))
	inbound, rejected, protos, known := 0, 0, map[flow.Proto]int{}, map[flow.Columns]int{}
	for _, f := range flows {
		if f.Resp == server {
			inbound++
			if f.State == flow.REJ {
				rejected++
			}
		}
		protos[f.Proto]++
		for _, c := range []flow.Columns{flow.Lasting, flow.Payload, flow.Counts, flow.History, flow.Flags} {
			if f.Known.Has(c) {
				known[c]++
			}
		}
	}
	if len(flows) != 105918 || cov.Flows != 105918 || cov.Skipped != 0 || inbound != 100146 || rejected != 55342 {
		t.Errorf("%d flows, %d inbound, %d rejected, coverage %+v", len(flows), inbound, rejected, cov)
	}
	if want := map[flow.Proto]int{flow.TCP: 86280, flow.UDP: 5385, flow.ICMP: 14108, flow.ICMPv6: 145}; !cmp.Equal(protos, want) {
		t.Errorf("protocols %v, want %v", protos, want)
	}
	wantKnown := map[flow.Columns]int{flow.Lasting: 105918 - 3826, flow.Payload: 105918 - 3826, flow.Counts: 105918, flow.History: 105918 - 14254}
	if !cmp.Equal(known, wantKnown) {
		t.Errorf("known %v, want %v", known, wantKnown)
	}
	if from, to := cov.From.String(), cov.To.String(); from != "2024-04-18T23:59:44.962686Z" || to != "2024-04-21T23:59:51.045779Z" {
		t.Errorf("covers %s to %s", from, to)
	}
}

// TestSumsEqualAwk adds up each column with awk, exactly in integers.
func TestSumsEqualAwk(t *testing.T) {
	mawk := testkit.Tool(t, "mawk")
	program := `!/^#/ {
		split($2, ts, "."); s += ts[1] - 1700000000; us += ts[2]
		op += $5; rp += $7
		if ($10 != "-") { split($10, d, "."); ds += d[1]; dus += d[2] }
		if ($11 != "-") { ob += $11; rb += $12 }
		mb += $16; opk += $18; oib += $19; rpk += $20; rib += $21
		split($4, a, "."); split($6, b, "."); for (i = 1; i <= 4; i++) { oa[i] += a[i]; ra[i] += b[i] }
		if ($17 != "-") h += length($17)
	} END { printf "%.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f %.0f",
		s, us, op, rp, ds, dus, ob, rb, mb, opk, oib, rpk, rib, h, oa[1], oa[2], oa[3], oa[4], ra[1], ra[2], ra[3], ra[4] }`
	for _, name := range []string{"missing_host", "proxy_rolling"} {
		dir := testkit.Data(t, "zeek-logs", name)
		cmd := exec.Command(mawk, "-F\t", program)
		cmd.Stdin = bytes.NewReader(joinFiles(t, dir))
		want, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		flows, _ := scanAll(t, flow.AllTime, flow.AllColumns, chunkSize, dir)
		var sums [22]int64
		for _, f := range flows {
			second, micro := int64(time.Second), int64(time.Microsecond)
			start, lasts := int64(f.Start), int64(f.Duration)
			a, b := [4]byte{}, [4]byte{}
			if f.Orig.Is4() {
				a, b = f.Orig.As4(), f.Resp.As4()
			} else {
				continue // awk's split of an IPv6 address means nothing
			}
			for i, v := range []int64{
				start/second - 1700000000, start % second / micro, int64(f.OrigPort), int64(f.RespPort),
				lasts / second, lasts % second / micro, int64(f.OrigBytes), int64(f.RespBytes), int64(f.MissedBytes),
				int64(f.OrigPkts), int64(f.OrigIPBytes), int64(f.RespPkts), int64(f.RespIPBytes), int64(len(f.History)),
				int64(a[0]), int64(a[1]), int64(a[2]), int64(a[3]), int64(b[0]), int64(b[1]), int64(b[2]), int64(b[3]),
			} {
				sums[i] += v
			}
		}
		if got := strings.Trim(fmt.Sprint(sums), "[]"); got != string(want) {
			t.Errorf("%s: sums of each column\n%s, awk says\n%s", name, got, want)
		}
	}
}

// joinFiles joins the files of a directory, without IPv6 lines.
func joinFiles(t testing.TB, dir string) []byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all bytes.Buffer
	for _, name := range files {
		f, err := openFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		for line := range bytes.Lines(b) {
			if v := bytes.Split(line, []byte("\t")); len(v) < 4 || !bytes.Contains(v[3], []byte(":")) {
				all.Write(line)
			}
		}
	}
	return all.Bytes()
}

func TestLookupEqualsAwk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conn.log")
	if err := os.WriteFile(path, realBytes(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		addr string
		port uint16
	}{{"64.225.56.201", 22}, {"64.225.56.201", 1433}, {"192.0.2.1", 22}} {
		got, want := lookUp(t, path, q.addr, q.port), lookUpByAwk(t, "mawk", path, q.addr, fmt.Sprint(q.port))
		if got != want {
			t.Errorf("%s port %d: %d flows, mawk says %d", q.addr, q.port, got, want)
		}
	}
}

// TestJSONSaysTheSame converts the real log to JSON with other code.
func TestJSONSaysTheSame(t *testing.T) {
	log := realBytes(t)[:4<<20]
	tsv, _ := readAll(t, log, flow.AllColumns, chunkSize)
	json, r := readAll(t, asJSON(t, log[:bytes.LastIndexByte(log, '\n')+1]), flow.AllColumns, chunkSize)
	if !slices.Equal(tsv, json) || r.Coverage().Skipped != 0 {
		t.Errorf("%d flows of TSV and %d of JSON differ: %v", len(tsv), len(json), r.Coverage())
	}
	_, cov := scanAll(t, flow.AllTime, flow.AllColumns, chunkSize, testkit.Data(t, "zeek-logs", "json", "conn.json.log"))
	if cov.Flows != 29 || cov.Skipped != 0 {
		t.Errorf("the shared JSON log: %+v", cov)
	}
}

// TestZeeksOwnBaselines reads what Zeek logs in its tests, where times are
// masked: as they are, which must skip each such line, and with times put in,
// against the twin.
func TestZeeksOwnBaselines(t *testing.T) {
	dir := testkit.Data(t, "zeek-traces", "conn-log-baselines")
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	logs, flows, masked := 0, 0, 0
	for _, name := range files {
		log, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !Is(log) {
			continue
		}
		logs++
		agree(t, log, flow.AllColumns)
		read, r := readAll(t, log, flow.AllColumns, chunkSize)
		masked += bytes.Count(log, []byte("\nXXXXXXXXXX.XXXXXX\t"))
		if n := len(withoutHeader(log)); n > 0 && len(read) == 0 && r.Coverage().Skipped == 0 {
			t.Errorf("%s: lines without a trace", name)
		}
		log = bytes.ReplaceAll(log, []byte("XXXXXXXXXX.XXXXXX"), []byte("1700000000.000001"))
		agree(t, log, flow.AllColumns)
		read, r = readAll(t, log, flow.AllColumns, chunkSize)
		flows += len(read)
		if c := r.Coverage(); c.Skipped != 0 {
			t.Errorf("%s: %v", name, c.Problems)
		}
	}
	t.Logf("%d logs, %d flows, %d masked times", logs, flows, masked)
	if logs < 100 || flows < 400 || masked < 400 {
		t.Errorf("%d logs, %d flows, %d masked times: fewer than there were", logs, flows, masked)
	}
}

// TestChunkSizeChangesNothing scans a log with damage, new headers and long
// lines in chunks of any size, by several workers.
func TestChunkSizeChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conn.log")
	log := damagedLog()
	if err := os.WriteFile(path, log, 0o600); err != nil {
		t.Fatal(err)
	}
	twinFlows, twinSkipped := twin(log, flow.AllColumns)
	sortFlows(twinFlows)
	var first flow.Coverage
	for i, size := range []int{64, 1000, 4096, chunkSize, 1 << 20, 8 << 20} {
		flows, cov := scanAll(t, flow.AllTime, flow.AllColumns, size, path, path)
		sortFlows(flows)
		for i, f := range flows {
			if f != twinFlows[i/2] {
				t.Fatalf("chunks of %d: flow %d is\n%+v, want\n%+v", size, i, f, twinFlows[i/2])
			}
		}
		if len(flows) != 2*len(twinFlows) || cov.Skipped != 2*uint64(len(twinSkipped)) {
			t.Errorf("chunks of %d: %d flows, %d skipped; twin %d, %d", size, len(flows), cov.Skipped, len(twinFlows), len(twinSkipped))
		}
		if i == 0 {
			first = cov
		} else if diff := cmp.Diff(first, cov); diff != "" {
			t.Errorf("chunks of %d: coverage (-64 +%d):\n%s", size, size, diff)
		}
	}
	if len(first.Problems) != 16 || first.Problems[0].Place != fmt.Sprintf("%s:%d", path, twinSkipped[0]) {
		t.Errorf("problems %v", first.Problems)
	}
}

func damagedLog() []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	b.WriteString(head)
	for i := range 20_000 {
		switch rng.IntN(200) {
		case 0:
			b.WriteString("garbage\n")
		case 1:
			b.WriteString("\n")
		case 2:
			b.WriteString("#fields\tproto\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tconn_state\torig_bytes\n")
		case 3:
			b.WriteString(head)
		}
		if i%7000 == 3000 {
			b.WriteString(strings.Repeat("long ", 300_000) + "\n")
		}
		fmt.Fprintf(&b, "1700000000.%06d\t192.0.2.%d\t%d\t198.51.100.7\t22\ttcp\tS0\t%d\n", i, i%256, i, i)
		if rng.IntN(100) == 0 {
			fmt.Fprintf(&b, "tcp\t1700000001.%06d\t192.0.2.%d\t%d\t198.51.100.7\t22\tS0\t%d\n", i, i%256, i, i)
		}
	}
	return b.Bytes()
}

func sortFlows(flows []flow.Flow) {
	slices.SortFunc(flows, func(a, b flow.Flow) int { return int(a.Start - b.Start) })
}

func TestWindow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conn.log")
	if err := os.WriteFile(path, []byte(smallTSV), 0o600); err != nil {
		t.Fatal(err)
	}
	all := smallFlows()
	for _, w := range []flow.Window{
		flow.AllTime, {}, {From: all[1].Start}, {From: all[1].Start, To: all[3].Start}, {To: all[0].Start}, {From: all[4].Start + 1},
	} {
		var want []flow.Flow
		for _, f := range all {
			if w.Contains(f.Start) {
				want = append(want, f)
			}
		}
		got, cov := scanAll(t, w, flow.AllColumns, chunkSize, path)
		if !slices.Equal(got, want) {
			t.Errorf("%v: %d flows, want %d", w, len(got), len(want))
		}
		if cov.Flows != 5 || cov.From != all[0].Start || cov.To != all[4].Start {
			t.Errorf("%v: coverage %+v counts what is outside, too", w, cov)
		}
	}
}

func TestScanStops(t *testing.T) {
	path := filepath.Join(t.TempDir(), "conn.log")
	if err := os.WriteFile(path, []byte(head+strings.Repeat(good, 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := Open(path, path, path)
	if err != nil {
		t.Fatal(err)
	}
	var calls atomic.Int64
	mine := errors.New("enough")
	_, err = log.Scan(context.Background(), flow.AllTime, 0, func([]flow.Flow) error { calls.Add(1); return mine })
	if err != mine || calls.Load() > 16 {
		t.Errorf("an error of fn ends in %v after %d calls", err, calls.Load())
	}
	ctx, cancel := context.WithCancel(context.Background())
	cov, err := log.Scan(ctx, flow.AllTime, 0, func([]flow.Flow) error { cancel(); return nil })
	if !errors.Is(err, context.Canceled) || cov.Flows >= 300_000 {
		t.Errorf("a cancelled scan ends in %v after %d flows", err, cov.Flows)
	}
	os.Remove(path)
	if _, err = log.Scan(context.Background(), flow.AllTime, 0, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), path) {
		t.Errorf("a file that is gone gives %v", err)
	}
}
