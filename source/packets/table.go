package packets

import (
	"bytes"
	"container/heap"
	"net/netip"

	"dragnet/flow"
)

// tuple identifies a conversation independently of the direction of a packet:
// the lesser end is a. It has no padding, so that hashing it is one pass over
// memory.
type tuple struct {
	a, b         [16]byte
	portA, portB uint16
	proto        uint16
}

// tupleOf orders two ends; from is 0 when src is a, else 1. Messages that
// expect no answer are not paired: src is always a.
func tupleOf(proto flow.Proto, src, dst netip.Addr, sport, dport uint16, paired bool) (t tuple, from int) {
	t = tuple{src.As16(), dst.As16(), sport, dport, uint16(proto)}
	if c := bytes.Compare(t.a[:], t.b[:]); paired && (c > 0 || c == 0 && sport > dport) {
		t.a, t.b, t.portA, t.portB = t.b, t.a, dport, sport
		return t, 1
	}
	return t, 0
}

// endOf is the address and port of one end.
func (t *tuple) endOf(side int) (netip.Addr, uint16) {
	if side == 0 {
		return netip.AddrFrom16(t.a).Unmap(), t.portA
	}
	return netip.AddrFrom16(t.b).Unmap(), t.portB
}

// A timer is a time at which a connection must be checked again.
type timer uint8

const (
	quiet   timer = iota // nothing happened for too long
	attempt              // a SYN was not answered
	check                // has it ended silently?
	linger               // it ended; the wait for stragglers is over
	numTimers
)

// never is a timer that is not set.
const never = flow.MaxTime

// setTimer (re)sets a timer of c.
func (a *Assembler) setTimer(c *conn, t timer, at flow.Time) {
	c.timers[t] = at
	a.reorderConn(c)
}

// reorderConn moves c to the position of its earliest timer.
func (a *Assembler) reorderConn(c *conn) {
	due := c.timers[0]
	for _, t := range c.timers[1:] {
		due = min(due, t)
	}
	if due != c.due {
		c.due = due
		if c.place >= 0 {
			heap.Fix(&a.queue, c.place)
		}
	}
}

// queue is a heap of connections by their earliest timer.
type queue []*conn

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].due < q[j].due }
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

// Push and Pop are called by container/heap.
func (q *queue) Push(x any) {
	c := x.(*conn)
	c.place = len(*q)
	*q = append(*q, c)
}

func (q *queue) Pop() any {
	old := *q
	c := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	c.place = -1
	return c
}
