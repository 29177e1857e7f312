package path

import (
	"net/netip"

	"dragnet/contain/ripcord/tables"
)

func (p *Path) isStopped(f *frame, syn bool) bool {
	now := p.nowMS()
	for i, bits := range p.Lengths {
		if bits == 0 && i > 0 {
			break
		}
		if bits == 0 {
			continue
		}
		k := tables.Principals{Peer: tables.Prefix(f.dst, bits), Later: f.piece == later}
		stops := func() bool {
			s, ok := p.Stops[k]
			return ok && int32(s.Until-now) > 0 && (syn || s.SYNOnly == 0)
		}
		if stops() {
			return true
		}
		if k.Proto = f.proto; stops() {
			return true
		}
		if f.sport == 0 && f.dport == 0 {
			continue
		}
		for _, ports := range [][2]uint16{{f.sport, 0}, {f.sport, f.dport}, {0, f.dport}} {
			if k.HPort, k.PPort = ports[0], ports[1]; stops() {
				return true
			}
		}
	}
	return false
}

func (p *Path) noteConversation(f *frame) {
	k := tables.Conversation{Peer: f.dst, HPort: f.sport, PPort: f.dport, Proto: f.proto}
	if last, ok := p.Conversations[k]; !ok || p.nowMS()-last > 200 {
		p.Conversations[k] = p.nowMS()
		p.noteHop(f)
	}
}

const (
	resetMS    = 500 // the count of RSTs falls by one
	firstHold  = 1000
	peerResets = 4
)

// countReset adds a coarse block on a port, or on a peer, that answers new
// connections of the host one after the other by RST.
func (p *Path) countReset(f *frame, s *segment) {
	p.countResets(f, s, f.sport, p.Settings.CoarseResets)
	p.countResets(f, s, 0, p.Settings.CoarseResets*peerResets)
}

func (p *Path) countResets(f *frame, s *segment, port uint16, limit uint32) {
	at := netip.AddrPortFrom(f.src, port)
	r := p.Resets[at]
	if r == nil {
		r = &tables.ResetCount{Since: s.now}
		p.Resets[at] = r
	}
	if age := int32(s.now - r.Since); age >= resetMS {
		n := uint32(age) / resetMS
		r.Count -= min(n, r.Count)
		r.Since += n * resetMS
	}
	if r.Count++; r.Count < limit {
		return
	}
	if s.now-r.Raised > r.Hold+p.Settings.CoarseMS {
		r.Hold = 0
	}
	r.Hold = min(max(firstHold, r.Hold*2), p.Settings.CoarseMS)
	// The next one raises it again.
	r.Raised, r.Since, r.Count = s.now, s.now+r.Hold, limit-1
	key := tables.Principals{Peer: tables.Prefix(f.src, 128), PPort: port, Proto: protoTCP}
	stop := tables.Stop{Until: s.now + r.Hold, SYNOnly: 1}
	known, ok := p.Stops[key]
	if ok && (int32(known.Until-stop.Until) >= 0 || known.SYNOnly == 0 && int32(known.Until-s.now) > 0) {
		return // the existing stop lasts longer, or covers more
	}
	p.Stops[key] = stop
	p.Lengths[0] = 128
	p.count(tables.CoarseBlock)
	p.emitEvent(f, s, tables.In, tables.CoarseBlock)
}
