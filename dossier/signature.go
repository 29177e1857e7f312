package dossier

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Signature recognises the variants of one worm, or of one family of them, in
// payload bytes. It is a set of position-aware distributions (PADS; Tang 2006,
// chapters 3 and 4); the file that carries it is described in
// docs/reference/signature-format.md.
type Signature struct {
	// Name is chosen by the author of the signature; letters, digits, '.', '_'
	// and '-' only, because exports use it as a rule name.
	Name string    `json:"name"`
	Made time.Time `json:"made"`
	// Learning is the origin and method, so that a result can be reproduced.
	Learning Learning `json:"learning"`
	// Background is f0, the byte distribution of normal traffic.
	Background Background `json:"background"`
	// Parts are searched independently. One part is a plain PADS; several are
	// an MPADS (section 3.5).
	Parts []Part `json:"parts,omitempty"`
	// Quorum is how many parts must score above their threshold; 0 means all,
	// as published.
	Quorum int `json:"quorum,omitempty"`
	// Exact are whole captures: usable from the first copy.
	Exact []Exact `json:"exact,omitempty"`
	// Family, if set, judges the parts together (chapter 4).
	Family *Family `json:"family,omitempty"`
	// Evaluation is how the signature was tested; nil if it was not.
	Evaluation *Evaluation `json:"evaluation,omitempty"`
	// Service is what nearly all samples were sent to; nil if not known.
	Service *Service `json:"service,omitempty"`
	// Strings are what exports write: strings that were tested with the signature.
	Strings *Alternatives `json:"strings,omitempty"`
	// Lifecycle is what people decided about the signature; nil if nothing.
	Lifecycle *Lifecycle `json:"lifecycle,omitempty"`
}

// Service is a port of a transport protocol.
type Service struct {
	// Proto is "tcp" or "udp".
	Proto string `json:"proto"`
	Port  uint16 `json:"port"`
}

func (s *Service) check() error {
	if s.Proto != "tcp" && s.Proto != "udp" || s.Port == 0 {
		return fmt.Errorf("service %.10q, port %d: want tcp or udp, and a port", s.Proto, s.Port)
	}
	return nil
}

// Learning is how a signature was made.
type Learning struct {
	// Method is "em", "gibbs", "mixture", "strings" or "exact".
	Method  string `json:"method"`
	Samples int    `json:"samples"`
	Seed    uint64 `json:"seed"`
	// CleanBytes counts the normal traffic from which Background was learnt and
	// against which the parts were checked; 0 means the built-in model.
	CleanBytes int64 `json:"clean_bytes"`
}

// Part is one signature Theta: one block, or several blocks with gaps between
// them (section 3.4.4).
type Part struct {
	Blocks []Block `json:"blocks"`
	// Threshold is compared with the mean log ratio per byte, in nats. The
	// published threshold is 0.
	Threshold float64 `json:"threshold"`
	// FalseAlarms is what the model expects at Threshold, in windows per 10^9
	// bytes of Background traffic; negative if not computed.
	FalseAlarms float64 `json:"false_alarms_per_gb"`
	// Samples is how many of the samples score above Threshold, each without its own
	// counts; 0 if not known.
	Samples int `json:"samples,omitempty"`
}

// Exact is a byte string that is malicious by construction.
type Exact struct {
	Bytes []byte `json:"bytes"`
}

// Family is the chapter 4 model of a worm family: each part gives one feature,
// and a sequence is judged by its Mahalanobis distance from Mean.
type Family struct {
	// Prior is pi_j of each part: the share of windows that belong to it.
	Prior []float64 `json:"prior"`
	// Mean and Covariance (row by row) describe the training features.
	Mean       []float64   `json:"mean"`
	Covariance [][]float64 `json:"covariance"`
	// Distance is the largest d^2 that counts as a member, chosen on held-out
	// samples; the published score is D = exp(-d^2/2).
	Distance float64 `json:"distance"`
}

// MaxWidth bounds a block, and MaxParts a signature: a signature file is
// hostile input, and matching costs width times parts per byte.
const (
	MaxWidth  = 4096
	MaxParts  = 64
	MaxBlocks = 16
	MaxGap    = 1 << 14
	MaxExact  = 1 << 20
)

// Width is the number of bytes that all blocks of p cover.
func (p *Part) Width() int {
	w := 0
	for i := range p.Blocks {
		w += len(p.Blocks[i].Columns)
	}
	return w
}

