// Package tc holds the guard's kernel programs, and loads them. They judge and
// count the packets of a customer network where a Linux router receives and sends
// them, by the rules of package daw on the same tables; daw.Edge is their oracle.
//
// The objects are committed, so building needs no compiler for them; 'go
// generate ./contain/guard/tc' regenerates them, and 'make test' compares.
package tc

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go@v0.22.0 -tags linux -no-global-types guard guard.c -- -O2 -g -mcpu=v3 -Wall -Werror -idirafter /usr/include/x86_64-linux-gnu
