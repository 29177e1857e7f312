package daw

// answered lists the services that answered a host of the customer network
// this day or the day before, in fixed space. What a limit would drop passes to
// them: it does not scan, and a page that makes its visitors fail, or a neighbour
// who forges their addresses, then costs them little.
type answered struct{ today, before recent }

func newAnswered(size int, seed uint64) answered {
	return answered{newRecent(size, seed), newRecent(size, seed)}
}

// serviceOf is the destination with its port, so that the other ports of a
// server that answered are not open to scans.
func serviceOf(c *Conn) key {
	d := keyOf(c.Dst)
	return key{d.hi ^ uint64(c.DstPort)<<48 ^ 1, d.lo}
}

func (a *answered) add(c *Conn) {
	if len(a.today.ring) > 0 {
		a.today.addAddr(serviceOf(c))
	}
}

func (a *answered) has(c *Conn) bool {
	k := serviceOf(c)
	return a.today.hasAddr(k) || a.before.hasAddr(k)
}

// remove drops a service that failed.
func (a *answered) remove(c *Conn) {
	k := serviceOf(c)
	a.today.removeAddr(k)
	a.before.removeAddr(k)
}

func (a *answered) newDay(midnights int64) {
	a.today, a.before = a.before, a.today
	a.today.clear()
	if midnights > 1 {
		a.before.clear()
	}
}

// isKnownService reports whether a request goes to a service that answered, and
// has not failed since.
func (e *Edge) isKnownService(c *Conn) bool { return e.answered.has(c) }
