package dossier

import "dragnet/flow"

// Receipt is the report of an enforcement point that a Decision took effect
// there, or why not.
type Receipt struct {
	Version  int    `json:"version"`
	Decision string `json:"decision"`
	// Point is the enforcement point: "nft:inet dragnet on edge-1".
	Point   string    `json:"point"`
	Time    flow.Time `json:"time"`
	Applied bool      `json:"applied"`
	// Proof is what was read back from the point; Problem is what failed.
	Proof   string `json:"proof,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// ReceiptVersion is the version of the JSON form of a Receipt.
const ReceiptVersion = 1
