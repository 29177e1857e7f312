// Package reproduce lists what can be made again of the five papers: each
// entry runs an experiment and reports its numbers beside the paper's. The
// entries of one paper are in a folder of their own.
package reproduce

import (
	"slices"
	"strings"

	"dragnet/reproduce/coresidencefigures"
	"dragnet/reproduce/padsfigures"
	"dragnet/reproduce/report"
	"dragnet/reproduce/sharingfigures"
	"dragnet/reproduce/stopfigures"
	"dragnet/reproduce/wormfigures"
)

// All lists the reproductions in order of their names.
func All() []report.Reproduction {
	all := slices.Concat(sharingfigures.All(), padsfigures.All(), stopfigures.All(), wormfigures.All(), coresidencefigures.All())
	slices.SortFunc(all, func(a, b report.Reproduction) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Find is the reproduction with that name; ok is false if there is none.
func Find(name string) (r report.Reproduction, ok bool) {
	for _, r := range All() {
		if r.Name == name {
			return r, true
		}
	}
	return report.Reproduction{}, false
}
