package match_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/signature/match"
	"dragnet/signature/tokens"
)

// BenchmarkHyperscan puts Hyperscan, which searches for the strings that 100
// signatures imply, beside the signatures themselves on the same payload. The
// strings miss what they cannot say; the loss is reported with the speed.
func BenchmarkHyperscan(b *testing.B) {
	program := buildHyperscan(b)
	rng := rand.New(rand.NewPCG(61, 62))
	var all []*dossier.Signature
	for i := range 100 {
		all = append(all, signature(fmt.Sprintf("s%d", i), single(randomBlock(rng, 30), 5)))
	}
	data := payload(rng, 1<<20, &all[0].Parts[0].Blocks[0])
	lines, loss := 0, 0.0
	var patterns strings.Builder
	for _, s := range all {
		alternatives, err := tokens.Lower(s, tokens.Options{})
		if err != nil {
			b.Fatal(err)
		}
		loss += alternatives.Loss / float64(len(all))
		for _, c := range alternatives.Contents {
			patterns.WriteString(expression(&c))
			lines++
		}
	}
	dir := b.TempDir()
	patternFile, dataFile := filepath.Join(dir, "patterns"), filepath.Join(dir, "data")
	if err := os.WriteFile(patternFile, []byte(patterns.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(dataFile, data, 0o600); err != nil {
		b.Fatal(err)
	}
	b.Run("strings/hyperscan", func(b *testing.B) {
		var rate, matches float64
		for b.Loop() {
			out, err := exec.Command(program, patternFile, dataFile).Output()
			if err != nil {
				b.Fatal(err)
			}
			if _, err := fmt.Sscan(string(out), &rate, &matches); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(rate/1e6, "MB/cpu-s")
		b.ReportMetric(float64(lines), "strings")
		b.ReportMetric(loss, "loss")
	})
	m := newMatcher(b, match.Fastest(), all...)
	m.Match(data) // makes its filters
	b.Run("signatures/"+match.Fastest().String(), func(b *testing.B) {
		perCPU(b, len(data), func() { m.Match(data) })
	})
}

// expression writes a content as a regular expression.
func expression(c *dossier.Content) string {
	var s strings.Builder
	for i, x := range c.Bytes {
		if c.Fixed[i] {
			fmt.Fprintf(&s, `\x%02x`, x)
		} else {
			s.WriteByte('.')
		}
	}
	return s.String() + "\n"
}

func buildHyperscan(b *testing.B) string {
	if _, err := os.Stat("/usr/include/hs/hs.h"); err != nil {
		b.Skip("libhyperscan-dev is not installed")
	}
	program := filepath.Join(b.TempDir(), "hyperscan")
	out, err := exec.Command(testkit.Tool(b, "gcc"), "-O2", "-o", program, "testdata/hyperscan.c", "-lhs").CombinedOutput()
	if err != nil {
		b.Fatalf("gcc: %v\n%s", err, out)
	}
	return program
}

// BenchmarkMPADSOrder measures the two orders in which the parts of an MPADS
// may be looked for in traffic that holds no worm, where the first part that is
// absent settles it: the paper's, the most permissive first, and the most
// selective first. A permissive part is present more often, so the next one has
// to be looked for as well; a selective one rules windows out sooner.
func BenchmarkMPADSOrder(b *testing.B) {
	rng := rand.New(rand.NewPCG(71, 72))
	bg := textBackground()
	var tables []*match.Table
	for _, width := range []int{10, 16, 24, 40} { // permissive to selective
		block := randomBlock(rng, width)
		tables = append(tables, match.NewTable(&block, bg))
	}
	none := randomBlock(rng, 30)
	var sequences [][]byte
	size := 0
	for range 200 {
		s := payload(rng, 2<<10+rng.IntN(18<<10), &none)
		sequences, size = append(sequences, s), size+len(s)
	}
	for _, omega := range []float64{0, 2} {
		for _, order := range []string{"permissive-first", "selective-first", "all"} {
			var scanners []*match.Scanner
			for _, t := range tables {
				scanners = append(scanners, match.NewScanner(t, t.Limit(omega), match.Fastest()))
			}
			if order == "selective-first" {
				for i, j := 0, len(scanners)-1; i < j; i, j = i+1, j-1 {
					scanners[i], scanners[j] = scanners[j], scanners[i]
				}
			}
			lookFor(scanners, sequences[0], false) // makes their filters
			b.Run(fmt.Sprintf("omega=%v/%s", omega, order), func(b *testing.B) {
				looked := 0
				perCPU(b, size, func() {
					looked = 0
					for _, s := range sequences {
						looked += lookFor(scanners, s, order != "all")
					}
				})
				b.ReportMetric(float64(looked)/float64(len(sequences)), "parts")
			})
		}
	}
}

// lookFor says how many parts were looked for, up to the first that is absent
// or all of them.
func lookFor(parts []*match.Scanner, s []byte, stop bool) int {
	for i, p := range parts {
		found := false
		p.Scan(s, func(int, int32) int32 {
			found = true
			return 1 << 30 // one is enough
		})
		if !found && stop {
			return i + 1
		}
	}
	return len(parts)
}
