package dossier

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

// Alternatives are contents of which any one identifies the worm, with their
// loss compared with the signature they were derived from.
type Alternatives struct {
	Name     string    `json:"name"`
	Contents []Content `json:"contents"`
	// Loss is the share of windows that the signature accepts and no content
	// matches, measured on windows drawn from the signature itself.
	Loss float64 `json:"loss"`
}