// Check reports the first reason why s is not valid.
func (s *Signature) Check() error {
	if !validName(s.Name) {
		return fmt.Errorf("signature name %q: use 1 to 64 letters, digits, '.', '_' or '-'", s.Name)
	}
	if len(s.Parts) == 0 && len(s.Exact) == 0 {
		return fmt.Errorf("signature %s has neither parts nor exact strings", s.Name)
	}
	if len(s.Parts) > MaxParts || s.Quorum < 0 || s.Quorum > len(s.Parts) {
		return fmt.Errorf("signature %s: %d parts with quorum %d; at most %d parts, and no larger quorum", s.Name, len(s.Parts), s.Quorum, MaxParts)
	}
	for i, e := range s.Exact {
		if len(e.Bytes) == 0 || len(e.Bytes) > MaxExact {
			return fmt.Errorf("signature %s: exact string %d has %d bytes, want 1 to %d", s.Name, i+1, len(e.Bytes), MaxExact)
		}
	}
	if len(s.Parts) > 0 {
		if err := s.Background.checkSum(); err != nil {
			return fmt.Errorf("signature %s: %w", s.Name, err)
		}
	}
	for i := range s.Parts {
		if s.Parts[i].Samples < 0 {
			return fmt.Errorf("signature %s: part %d: %d samples", s.Name, i+1, s.Parts[i].Samples)
		}
		if err := s.Parts[i].checkBlocks(); err != nil {
			return fmt.Errorf("signature %s: part %d: %w", s.Name, i+1, err)
		}
	}
	if s.Evaluation != nil {
		if err := s.Evaluation.check(); err != nil {
			return fmt.Errorf("signature %s: evaluation: %w", s.Name, err)
		}
	}
	if s.Service != nil {
		if err := s.Service.check(); err != nil {
			return fmt.Errorf("signature %s: %w", s.Name, err)
		}
	}
	if s.Lifecycle != nil {
		if err := s.Lifecycle.check(); err != nil {
			return fmt.Errorf("signature %s: %w", s.Name, err)
		}
	}
	if s.Strings != nil {
		if err := s.Strings.check(); err != nil {
			return fmt.Errorf("signature %s: strings: %w", s.Name, err)
		}
	}
	if s.Family != nil {
		if err := s.Family.checkShape(len(s.Parts)); err != nil {
			return fmt.Errorf("signature %s: family: %w", s.Name, err)
		}
	}
	return nil
}

func (p *Part) checkBlocks() error {
	if len(p.Blocks) == 0 || len(p.Blocks) > MaxBlocks {
		return fmt.Errorf("%d blocks, want 1 to %d", len(p.Blocks), MaxBlocks)
	}
	if !isFinite(p.Threshold) || !isFinite(p.FalseAlarms) {
		return errors.New("threshold or false-alarm rate is not finite")
	}
	for i := range p.Blocks {
		b := &p.Blocks[i]
		if i == 0 && b.Gap != (Gap{}) {
			return errors.New("the first block must not have a gap")
		}
		if b.Gap.Min < 0 || b.Gap.Max < b.Gap.Min || b.Gap.Max > MaxGap {
			return fmt.Errorf("block %d: gap %d to %d, want 0 <= min <= max <= %d", i+1, b.Gap.Min, b.Gap.Max, MaxGap)
		}
		if err := b.checkColumns(); err != nil {
			return fmt.Errorf("block %d: %w", i+1, err)
		}
	}
	if p.Width() > MaxWidth {
		return fmt.Errorf("%d positions in all, at most %d", p.Width(), MaxWidth)
	}
	return nil
}

func (f *Family) checkShape(parts int) error {
	if len(f.Prior) != parts || len(f.Mean) != parts || len(f.Covariance) != parts {
		return fmt.Errorf("prior, mean and covariance must have one row per part (%d)", parts)
	}
	for i, row := range f.Covariance {
		if len(row) != parts {
			return fmt.Errorf("covariance row %d has %d values, want %d", i+1, len(row), parts)
		}
	}
	for i := range f.Mean {
		if !(f.Prior[i] > 0 && f.Prior[i] < 1) || !isFinite(f.Mean[i]) || !(f.Covariance[i][i] > 0) {
			return fmt.Errorf("row %d: prior must be within 0..1, mean finite, variance positive", i+1)
		}
		for j, v := range f.Covariance[i] {
			if !isFinite(v) || v != f.Covariance[j][i] {
				return fmt.Errorf("covariance is not finite and symmetric at row %d, column %d", i+1, j+1)
			}
		}
	}
	if !(f.Distance > 0) || !isFinite(f.Distance) {
		return errors.New("distance must be positive")
	}
	return nil
}

func validName(s string) bool {
	for _, r := range s {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
		default:
			return false
		}
	}
	return len(s) > 0 && len(s) <= 64
}

func isFinite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
