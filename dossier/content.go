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
	// Joints are places between Bytes where other bytes may lie, in order.
	Joints []Joint `json:"joints,omitempty"`
	// FalseAlarms is what the background model expects per 10^9 bytes.
	FalseAlarms float64 `json:"false_alarms_per_gb"`
}

// Joint says that up to Most bytes more may lie before byte At of a content.
type Joint struct {
	At   int `json:"at"`
	Most int `json:"most"`
}

// SlackAt is how many bytes more may lie before byte at: those of a joint there, or none.
func (c *Content) SlackAt(at int) int {
	for _, j := range c.Joints {
		if j.At == at {
			return j.Most
		}
	}
	return 0
}

// MaxJoint bounds the bytes that may lie at a joint.
const MaxJoint = 255

// Alternatives are contents of which any one, or Least of them, identify the worm,
// with their loss compared with the signature they were derived from.
type Alternatives struct {
	Name     string    `json:"name"`
	Contents []Content `json:"contents"`
	// Least is how many contents must occur; 0 means any one.
	Least int `json:"least,omitempty"`
	// Loss is the share of what the signature finds and the contents do not: of the
	// samples, Tested of them, that the signature found when they were held out; of
	// windows drawn from the signature where Tested is 0.
	Loss   float64 `json:"loss"`
	Tested int     `json:"tested,omitempty"`
}

// maxContents bounds the contents of a signature file.
const maxContents = 256

func (a *Alternatives) check() error {
	if len(a.Contents) == 0 || len(a.Contents) > maxContents || a.Least < 0 || a.Least > len(a.Contents) || a.Tested < 0 {
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
		last := 0
		for _, j := range c.Joints {
			if j.At <= last || j.At >= n || j.Most < 1 || j.Most > MaxJoint {
				return fmt.Errorf("content %d: want joints in order within it, of 1 to %d bytes", i+1, MaxJoint)
			}
			last = j.At
		}
	}
	return nil
}
