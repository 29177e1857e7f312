package path

import (
	"net/netip"

	"dragnet/contain/ripcord/state"
)

func (p *Path) isStopped(f *frame, syn bool) bool {
	now := p.nowMS()
	for _, bits := range p.Lengths {
		if bits == 0 || bits > 128 {
			continue
		}
		k := state.Principals{Peer: state.Prefix(f.dst, bits), Later: f.piece == later}
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
	k := state.Conversation{Peer: f.dst, HPort: f.sport, PPort: f.dport, Proto: f.proto}
	if last, ok := p.Conversations[k]; !ok || p.nowMS()-last > 200 {
		p.Conversations[k] = p.nowMS()
		p.noteHop(f)
	}
}

// countReset adds a coarse block on a port that answers new connections one
// after the other by RST.
func (p *Path) countReset(f *frame, s *segment) {
	port := netip.AddrPortFrom(f.src, f.sport)
	r := p.Resets[port]
	if r == nil || s.now-r.Since > p.Settings.CoarseMS {
		if p.Settings.CoarseResets > 1 {
			p.Resets[port] = &state.Resets{Since: s.now, Count: 1}
			return
		}
	} else if r.Count++; r.Count < p.Settings.CoarseResets {
		return
	}
	key := state.Principals{Peer: state.Prefix(f.src, 128), PPort: f.sport, Proto: protoTCP}
	stop := state.Stop{Until: s.now + p.Settings.CoarseMS, SYNOnly: 1}
	known, ok := p.Stops[key]
	if ok && (int32(known.Until-stop.Until) >= 0 || known.SYNOnly == 0 && int32(known.Until-s.now) > 0) {
		return // the existing stop lasts longer, or covers more
	}
	p.Stops[key] = stop
	p.Lengths[0] = 128
	p.count(state.CoarseBlock)
	p.emitEvent(f, s, state.In, state.CoarseBlock)
}
