// Package bpf holds the kernel programs of the bump in the wire, and what loads
// them. They join two interfaces and decide packet by packet what crosses; the
// same decisions in plain Go, which are their oracle, are contain/ripcord/path.
//
// The objects are committed, so building needs no compiler for them;
// 'go generate ./contain/ripcord/bpf' makes them anew, and 'make test' compares.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -tags linux -no-global-types wire ripcord.c -- -O2 -g -mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu
