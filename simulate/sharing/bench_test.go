package sharing

import "testing"

// BenchmarkRun plays one community of 40 organisations, 30 % of them liars.
func BenchmarkRun(b *testing.B) {
	c := DefaultConfiguration()
	c.Liars = 0.3
	for b.Loop() {
		if _, err := Run(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}
