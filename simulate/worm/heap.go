package worm

// event is a future event of a network.
type event struct {
	at      float64
	network int32
	version int32 // of the network when it was planned; an older one is void
	kind    eventKind
}

type eventKind uint8

const (
	localHit  eventKind = iota // a scan inside the network finds a host
	rateEnds                   // the limiter enters its next phase
	blockDue                   // n days are over
	scanFound                  // an ordered scan reaches a vulnerable host
)

// heap holds events by time, then by order of planning: a 4-ary heap, as
// events are moved far more often than compared.
type heap struct {
	events []event
}

func (h *heap) pushEvent(e event) {
	h.events = append(h.events, e)
	for i := len(h.events) - 1; i > 0; {
		parent := (i - 1) / 4
		if h.events[parent].at <= h.events[i].at {
			return
		}
		h.events[parent], h.events[i] = h.events[i], h.events[parent]
		i = parent
	}
}

func (h *heap) popEvent() event {
	top := h.events[0]
	last := h.events[len(h.events)-1]
	h.events = h.events[:len(h.events)-1]
	n := len(h.events)
	if n == 0 {
		return top
	}
	i := 0
	for {
		first := 4*i + 1
		if first >= n {
			break
		}
		least := first
		for j := first + 1; j < min(first+4, n); j++ {
			if h.events[j].at < h.events[least].at {
				least = j
			}
		}
		if h.events[least].at >= last.at {
			break
		}
		h.events[i] = h.events[least]
		i = least
	}
	h.events[i] = last
	return top
}
