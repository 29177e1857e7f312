// Package kernel holds the kernel programs that find what processes share, and
// loads them. The objects are committed, so building needs no compiler for
// them; 'go generate ./trace/kernel' regenerates them.
package kernel

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -tags linux -no-global-types stop stop.c -- -O2 -g -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu
//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -tags linux -no-global-types recorder record.c -- -O2 -g -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu
