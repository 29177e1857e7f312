package daw

import "net/netip"

// answered lists the services that answered a host of the customer network
// this day or the day before, in fixed space. What a limit would drop passes to
// them: it does not scan, and a page that makes its visitors fail, or a neighbour
// who forges their addresses, then costs them little.
type answered struct {
	today, before services
	changed       func(netip.AddrPort) // may be nil
}

// services is a list of services by their keys, with the ports that keys hide.
type services struct {
	recent
	ports []uint16
}

func newAnswered(size int, seed uint64) answered {
	list := func() services { return services{newRecent(size, seed), make([]uint16, size)} }
	return answered{today: list(), before: list()}
}

// serviceKey is the destination with its port, so that the other ports of a
// server that answered are not open to scans.
func serviceKey(s netip.AddrPort) key {
	d := keyOf(s.Addr())
	return key{d.hi ^ uint64(s.Port())<<48 ^ 1, d.lo}
}

// serviceAt is the service in a slot; its key may be empty.
func (l *services) serviceAt(slot int) (netip.AddrPort, bool) {
	k := l.ring[slot]
	if k == (key{}) {
		return netip.AddrPort{}, false
	}
	port := l.ports[slot]
	return netip.AddrPortFrom(key{k.hi ^ uint64(port)<<48 ^ 1, k.lo}.toAddr(), port), true
}

func (l *services) each(f func(netip.AddrPort)) {
	for slot := range l.ring {
		if s, ok := l.serviceAt(slot); ok {
			f(s)
		}
	}
}

func serviceOf(c *Conn) netip.AddrPort { return netip.AddrPortFrom(c.Dst.Unmap(), c.DstPort) }

func (a *answered) notify(s netip.AddrPort) {
	if a.changed != nil {
		a.changed(s)
	}
}

func (a *answered) add(s netip.AddrPort) {
	l := &a.today
	if len(l.ring) == 0 {
		return
	}
	slot := l.next
	old, replaces := l.serviceAt(slot)
	replaces = replaces && l.full
	if !l.addAddr(serviceKey(s)) {
		return
	}
	l.ports[slot] = s.Port()
	a.notify(s)
	if replaces {
		a.notify(old)
	}
}

func (a *answered) has(s netip.AddrPort) bool {
	k := serviceKey(s)
	return a.today.hasAddr(k) || a.before.hasAddr(k)
}

// remove drops a service that failed.
func (a *answered) remove(s netip.AddrPort) {
	if a.has(s) {
		k := serviceKey(s)
		a.today.removeAddr(k)
		a.before.removeAddr(k)
		a.notify(s)
	}
}

func (a *answered) newDay(midnights int64) {
	a.today, a.before = a.before, a.today
	for _, l := range []*services{&a.today, &a.before} {
		if l == &a.today || midnights > 1 {
			var gone []netip.AddrPort
			if a.changed != nil {
				l.each(func(s netip.AddrPort) { gone = append(gone, s) })
			}
			l.clear()
			clear(l.ring) // a key that is left would be read as a service
			for _, s := range gone {
				a.notify(s)
			}
		}
	}
}

// OnService has f called for each service that begins or ceases to be one that
// answers, and for those that do now.
func (e *Edge) OnService(f func(netip.AddrPort)) {
	e.answered.changed = f
	e.answered.today.each(f)
	e.answered.before.each(f)
}

// Answers reports whether a service answered a host of the customer network lately,
// and has not failed since.
func (e *Edge) Answers(s netip.AddrPort) bool { return e.answered.has(s) }
