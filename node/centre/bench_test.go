package centre

import (
	"path/filepath"
	"strings"
	"testing"

	"dragnet/simulate/variants"
)

// BenchmarkFamily learns from 50 variants that came since the last turn, and from
// the first copy alone.
func BenchmarkFamily(b *testing.B) {
	template, err := variants.Family("alder", 1)
	if err != nil {
		b.Fatal(err)
	}
	r := variants.Published()
	r.CarrierMax = 3 << 10
	clean := writeFile(b, filepath.Join(b.TempDir(), "clean"), []byte(strings.Repeat("GET / HTTP/1.1\r\n", 4096)))
	for name, n := range map[string]int{"copies=1": 1, "copies=50": 50} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				b.StopTimer()
				k := open(b, func(c *Configuration) { c.Clean = []string{clean} })
				for _, v := range r.MakeAll(template, 3, 0, n) {
					if err := k.send("trap-1", report(v, 80)); err != nil {
						b.Fatal(err)
					}
				}
				b.StartTimer()
				if err := k.turn(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
