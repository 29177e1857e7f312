package dossier

// Content is a string with wildcards that exact matchers can look for: what a
// distribution implies at its most certain positions.
type Content struct {
	Bytes []byte `json:"bytes"`
	// Fixed tells which of Bytes must match; the others may be anything. The
	// first and the last are fixed.
	Fixed []bool `json:"fixed"`
	// FalseAlarms is what the background model expects per 10^9 bytes.
	FalseAlarms float64 `json:"false_alarms_per_gb"`
}

// Alternatives are contents of which any one tells the worm, with what they
// lose against the signature they were taken from.
type Alternatives struct {
	Name     string    `json:"name"`
	Contents []Content `json:"contents"`
	// Loss is the share of windows that the signature accepts and no content
	// matches, measured on windows drawn from the signature itself.
	Loss float64 `json:"loss"`
}
