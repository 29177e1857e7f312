package flow

import (
	"cmp"
	"fmt"
	"slices"
)

// Coverage describes what was read of a log and what was lost: without it,
// "nothing found" has no meaning.
type Coverage struct {
	// Flows counts the flows read, inside and outside any window.
	Flows uint64
	// From and To are the earliest start and the latest start read; both 0
	// when Flows is 0.
	From, To Time
	// Sampling is the coarsest 1-in-N seen; 0 if not known, 1 unsampled.
	Sampling uint32
	// Skipped counts lines, packets or records that could not be used.
	Skipped uint64
	// Problems are the first few of them, each with its position.
	Problems []Problem
}

// Problem is something in the input that could not be used.
type Problem struct {
	// Place is the file with its line, packet or record number.
	Place string
	// Reason is what was wrong.
	Reason string
}

// String is "place: reason".
func (p Problem) String() string { return p.Place + ": " + p.Reason }

// maxProblems bounds Coverage.Problems; the rest is only counted.
const maxProblems = 16

// Saw counts one batch of flows.
func (c *Coverage) Saw(batch []Flow) {
	for i := range batch {
		f := &batch[i]
		if c.Flows == 0 || f.Start < c.From {
			c.From = f.Start
		}
		if c.Flows == 0 || f.Start > c.To {
			c.To = f.Start
		}
		c.Flows++
		c.Sampling = max(c.Sampling, f.Sampling)
	}
}

// Skip counts one unusable item at place.
func (c *Coverage) Skip(place, format string, args ...any) {
	c.Skipped++
	if len(c.Problems) < maxProblems {
		c.Problems = append(c.Problems, Problem{place, fmt.Sprintf(format, args...)})
	}
}

// Merge adds the coverage of another reading.
func (c *Coverage) Merge(o Coverage) {
	if o.Flows > 0 {
		if c.Flows == 0 || o.From < c.From {
			c.From = o.From
		}
		if c.Flows == 0 || o.To > c.To {
			c.To = o.To
		}
	}
	c.Flows += o.Flows
	c.Sampling = max(c.Sampling, o.Sampling)
	c.Skipped += o.Skipped
	c.Problems = append(c.Problems, o.Problems...)
	slices.SortStableFunc(c.Problems, func(a, b Problem) int { return cmp.Compare(a.Place, b.Place) })
	c.Problems = c.Problems[:min(len(c.Problems), maxProblems)]
}
