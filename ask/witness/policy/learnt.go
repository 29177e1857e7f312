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
		n += branchAddresses(q, b)
	}
	return n
}

// branchAddresses counts the hosts that an answer names whatever is negated, and, for
// each negated clue, those of them that it says to fit that too.
func branchAddresses(q *dossier.Question, b *pattern.Node) int64 {
	named, _ := joinedAddresses(q, b)
	n := named
	for _, v := range b.Negations() {
		n += min(named, clueAddresses(&q.Clues[v.Clue]))
	}
	return n
}

// joinedAddresses is ok unless all of n is negated.
func joinedAddresses(q *dossier.Question, n *pattern.Node) (count int64, ok bool) {
	switch n.Op {
	case pattern.Leaf:
		return clueAddresses(&q.Clues[n.Clue]), true
	case pattern.Not:
		return 0, false
	case pattern.AtLeast:
		for _, clue := range n.Left.Leaves() {
			count += clueAddresses(&q.Clues[clue])
		}
		return count, true
	}
	left, hasLeft := joinedAddresses(q, n.Left)
	right, hasRight := joinedAddresses(q, n.Right)
	switch {
	case !hasLeft:
		return right, hasRight
	case !hasRight:
		return left, true
	}
	return min(left, right), true
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
