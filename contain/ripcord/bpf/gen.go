// Package bpf holds the kernel programs of Ripcord's bump in the wire, and
// loads them. They join two interfaces and decide for each packet whether it
// crosses. Their oracle, the same decisions in plain Go, is
// contain/ripcord/path.
//
// The objects are committed, so building needs no compiler for them; 'go
// generate ./contain/ripcord/bpf' regenerates them, and 'make test' compares.
package bpf

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -tags linux -no-global-types wire ripcord.c -- -O2 -g -mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu
