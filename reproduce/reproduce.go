// Package reproduce lists what can be reproduced of the five papers: each entry
// runs an experiment and reports its numbers next to the paper's. Each paper
// has a folder with its entries.
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

// Find returns the reproduction with that name; ok is false if not found.
func Find(name string) (r report.Reproduction, ok bool) {
	for _, r := range All() {
		if r.Name == name {
			return r, true
		}
	}
	return report.Reproduction{}, false
}
