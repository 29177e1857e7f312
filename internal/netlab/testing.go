package netlab

import (
	"testing"

	"dragnet/internal/testkit"
)

// For returns a Lab for one test, closed at its end. Without root the test is
// skipped, or fails in CI.
func For(t testing.TB) *Lab {
	t.Helper()
	testkit.Root(t)
	testkit.Tool(t, "ip")
	lab, err := New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	return lab
}
