package bpf

import (
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"

	"dragnet/internal/doctor"
	"dragnet/internal/testkit"
)

// TestFeatures asks the running kernel, also for one that no kernel has, and as
// one who may not ask.
func TestFeatures(t *testing.T) {
	testkit.Root(t)
	future := doctor.Feature{Name: "future", Since: "9.9", Cost: "nothing is foreseen", Probe: func() error {
		return features.HaveProgramHelper(ebpf.SchedCLS, asm.BuiltinFunc(9999))
	}}
	for _, c := range doctor.CheckFeatures(append(Features(), future)) {
		missing := c.Err != nil && strings.Contains(c.Err.Error(), "missing, which Linux 9.9 brought: nothing is foreseen")
		if !c.Fatal || missing != (c.Name == "future") || !missing && c.Err != nil {
			t.Errorf("%+v", c)
		}
	}
	refused := doctor.Feature{Name: "refused", Since: "0", Probe: func() error { return unix.EPERM }}
	if c := doctor.CheckFeatures([]doctor.Feature{refused})[0]; c.Err == nil || !strings.HasPrefix(c.Err.Error(), "not known: asking takes CAP_BPF") {
		t.Errorf("%+v", c)
	}
}
