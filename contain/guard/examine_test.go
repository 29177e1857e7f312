//go:build linux

package guard

import (
	"slices"
	"testing"
	"time"

	"dragnet/internal/doctor"
	"dragnet/internal/testkit"
)

// What is missing for limits in the kernel is said, and what is there.
func TestExamineKernel(t *testing.T) {
	testkit.Root(t)
	c := small(func(c *Configuration) {
		c.Kernel = KernelConfiguration{Interfaces: []string{"lo", "none0"}, Pins: t.TempDir(), Stay: false}
	})
	all := Examine(c, time.Now())
	find := func(name string) doctor.Check {
		i := slices.IndexFunc(all, func(c doctor.Check) bool { return c.Name == name })
		if i < 0 {
			t.Fatalf("no check of %s in %+v", name, all)
		}
		return all[i]
	}
	if c := find("eBPF"); c.Err != nil {
		t.Error(c.Err)
	}
	if find("interface lo").Err != nil || find("interface none0").Err == nil {
		t.Errorf("interfaces: %+v", all)
	}
	if find("pins").Err == nil {
		t.Error("a folder in no BPF file system is taken")
	}
	if c := find("without the agent"); c.Err != nil || c.Good != "all packets pass" {
		t.Errorf("%+v", c)
	}
}
