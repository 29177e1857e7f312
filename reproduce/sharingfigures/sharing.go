// Package sharingfigures reproduces the measurements of Allman et al. 2006,
// "Fighting Coordinated Attackers with Cross-Organizational Information
// Sharing" (HotNets V), and measures what it left open.
package sharingfigures

import (
	"context"

	"dragnet/reproduce/report"
)

// All lists this paper's reproductions.
func All() []report.Reproduction {
	return []report.Reproduction{figure1(), privateSearch(), liarsEntry(), sharingModes()}
}

func figure1() report.Reproduction {
	r := report.Reproduction{
		Name: "sharing-figure-1", Title: "Collisions per key of the byte product, and of other hashes",
		Source: "Allman et al. 2006, section 3.2 and Figure 1",
	}
	r.Run = func(ctx context.Context, env report.Environment) (*report.Report, error) {
		return runFigure1(ctx, env, report.New(r), fullSize())
	}
	return r
}
