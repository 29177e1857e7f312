//go:build !linux

// Package stop makes the tables of the STOP paper again; it needs Linux.
package stop

import "dragnet/reproduce/report"

// All is empty: processes are looked into on Linux only.
func All() []report.Reproduction { return nil }
