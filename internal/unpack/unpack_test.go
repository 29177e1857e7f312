package unpack

import (
	"bytes"
	"errors"
	"io"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"dragnet/internal/testkit"
)

func packed(t testing.TB, f Format, text string) []byte {
	var b bytes.Buffer
	var w io.WriteCloser
	var err error
	switch f {
	case Plain:
		return []byte(text)
	case Gzip:
		w = gzip.NewWriter(&b)
	case Zstd:
		w, err = zstd.NewWriter(&b)
	}
	if err == nil {
		_, err = io.WriteString(w, text)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestReader(t *testing.T) {
	text := strings.Repeat("1705976417.215\tCq\t1.2.3.4\n", 10_000)
	for f := Plain; f <= Zstd; f++ {
		data := packed(t, f, text)
		if got := Detect(data); got != f {
			t.Errorf("%s: taken for %s", f, got)
		}
		for name, src := range map[string]io.Reader{"": bytes.NewReader(data), "byte by byte": iotest.OneByteReader(bytes.NewReader(data))} {
			r := NewReader(src)
			if got, err := io.ReadAll(r); string(got) != text || err != nil {
				t.Errorf("%s %s: %d bytes, %v", f, name, len(got), err)
			}
		}
		// Two of them one after the other, as rotation with append makes.
		if got, err := io.ReadAll(NewReader(bytes.NewReader(append(bytes.Clone(data), data...)))); string(got) != text+text || err != nil {
			t.Errorf("%s twice: %d bytes, %v", f, len(got), err)
		}
		if f == Plain {
			continue
		}
		// Every cut is damage, never a regular end, and what came before is read.
		for _, n := range []int{5, 8, len(data) / 2, len(data) - 1} {
			got, err := io.ReadAll(NewReader(bytes.NewReader(data[:n])))
			if !IsDamage(err) || !strings.HasPrefix(text, string(got)) {
				t.Errorf("%s cut at %d of %d: %d bytes, %v", f, n, len(data), len(got), err)
			}
		}
		wrong := bytes.Clone(data)
		wrong[len(wrong)/2] ^= 0x10
		if got, err := io.ReadAll(NewReader(bytes.NewReader(wrong))); err == nil && string(got) == text {
			t.Errorf("%s: a flipped bit was not noticed", f)
		}
		// A disk that fails is not damage.
		broken := errors.New("input/output error")
		r := NewReader(io.MultiReader(bytes.NewReader(data[:len(data)/2]), iotest.ErrReader(broken)))
		if _, err := io.ReadAll(r); !errors.Is(err, broken) || IsDamage(err) {
			t.Errorf("%s: a failing disk is %v", f, err)
		}
	}
}

// TestMemoryIsBounded: a frame that demands a window of 128 MiB is refused before it is
// allocated.
func TestMemoryIsBounded(t *testing.T) {
	// Magic, descriptor without content size, window of 2^27 bytes (RFC 8878, section 3.1.1.1).
	frame := append([]byte(magics[Zstd]), 0x00, (27-10)<<3, 0x01, 0x00, 0x00)
	if _, err := io.ReadAll(NewReader(bytes.NewReader(frame))); !IsDamage(err) {
		t.Errorf("a window of 128 MiB: %v", err)
	}
}

// TestReadsWhatTheToolsWrite compares with the programs that operators use.
func TestReadsWhatTheToolsWrite(t *testing.T) {
	text := strings.Repeat("a line of a log\n", 50_000)
	for _, args := range [][]string{{"gzip", "-9"}, {"zstd", "-19"}, {"zstd", "-1"}} {
		cmd := exec.Command(testkit.Tool(t, args[0]), append(args[1:], "-c")...)
		cmd.Stdin = strings.NewReader(text)
		data, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(NewReader(bytes.NewReader(data))); string(got) != text || err != nil {
			t.Errorf("%v: %d bytes, %v", args, len(got), err)
		}
	}
}

// TestNothingIsLeft: a reader that is dropped in the middle leaves no goroutine.
func TestNothingIsLeft(t *testing.T) {
	data := packed(t, Zstd, strings.Repeat("a line of a log\n", 100_000))
	before := runtime.NumGoroutine()
	for range 20 {
		if _, err := io.CopyN(io.Discard, NewReader(bytes.NewReader(data)), 1000); err != nil {
			t.Fatal(err)
		}
	}
	if after := runtime.NumGoroutine(); after > before {
		t.Errorf("%d goroutines, %d before", after, before)
	}
}

func FuzzReader(f *testing.F) {
	for format := Plain; format <= Zstd; format++ {
		f.Add(packed(f, format, "a line of a log\n"))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := NewReader(bytes.NewReader(data))
		if _, err := io.CopyN(io.Discard, r, 1<<20); err != nil && err != io.EOF && !IsDamage(err) {
			t.Fatalf("%v is neither an end nor damage", err)
		}
	})
}
