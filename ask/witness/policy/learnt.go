package policy

import (
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow/key"
)

// Addresses is how many addresses the far ends of the flows may have that an
// answer to q lets the asker read, counted in IPv4 addresses and IPv6 networks of
// 64 bits. A key of a prefix of 12 bits opens 2^20 addresses, one without an
// address all of them. Where clues are joined, an answer names only hosts that
// fit all, and so the least of the clues counts; alternatives are added up.
//
// It bounds what can be listed by walking through prefixes, which the number of
// candidates does not (Floor): that protects the asker, this the witness.
func Addresses(q *dossier.Question) (n int64) {
	if len(q.Branches) == 0 {
		for i := range q.Clues {
			n += clueAddresses(&q.Clues[i])
		}
		return n
	}
	for _, b := range q.Branches {
		n += joinedAddresses(q, b)
	}
	return n
}

func joinedAddresses(q *dossier.Question, n *pattern.Node) int64 {
	if n.Op == pattern.Leaf {
		return clueAddresses(&q.Clues[n.Clue])
	}
	return min(joinedAddresses(q, n.Left), joinedAddresses(q, n.Right))
}

func clueAddresses(c *dossier.AskedClue) int64 {
	open := 0 // bits of an address that a key leaves open
	switch {
	case c.Mask.Family == key.IPv4:
		open = 32 - int(c.Mask.Prefix)
	case c.Mask.Family == key.IPv6:
		open = min(max(64-int(c.Mask.Prefix), 0), 40)
	default:
		open = 32
	}
	return int64(len(c.Keys)) << open
}
