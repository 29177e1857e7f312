package netflow

// rates are the sampling rates that options announced, each N of 1-in-N.
type rates struct {
	// whole is that of the domain: of the option without selector and
	// interface.
	whole uint32
	// selectors and interfaces are by selectorId [302] or samplerId [48], and
	// by ingressInterface [10].
	selectors, interfaces map[uint32]uint32
}

// maxRates bounds each of the tables.
const maxRates = 4096

// learnRate keeps the rate that an option states, if it states one.
func (r *rates) learnRate(v *values) {
	rate := v.statedRate()
	switch {
	case rate == 0:
	case v.has(scopeInterface):
		putRate(&r.interfaces, uint32(v.number(scopeInterface)), rate)
	case v.has(selector):
		putRate(&r.selectors, uint32(v.number(selector)), rate)
	default:
		r.whole = rate
	}
}

func putRate(m *map[uint32]uint32, id, rate uint32) {
	if *m == nil {
		*m = map[uint32]uint32{}
	}
	if _, known := (*m)[id]; known || len(*m) < maxRates {
		(*m)[id] = rate
	}
}

// rateOf returns the rate of a data record: what it says itself, or what an option said
// of its selector, its interface or its domain; 0 when nothing did.
func (r *rates) rateOf(v *values) uint32 {
	if rate := v.statedRate(); rate != 0 {
		return rate
	}
	if v.has(selector) {
		if rate, ok := r.selectors[uint32(v.number(selector))]; ok {
			return rate
		}
	}
	if v.has(input) && r.interfaces != nil {
		if rate, ok := r.interfaces[uint32(v.number(input))]; ok {
			return rate
		}
	}
	switch {
	case r.whole != 0:
		return r.whole
	case len(r.selectors) == 1 && !v.has(selector):
		for _, rate := range r.selectors {
			return rate
		}
	}
	return 0
}

// statedRate returns what the fields at hand say: samplingInterval [34] or
// samplerRandomInterval [50]; (samplingPacketInterval [305] +
// samplingPacketSpace [306]) / [305] (RFC 5477, section 8.2);
// samplingPopulation [310] / samplingSize [309]. Rates are rounded.
func (v *values) statedRate() uint32 {
	n := func(u use) uint64 { return min(v.number(u), 1<<32-1) }
	switch {
	case v.has(packetInterval) && n(packetInterval) > 0:
		return uint32(min((n(packetInterval)+n(packetSpace)+n(packetInterval)/2)/n(packetInterval), 1<<32-1))
	case v.has(samplePopulation) && v.has(sampleSize) && n(sampleSize) > 0:
		return uint32((n(samplePopulation) + n(sampleSize)/2) / n(sampleSize))
	case v.has(interval):
		return uint32(n(interval))
	}
	return 0
}
