//go:build !linux

// Package stopfigures reproduces the tables of the STOP paper; it needs Linux.
package stop

import "dragnet/reproduce/report"

// All is empty: processes are examined on Linux only.
func All() []report.Reproduction { return nil }
