package ingest

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/store"
	"dragnet/store/disk"
)

// childVariable makes this test binary the program that is killed; keepVariable
// says how many logs retention leaves.
const (
	childVariable = "DRAGNET_CRASH_TEST"
	keepVariable  = "DRAGNET_CRASH_KEEP"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := crashing(dir, os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// perLog is the flows of one log of the crash test; log n holds those from
// n*perLog on. They fit about three blocks.
const perLog = 5000

func logName(logs string, n int) string { return filepath.Join(logs, fmt.Sprintf("conn.%04d.log", n)) }

// crashing imports all logs one after the other, and between them removes the
// oldest flows and rotates the salts. It says on standard output what lasts.
func crashing(dir, logs string) error {
	keep, err := strconv.Atoi(os.Getenv(keepVariable))
	if err != nil {
		return err
	}
	w, err := disk.NewWriter(dir, epoch)
	if err != nil {
		return err
	}
	imported, err := w.Sources(context.Background())
	if err != nil {
		return err
	}
	fmt.Println("open")
	m := NewImporter(imported, w)
	for n := 0; ; n++ {
		if _, err := os.Stat(logName(logs, n)); err != nil {
			return nil
		}
		done, err := m.Import(context.Background(), logName(logs, n))
		if err != nil {
			return err
		}
		if err := m.Commit(); err != nil {
			return err
		}
		fmt.Println("imported", n)
		if done.Status == Unchanged {
			continue
		}
		if n%3 == 0 {
			if _, err := w.Prune(context.Background(), store.Keep{Age: time.Duration(keep) * perLog * time.Second}, time.Now()); err != nil {
				return err
			}
			fmt.Println("pruned", n)
		}
		if n%5 == 0 {
			if err := w.Rotate(context.Background(), fmt.Sprintf("day-%d", n)); err != nil {
				return err
			}
			fmt.Println("rotated", n)
		}
	}
}

// crashes is how many times the child is killed; DRAGNET_CRASHES changes it.
func crashes(t *testing.T) int {
	if s := os.Getenv("DRAGNET_CRASHES"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testkit.Short(t) {
		return 20
	}
	return 200
}

// TestKilledAtAnyMoment kills an import with retention, merging and rotation
// again and again. Whatever it had said to last must be there once, what it had
// not said there once or not at all, and 'store check' clean.
func TestKilledAtAnyMoment(t *testing.T) {
	p := newPlace(t)
	p.keep = 20
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	lasting, next, killed := -1, 0, 0 // lasting: the last log said to last
	for killed < crashes(t) {
		for ; next < lasting+12; next++ {
			p.write(filepath.Base(logName(p.logs, next)), connLog(next*perLog, (next+1)*perLog))
		}
		// One in eight is killed while it starts and tidies up.
		said, died := killSoon(t, exe, p, rng.IntN(8) > 0, time.Duration(rng.IntN(150_000))*time.Microsecond)
		if died {
			killed++
		}
		lasting = max(lasting, said)
		inspect(t, p, lasting)
	}
	t.Logf("killed %d times; %d logs were imported", killed, lasting+1)
}

// killSoon runs the child, kills it a while after its start, or after it has
// the directory open, and returns the last log it said to last.
func killSoon(t *testing.T, exe string, p *place, open bool, after time.Duration) (said int, died bool) {
	t.Helper()
	cmd := exec.Command(exe, p.logs)
	kill := func() { time.AfterFunc(after, func() { cmd.Process.Kill() }) }
	return p.run(cmd, func(line string) {
		if line == "" && !open || line == "open" && open {
			kill()
		}
	})
}

// run runs the child, which may be killed, but not fail. It calls hear with ""
// when the child has started and with each line it says.
func (p *place) run(cmd *exec.Cmd, hear func(line string)) (said int, died bool) {
	p.t.Helper()
	cmd.Env = append(os.Environ(), childVariable+"="+p.dir, keepVariable+"="+strconv.Itoa(p.keep))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	hear("")
	said = -1
	for lines := bufio.NewScanner(out); lines.Scan(); {
		hear(lines.Text())
		if n, ok := strings.CutPrefix(lines.Text(), "imported "); ok {
			said, _ = strconv.Atoi(n)
		}
	}
	err = cmd.Wait()
	if err != nil && cmd.ProcessState.ExitCode() >= 0 {
		p.t.Fatalf("the child failed: %v\n%s", err, stderr.String())
	}
	return said, err != nil
}

// TestTwoProcesses: while one process writes to a directory, another is refused,
// with its number.
func TestTwoProcesses(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	for n := range 50 {
		p.write(filepath.Base(logName(p.logs, n)), connLog(n*perLog, (n+1)*perLog))
	}
	cmd := exec.Command(exe, p.logs)
	p.keep = 100
	var refused error
	p.run(cmd, func(line string) {
		if line == "imported 0" {
			_, refused = disk.OpenWriter(p.dir)
			if got := numbers(t, p.dir); len(got) < perLog {
				t.Errorf("a reader beside it sees %d flows", len(got))
			}
		}
	})
	if want := fmt.Sprintf("in use by another program that writes to it, process %d", cmd.Process.Pid); refused == nil || !strings.Contains(refused.Error(), want) {
		t.Errorf("%v, want %q", refused, want)
	}
	inspect(t, p, 49)
}

// TestKilledAtSystemCalls kills the child at the first, second ... call of each
// kind that changes the directory, while it imports, merges, removes and
// rotates.
func TestKilledAtSystemCalls(t *testing.T) {
	testkit.Long(t) // one goroutine, or another process
	strace := testkit.Tool(t, "strace")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	before := newPlace(t)
	const prepared, logs = 7, 11 // the next commit merges; log 9 prunes, 10 rotates
	for n := range logs {
		path := before.write(filepath.Base(logName(before.logs, n)), connLog(n*perLog, (n+1)*perLog))
		if n < prepared {
			before.bring(path)
		}
	}
	for _, call := range []string{"fsync", "renameat", "unlinkat"} {
		killed, lived := 0, 0
		for n := 1; lived < 2; n++ {
			p := &place{t: t, dir: filepath.Join(t.TempDir(), "data"), logs: before.logs, keep: 1}
			if err := os.CopyFS(p.dir, os.DirFS(before.dir)); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(strace, "-qq", "-f", "-o", "/dev/null", "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:signal=SIGKILL:when=%d", call, n), exe, p.logs)
			said, died := p.run(cmd, func(string) {})
			inspect(t, p, max(said, prepared-1))
			if died {
				killed++
			} else {
				lived++
			}
		}
		// Counts are of one thread, so some of them are reached by none.
		if killed < 3 {
			t.Errorf("%s: killed only %d times", call, killed)
		}
		t.Logf("%s: killed %d times", call, killed)
	}
}

func inspect(t *testing.T, p *place, lasting int) {
	t.Helper()
	if !disk.Is(p.dir) {
		if lasting >= 0 {
			t.Fatal("the data directory is gone")
		}
		return
	}
	found, err := disk.Check(context.Background(), p.dir, nil)
	if err != nil || len(found) > 0 {
		t.Fatalf("store check: %v, %v", found, err)
	}
	got := numbers(t, p.dir)
	if n := len(got); n != len(slices.Compact(slices.Clone(got))) {
		t.Fatal("flows are doubled")
	}
	if len(got) == 0 {
		if lasting >= 0 {
			t.Fatal("everything is lost")
		}
		return
	}
	// Retention takes the oldest; the rest is without gaps up to what was said
	// to last, and ends with a whole log.
	first, last := got[0], got[len(got)-1]
	if last-first+1 != len(got) || (last+1)%perLog != 0 || last+1 < (lasting+1)*perLog {
		t.Fatalf("flows %d to %d, %d of them, with log %d said to last", first, last, len(got), lasting)
	}
	if kept := last + 1 - first; kept < min(p.keep, lasting+1)*perLog {
		t.Fatalf("retention left %d flows", kept)
	}
}
