package hunt_test

import (
	"compress/gzip"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"dragnet/dossier/pattern"
	"dragnet/internal/testkit"
	"dragnet/node/hunt"
	"dragnet/node/hunt/witnesses"
)

// bigLog repeats a real log, decompressed, until it has about 256 MB.
func bigLog(b *testing.B) (path string, size int64) {
	files, err := filepath.Glob(filepath.Join(testkit.Data(b, "zeek-logs", "missing_host"), "*.gz"))
	if err != nil {
		b.Fatal(err)
	}
	path = filepath.Join(b.TempDir(), "conn.log")
	out, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer out.Close()
	for size < 256<<20 {
		for _, name := range files {
			f, err := os.Open(name)
			if err != nil {
				b.Fatal(err)
			}
			z, err := gzip.NewReader(f)
			if err != nil {
				b.Fatal(err)
			}
			n, err := io.Copy(out, z)
			if err != nil {
				b.Fatal(err)
			}
			size += n
			f.Close()
		}
	}
	return path, size
}

// BenchmarkHunt is a whole hunt over a plain Zeek log, beside mawk doing the
// plain look-up on the same file.
func BenchmarkHunt(b *testing.B) {
	awk := testkit.Tool(b, "mawk")
	path, size := bigLog(b)
	b.Run("hunt", func(b *testing.B) {
		sources, err := witnesses.Open([]string{path})
		if err != nil {
			b.Fatal(err)
		}
		p, err := pattern.Parse("out dst=64.225.56.201 proto=tcp dport=22", pattern.NoFiles)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(size)
		for b.Loop() {
			if _, err := hunt.Run(context.Background(), configuration(nil), p, sources); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("mawk", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			script := `$6=="64.225.56.201" && $8=="tcp" && $7=="22" { n[$4]++ } END { for (k in n) print k, n[k] }`
			if err := exec.Command(awk, "-F", "\t", script, path).Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
