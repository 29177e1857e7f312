package dossier

import "dragnet/flow"

// Receipt is an enforcement point's word that a Decision took effect there, or
// why not.
type Receipt struct {
	Version  int    `json:"version"`
	Decision string `json:"decision"`
	// Point is what enforces: "nft:inet dragnet on edge-1".
	Point   string    `json:"point"`
	Time    flow.Time `json:"time"`
	Applied bool      `json:"applied"`
	// Proof is what was read back from the point; Problem what went wrong.
	Proof   string `json:"proof,omitempty"`
	Problem string `json:"problem,omitempty"`
}

// ReceiptVersion is the version of the JSON form of a Receipt.
const ReceiptVersion = 1
