// Package wire holds what programs and organisations send each other: who
// speaks (identity), and the signed envelope around each message (envelope).
package wire

//go:generate ../tools/proto
