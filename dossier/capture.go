package dossier

import (
	"crypto/sha256"
	"encoding/hex"
	"net/netip"

	"dragnet/flow"
)

// Capture is the payload sent by one side of one session, as recorded by a trap
// or a sensor. It is data to compare, never to run.
type Capture struct {
	Time flow.Time `json:"time"`
	// Source sent the bytes to Target.
	Source netip.AddrPort `json:"source"`
	Target netip.AddrPort `json:"target"`
	Proto  flow.Proto     `json:"proto"`
	// Trapped is true if the session is attack traffic by construction: an
	// outbound connection of an inbound honeypot.
	Trapped bool   `json:"trapped"`
	Payload []byte `json:"payload"`
	// Lost counts bytes known to be missing from Payload.
	Lost uint64 `json:"lost,omitempty"`
}

// ID names the payload by its SHA-256, so that copies are stored once.
func (c *Capture) ID() string {
	sum := sha256.Sum256(c.Payload)
	return hex.EncodeToString(sum[:])
}
