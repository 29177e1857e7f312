package dossier

import (
	"errors"
	"fmt"
)

// Evaluation is how well a way of learning did on samples and clean traffic that it
// had not seen: both are dealt into folds, and what is learnt from all folds but one is
// tested on that one.
type Evaluation struct {
	Folds int `json:"folds"`
	// Samples were tested, and Found of them by the signature learnt without them.
	Samples int `json:"samples"`
	Found   int `json:"found"`
	// Missed bounds the share of variants that are not found, with a confidence of
	// 95 % (Clopper and Pearson 1934).
	Missed Interval `json:"missed"`
	// CleanSequences, of CleanBytes bytes, were tested, and Alarms of them matched.
	CleanSequences int   `json:"clean_sequences"`
	CleanBytes     int64 `json:"clean_bytes"`
	Alarms         int   `json:"alarms"`
	// HardNegatives of the clean sequences matched at first, were learnt from on all
	// folds, and are not among those that Alarms counts.
	HardNegatives int `json:"hard_negatives,omitempty"`
	// FalseAlarms bounds the share of clean sequences that match, as Missed does.
	FalseAlarms Interval `json:"false_alarms"`
	// CleanDigest is the SHA-256 of the digests of the clean sequences, in hexadecimal
	// digits: the same for the same traffic in any order. Empty without any.
	CleanDigest string `json:"clean_digest,omitempty"`
	// Tried lists the kinds of signature that were compared.
	Tried []Trial `json:"tried,omitempty"`
}

// Interval is a range of shares, 0 to 1.
type Interval struct {
	Low  float64 `json:"low"`
	High float64 `json:"high"`
}

// Trial is the result of one kind of signature on the folds.
type Trial struct {
	// Kind is for example "distributions", "strings" or "all tokens".
	Kind   string `json:"kind"`
	Found  int    `json:"found"`
	Alarms int    `json:"alarms"`
	Kept   bool   `json:"kept,omitempty"`
	// Problem is why the kind could not be learnt from all samples; empty if it could.
	Problem string `json:"problem,omitempty"`
}

// maxTrials bounds Tried in a file.
const maxTrials = 16

func (e *Evaluation) check() error {
	switch {
	case e.Folds < 0 || e.Samples < 0 || e.Found < 0 || e.Found > e.Samples:
		return fmt.Errorf("%d of %d samples found in %d folds", e.Found, e.Samples, e.Folds)
	case e.CleanSequences < 0 || e.CleanBytes < 0 || e.Alarms < 0 || e.Alarms > e.CleanSequences:
		return fmt.Errorf("%d alarms on %d clean sequences", e.Alarms, e.CleanSequences)
	case e.HardNegatives < 0 || e.HardNegatives > e.CleanSequences:
		return fmt.Errorf("%d hard negatives of %d clean sequences", e.HardNegatives, e.CleanSequences)
	case !e.Missed.isValid() || !e.FalseAlarms.isValid():
		return errors.New("an interval is not within 0 and 1")
	case len(e.Tried) > maxTrials || len(e.CleanDigest) > 128:
		return errors.New("more kinds were tried than there are")
	}
	return nil
}

func (i Interval) isValid() bool { return i.Low >= 0 && i.Low <= i.High && i.High <= 1 }
