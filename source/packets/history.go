package packets

import "dragnet/flow"

// maxHistory bounds the history: letters of SYN, FIN and RST repeat for every
// new sequence number, so a sender could make it arbitrarily long.
const maxHistory = 256

// writeLetter adds a letter as it is.
func (c *conn) writeLetter(letter byte) {
	if len(c.history) < maxHistory {
		c.history = append(c.history, letter)
	}
}

// addLetter adds an upper-case letter for the originator, lower for the
// responder.
func (c *conn) addLetter(side int, letter byte) {
	if side != c.origin {
		letter += 'a' - 'A'
	}
	c.writeLetter(letter)
}

// addOnce adds a letter unless the side's role has it already, and reports
// whether it had. bit is that of the letter.
func (c *conn) addOnce(side int, bit uint8, letter byte) (again bool) {
	role := side ^ c.origin
	if c.recorded[role]&bit != 0 {
		return true
	}
	c.recorded[role] |= bit
	c.addLetter(side, letter)
	return false
}

// addScaled adds a letter for the 1st, 10th, 100th ... event; n counts them.
func (c *conn) addScaled(side int, letter byte, n *uint32) {
	*n++
	for power := uint32(1); ; power *= 10 {
		if *n == power {
			c.addLetter(side, letter)
		}
		if power >= *n || power == 1e9 {
			return
		}
	}
}

// Bits of conn.recorded.
const (
	hadSYN uint8 = 1 << iota
	hadFIN
	hadRST
	hadFINRST
	hadMixed
	hadPayload
	hadACK
)

// recordFlags writes the letters of flags.
func (c *conn) recordFlags(s *segment, me *tcpSide) {
	flags := s.Flags & (flow.SYN | flow.FIN | flow.RST)
	switch {
	case flags&(flow.FIN|flow.RST) == flow.FIN|flow.RST:
		c.addOnce(s.side, hadFINRST, 'I')
	case flags != 0 && flags&(flags-1) != 0:
		c.addOnce(s.side, hadMixed, 'Q')
	case flags == flow.SYN && s.hasFlag(flow.ACK):
		c.addRepeated(s.side, hadSYN, 'H', s.at, &me.lastSYN)
	case flags == flow.SYN:
		c.addRepeated(s.side, hadSYN, 'S', s.at, &me.lastSYN)
	case flags == flow.FIN:
		c.addRepeated(s.side, hadFIN, 'F', s.at+int64(s.PayloadLen), &me.lastFIN)
	case flags == flow.RST:
		c.addRepeated(s.side, hadRST, 'R', s.at, &me.lastRST)
	case s.PayloadLen > 0:
		c.confirmSYNACK()
		c.addOnce(s.side, hadPayload, 'D')
	case s.hasFlag(flow.ACK):
		c.confirmSYNACK()
		c.addOnce(s.side, hadACK, 'A')
	}
}

// addRepeated writes a letter the first time, and again if it is at another
// position than the last.
func (c *conn) addRepeated(side int, bit uint8, letter byte, at int64, last *int64) {
	if c.addOnce(side, bit, letter) && at != *last {
		c.addLetter(side, letter)
	}
	*last = at
}

// confirmSYNACK corrects a connection that started with a SYN-ACK: if data or
// acknowledgements follow, it was not a stealth scan; its SYN was missed.
func (c *conn) confirmSYNACK() {
	if string(c.history) == "H" {
		c.flipRoles()
		c.history = append(c.history[:0], "^h"...)
		c.seen[c.origin] = true
	}
}
