package collect

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

// TestSoftflowdSamples: softflowd that samples one packet in ten says so in each
// version, and what it did not pick makes no failed attempt.
func TestSoftflowdSamples(t *testing.T) {
	softflowd, capture := testkit.Tool(t, "softflowd"), testkit.Data(t, "benign", "http.pcap")
	for _, version := range []string{"5", "9", "10"} {
		c := begin(t, "", nil)
		if out, err := exec.CommandContext(t.Context(), softflowd, "-d", "-a", "-r", capture, "-v", version, "-s", "10", "-n", c.Addresses()[0].String(),
			"-p", filepath.Join(t.TempDir(), "pid"), "-c", "none").CombinedOutput(); err != nil {
			t.Fatalf("softflowd: %v\n%s", err, out)
		}
		settle(t, c, 1)
		time.Sleep(200 * time.Millisecond)
		flows := end(t, c)
		if len(flows) == 0 {
			t.Errorf("version %s: no flows", version)
		}
		for _, f := range flows {
			if f.Sampling != 10 || f.Failed() {
				t.Errorf("version %s: %+v", version, f)
			}
		}
	}
}
