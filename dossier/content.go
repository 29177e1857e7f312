package dossier

import (
	"errors"
	"fmt"
	"math"
)

// Content is a string with wildcards for exact matchers: the most certain
// positions of a distribution.
type Content struct {
	Bytes []byte `json:"bytes"`
	// Fixed marks those of Bytes that must match; the others may be anything.
	// The first and the last are fixed.
	Fixed []bool `json:"fixed"`
	// FalseAlarms is what the background model expects per 10^9 bytes.
	FalseAlarms float64 `json:"false_alarms_per_gb"`
}

// Alternatives are contents of which any one, or Least of them, identify the worm,
// with their loss compared with the signature they were derived from.
type Alternatives struct {
	Name     string    `json:"name"`
	Contents []Content `json:"contents"`
	// Least is how many contents must occur; 0 means any one.
	Least int `json:"least,omitempty"`
	// Loss is the share of windows that the signature accepts and no content
	// matches, measured on windows drawn from the signature itself.
	Loss float64 `json:"loss"`
}

// maxContents bounds the contents of a signature file.
const maxContents = 256

func (a *Alternatives) check() error {
	if len(a.Contents) == 0 || len(a.Contents) > maxContents || a.Least < 0 || a.Least > len(a.Contents) {
		return fmt.Errorf("%d contents of which %d must occur; want 1 to %d contents, and no more to occur", len(a.Contents), a.Least, maxContents)
	}
	if !(a.Loss >= 0 && a.Loss <= 1) || !validName(a.Name) {
		return errors.New("the name, or the loss, is not valid")
	}
	for i, c := range a.Contents {
		n := len(c.Bytes)
		if n == 0 || n > MaxExact || len(c.Fixed) != n || !c.Fixed[0] || !c.Fixed[n-1] || math.IsNaN(c.FalseAlarms) {
			return fmt.Errorf("content %d: want as many marks as bytes, the first and the last fixed", i+1)
		}
	}
	return nil
}
