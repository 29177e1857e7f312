package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/safchain/ethtool"
)

// Feature is a part of the kernel that not every kernel has, or has switched on.
type Feature struct {
	Name string
	// Since is the version of Linux that brought it.
	Since string
	// Cost is what a machine without it cannot do.
	Cost string
	// Probe asks the kernel; nil says that it is there.
	Probe func() error
}

// CheckFeatures asks the kernel for each feature, all of which a role needs. A
// kernel that refuses to answer is not said to lack anything.
func CheckFeatures(features []Feature) []Check {
	var all []Check
	for _, f := range features {
		c := Check{Name: f.Name, Fatal: true, Good: "the kernel has it, as since Linux " + f.Since, Err: f.Probe()}
		switch {
		case errors.Is(c.Err, fs.ErrPermission): // EPERM, too
			c.Err = fmt.Errorf("not known: asking takes CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN (%w)", c.Err)
		case c.Err != nil:
			c.Err = fmt.Errorf("missing, which Linux %s brought: %s (%w)", f.Since, f.Cost, c.Err)
		}
		all = append(all, c)
	}
	return all
}

// CheckJIT tests whether eBPF programs are compiled.
func CheckJIT() Check {
	const file = "/proc/sys/net/core/bpf_jit_enable"
	c := Check{Name: "eBPF compiler", Good: "on"}
	// A kernel that always compiles may have no such file.
	if b, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(b)) == "0" {
		c.Err = fmt.Errorf("off: programs are interpreted, so each packet takes several times as long; 'sysctl net.core.bpf_jit_enable=1' switches it on")
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		c.Err = err
	}
	return c
}

// CheckReceiveOffload tests how an interface merges the segments that it receives.
// each says what a packet costs if they are not merged.
func CheckReceiveOffload(name, each string) Check {
	c := Check{Name: "offload " + name, Good: "segments are merged and can be separated again (GRO)"}
	tool, err := ethtool.NewEthtool()
	if err != nil {
		c.Err = err
		return c
	}
	defer tool.Close()
	on, err := tool.Features(name)
	switch {
	case err != nil:
		c.Err = err
	case on["rx-lro"]:
		c.Err = fmt.Errorf("LRO is on: it merges segments so that they cannot be forwarded as they were; 'ethtool -K %s lro off' switches it off", name)
	case !on["rx-gro"]:
		c.Err = fmt.Errorf("GRO is off: %s; 'ethtool -K %s gro on' switches it on", each, name)
	}
	return c
}
