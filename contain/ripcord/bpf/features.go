//go:build linux

package bpf

import (
	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"

	"dragnet/internal/doctor"
)

// Features returns what the programs need of the kernel, the oldest first.
func Features() []doctor.Feature {
	function := func(f asm.BuiltinFunc) func() error {
		return func() error { return features.HaveProgramHelper(ebpf.SchedCLS, f) }
	}
	return []doctor.Feature{
		{Name: "ring buffers", Since: "5.8", Cost: "nothing that is ended is recorded, and no request is answered", Probe: func() error { return features.HaveMapType(ebpf.RingBuf) }},
		{Name: "bpf_ktime_get_coarse_ns", Since: "5.11", Cost: "nothing expires", Probe: function(asm.FnKtimeGetCoarseNs)},
		{Name: "bpf_for_each_map_elem", Since: "5.13", Cost: "a table that is full while no agent runs cannot make room", Probe: function(asm.FnForEachMapElem)},
		{Name: "bpf_loop", Since: "5.17", Cost: "TCP options cannot be read, so numbers in SACK blocks cannot be shifted", Probe: function(asm.FnLoop)},
		{Name: "tcx", Since: "6.6", Cost: "the programs cannot be attached so that they stay when the agent ends", Probe: Attachable},
	}
}
