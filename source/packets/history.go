package packets

import "dragnet/flow"

// maxHistory bounds the history: letters of SYN, FIN and RST repeat for every
// new sequence number, so a sender could make it as long as it likes.
const maxHistory = 256

// write adds a letter as it is.
func (c *conn) write(letter byte) {
	if len(c.history) < maxHistory {
		c.history = append(c.history, letter)
	}
}

// letter adds an upper-case letter for the originator, lower for the
// responder.
func (c *conn) letter(side int, letter byte) {
	if side != c.origin {
		letter += 'a' - 'A'
	}
	c.write(letter)
}

// once adds a letter unless the side's role had it; it reports whether it had.
// bit stands for the letter.
func (c *conn) once(side int, bit uint8, letter byte) (again bool) {
	role := side ^ c.origin
	if c.recorded[role]&bit != 0 {
		return true
	}
	c.recorded[role] |= bit
	c.letter(side, letter)
	return false
}

// scaled adds a letter for the 1st, 10th, 100th ... event; n counts them.
func (c *conn) scaled(side int, letter byte, n *uint32) {
	*n++
	for power := uint32(1); ; power *= 10 {
		if *n == power {
			c.letter(side, letter)
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

// record writes the letters that flags stand for.
func (c *conn) record(s *segment, me *tcpSide) {
	flags := s.Flags & (flow.SYN | flow.FIN | flow.RST)
	switch {
	case flags&(flow.FIN|flow.RST) == flow.FIN|flow.RST:
		c.once(s.side, hadFINRST, 'I')
	case flags != 0 && flags&(flags-1) != 0:
		c.once(s.side, hadMixed, 'Q')
	case flags == flow.SYN && s.has(flow.ACK):
		c.repeated(s.side, hadSYN, 'H', s.at, &me.lastSYN)
	case flags == flow.SYN:
		c.repeated(s.side, hadSYN, 'S', s.at, &me.lastSYN)
	case flags == flow.FIN:
		c.repeated(s.side, hadFIN, 'F', s.at+int64(s.PayloadLen), &me.lastFIN)
	case flags == flow.RST:
		c.repeated(s.side, hadRST, 'R', s.at, &me.lastRST)
	case s.PayloadLen > 0:
		c.productive()
		c.once(s.side, hadPayload, 'D')
	case s.has(flow.ACK):
		c.productive()
		c.once(s.side, hadACK, 'A')
	}
}

// repeated writes a letter the first time, and again where it stands at
// another position than the last.
func (c *conn) repeated(side int, bit uint8, letter byte, at int64, last *int64) {
	if c.once(side, bit, letter) && at != *last {
		c.letter(side, letter)
	}
	*last = at
}

// productive turns round a connection that began with a SYN-ACK: as data or
// acknowledgements follow, it was no stealth scan but its SYN was missed.
func (c *conn) productive() {
	if string(c.history) == "H" {
		c.flip()
		c.history = append(c.history[:0], "^h"...)
		c.seen[c.origin] = true
	}
}
