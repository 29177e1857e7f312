package ingest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/klauspost/compress/zstd"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

const conns = "#separator \\x09\n#path\tconn\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n" +
	"1.0\t192.0.2.1\t1\t192.0.2.2\t2\ttcp\n2.0\t192.0.2.1\t1\t192.0.2.2\t2\tudp\n"

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func zip(t *testing.T, content []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func count(t *testing.T, l flow.Log) (flows int64, cov flow.Coverage) {
	t.Helper()
	var n atomic.Int64
	cov, err := l.Scan(context.Background(), flow.AllTime, flow.AllColumns, func(batch []flow.Flow) error {
		n.Add(int64(len(batch)))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n.Load(), cov
}

// TestDirectoryOfEverything: logs and captures together, plain and gzip, at
// any depth; what is neither is passed over.
func TestDirectoryOfEverything(t *testing.T) {
	capture, err := os.ReadFile(filepath.Join("..", "..", "lab", "incident", "testdata", "draco.pcap.gz"))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write(t, dir, "conn.log", []byte(conns))
	write(t, dir, "2026/11/conn.log.gz", zip(t, []byte(conns)))
	write(t, dir, "2026/edge.pcap.gz", capture)
	write(t, dir, "dns.log", []byte("#separator \\x09\n#path\tdns\n#fields\tts\tquery\n"))
	write(t, dir, "notes.txt", []byte("nothing"))
	write(t, dir, "broken.gz", []byte{0x1f, 0x8b, 0xff})
	l, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if l.Passed != 2 {
		t.Errorf("passed over %d files, want 2", l.Passed)
	}
	alone, err := Open(write(t, t.TempDir(), "x", capture))
	if err != nil {
		t.Fatal(err)
	}
	inCapture, _ := count(t, alone)
	got, cov := count(t, l)
	if got != inCapture+4 || cov.Flows != uint64(got) {
		t.Errorf("%d flows, coverage %d, want %d of the capture and 4 of the logs", got, cov.Flows, inCapture)
	}
	// What cannot be read might have been a log: it counts as lost.
	if cov.Skipped != 1 || len(cov.Problems) != 1 || cov.Problems[0].Place != filepath.Join(dir, "broken.gz") {
		t.Errorf("problems %v (%d skipped), want one about broken.gz", cov.Problems, cov.Skipped)
	}
}

// TestLinkedFiles: a folder of links to logs is a log.
func TestLinkedFiles(t *testing.T) {
	dir := t.TempDir()
	target := write(t, t.TempDir(), "conn.log", []byte(conns))
	if err := os.Symlink(target, filepath.Join(dir, "today.log")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(dir, "absent"), filepath.Join(dir, "dangling.log")); err != nil {
		t.Fatal(err)
	}
	l, err := openFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	if n, _ := count(t, l); n != 2 {
		t.Errorf("%d flows, want 2", n)
	}
}

// TestQuietHour: an empty file, named, is the log of an hour without traffic.
func TestQuietHour(t *testing.T) {
	l, err := Open(write(t, t.TempDir(), "conn.log", nil))
	if err != nil {
		t.Fatal(err)
	}
	if n, cov := count(t, l); n != 0 || cov.Skipped != 0 {
		t.Errorf("%d flows, %d skipped, want none", n, cov.Skipped)
	}
}

// TestPipesAndCompression: one log, through each compression, from a file, a named pipe
// and standard input, is as many flows, also when it is read twice.
func TestPipesAndCompression(t *testing.T) {
	dir := t.TempDir()
	log := []byte(conns)
	for i := range 299 {
		log = fmt.Appendf(log, "1705976%d\t192.0.2.1\t%d\t192.0.2.2\t80\ttcp\n", 100+i, i)
	}
	var z bytes.Buffer
	enc, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enc.Write(log); err != nil {
		t.Fatal(err)
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"conn.log": log, "conn.log.gz": zip(t, log), "conn.log.zst": z.Bytes()} {
		path := write(t, dir, name, content)
		pipe := filepath.Join(dir, name+".pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		written := make(chan error)
		go func() { written <- os.WriteFile(pipe, content, 0) }()
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		stdin := os.Stdin
		os.Stdin = in
		for _, from := range []string{path, pipe, Stdin} {
			l, err := Open(from)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if n, cov := count(t, l); n != 301 || cov.Skipped != 0 {
					t.Errorf("%s from %s: %d flows, %d skipped", name, from, n, cov.Skipped)
				}
			}
		}
		os.Stdin = stdin
		if err := errors.Join(<-written, in.Close()); err != nil {
			t.Error(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(os.TempDir(), "dragnet-input-*"))
	if err != nil || len(left) > 0 {
		t.Errorf("copies of pipes were left behind: %v %v", left, err)
	}
}

func TestWhatIsNotALog(t *testing.T) {
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.Mkdir(empty, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"text": write(t, dir, "notes.txt", []byte("nothing")), "missing": filepath.Join(dir, "missing"), "empty directory": empty,
		"broken gzip": write(t, dir, "broken.gz", []byte{0x1f, 0x8b, 8}),
	} {
		if _, err := Open(path); err == nil {
			t.Errorf("%s was taken for a log", name)
		}
	}
}

// TestSharedFoldersOpen opens the real mixtures.
func TestSharedFoldersOpen(t *testing.T) {
	for _, folder := range [][]string{{"zeek-logs"}, {"zeek-traces", "Traces"}, {"ndpi"}, {"benign"}} {
		l, err := Open(testkit.Data(t, folder...))
		if err != nil {
			t.Errorf("%v: %v", folder, err)
			continue
		}
		if n, _ := count(t, l); n == 0 {
			t.Errorf("%v: no flow", folder)
		}
	}
}
