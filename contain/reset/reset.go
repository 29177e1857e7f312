// Package reset ends TCP connections that carry what a signature matches: each end
// is sent a reset in the name of the other (RFC 9293, section 3.10.7).
//
// Nothing is reset without a standing decision for that signature. It says who
// decided, why, until when, for whose connections, and for how many senders in an
// hour; the allow list takes precedence over it. A connection whose beginning was not
// seen is left alone, since its addresses may be forged. Where payload is inspected
// beside the link, what was matched has passed by then: what ends is the rest.
package reset

import (
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/packet"
)

// Segment is a reset that one end is sent in the name of the other.
type Segment struct {
	From, To netip.AddrPort
	// Seq is the number of the next byte that To expects of From (RFC 5961,
	// section 3.2: another one is not obeyed).
	Seq uint32
	// Ack, with HasAck, acknowledges a segment that acknowledged none itself.
	Ack    uint32
	HasAck bool
}

// AnswerTo returns the reset by which a host answers a segment of a connection that
// it does not know (RFC 9293, section 3.10.7.1).
func AnswerTo(p *packet.Packet) Segment {
	s := Segment{From: netip.AddrPortFrom(p.Dst, p.DstPort), To: netip.AddrPortFrom(p.Src, p.SrcPort)}
	if p.Flags&flow.ACK != 0 {
		s.Seq = p.Ack
		return s
	}
	s.Ack, s.HasAck = p.Seq+uint32(p.PayloadLen)+uint32(p.Flags>>1&1)+uint32(p.Flags&1), true // SYN and FIN count
	return s
}

// Sender sends segments; Socket is one.
type Sender interface {
	Send(s Segment) error
}

// Resetter is safe for concurrent use; the zero value is not.
type Resetter struct {
	send Sender // nil has everything a dry run
	log  *slog.Logger
	// again is when a connection is reset a second time: the first segment may have
	// overtaken what it follows. 0 does not.
	again time.Duration

	mu      sync.Mutex // guards all below
	resets  dossier.Resets
	senders map[senderOf]flow.Time // when connections of a sender were last reset
	waiting int                    // second segments under way
}

// senderOf is a sender whose connections were reset under a decision.
type senderOf struct {
	decision string
	addr     netip.Addr
}

// Dependencies of a resetter.
type Dependencies struct {
	Sender Sender // nil sends nothing
	Log    *slog.Logger
}

// New makes a resetter.
func New(d Dependencies) *Resetter {
	return &Resetter{send: d.Sender, log: d.Log, again: 50 * time.Millisecond, senders: map[senderOf]flow.Time{}}
}

// Use replaces the decisions and the allow list, which must have passed Check.
func (r *Resetter) Use(x dossier.Resets) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resets = x
}

// window is how long a sender counts toward the bound of a decision.
const window = flow.Time(time.Hour)

// Take resets the connection of a sighting if a decision says so, and notes in the
// sighting which, and what was done. The next bytes expected by Resp and by Orig
// have the numbers toResp and toOrig.
func (r *Resetter) Take(now flow.Time, s *dossier.Sighting, toResp, toOrig uint32) {
	if s.Proto != flow.TCP || !s.Confirmed {
		return
	}
	d := r.choose(now, s)
	if d == nil {
		return
	}
	s.Decision, s.Action = d.ID, r.judge(now, d, s)
	if s.Action == dossier.ResetDone {
		both := []Segment{{From: s.Orig, To: s.Resp, Seq: toResp}, {From: s.Resp, To: s.Orig, Seq: toOrig}}
		if err := r.sendAll(both); err != nil {
			s.Action = dossier.ResetFailed
			r.log.Error("reset not sent", "from", s.Orig, "to", s.Resp, "decision", d.ID, "err", err)
		} else {
			r.sendAgain(both)
		}
	}
	r.log.Info("matching connection", "action", s.Action, "sender", s.Sender(), "orig", s.Orig, "resp", s.Resp, "signature", s.Signature,
		"decision", d.ID, "verdict", d.Verdict, "until", d.Until, "why", d.Why, "undo", d.Undo)
}

// choose finds the decision that concerns a sighting, one in force before a dry
// run. A target of length 0 is everybody, of both families.
func (r *Resetter) choose(now flow.Time, s *dossier.Sighting) (found *dossier.Decision) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.resets.Decisions {
		d := &r.resets.Decisions[i]
		sender := s.Sender().Addr()
		if d.Standing.Signature != s.Signature || !d.InForce(now) || d.Target.Bits() > 0 && !d.Target.Contains(sender) {
			continue
		}
		if found == nil || d.Verdict == dossier.Active {
			found = d
		}
	}
	return found
}

// judge says what is to be done, and counts the sender toward the decision's bound.
// A connection is left alone if either end is allowed: both lose it.
func (r *Resetter) judge(now flow.Time, d *dossier.Decision, s *dossier.Sighting) dossier.ResetAction {
	r.mu.Lock()
	defer r.mu.Unlock()
	isAllowed := func(p netip.Prefix) bool { return p.Contains(s.Orig.Addr()) || p.Contains(s.Resp.Addr()) }
	if slices.ContainsFunc(r.resets.Allow, isAllowed) {
		return dossier.ResetAllowed
	}
	who, n := senderOf{d.ID, s.Sender().Addr()}, 0
	for o, at := range r.senders {
		switch {
		case now-at > window || at-now > window: // the latter if the clock was set back
			delete(r.senders, o)
		case o.decision == d.ID && o != who:
			n++
		}
	}
	if n >= d.Standing.Most {
		return dossier.ResetBounded
	}
	r.senders[who] = now
	if d.Verdict != dossier.Active || r.send == nil {
		return dossier.ResetDryRun
	}
	return dossier.ResetDone
}

func (r *Resetter) sendAll(segments []Segment) error {
	for _, s := range segments {
		if err := r.send.Send(s); err != nil {
			return err
		}
	}
	return nil
}

// maxWaiting bounds the second segments under way.
const maxWaiting = 1000

func (r *Resetter) sendAgain(segments []Segment) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.again == 0 || r.waiting >= maxWaiting {
		return
	}
	r.waiting++
	time.AfterFunc(r.again, func() {
		_ = r.sendAll(segments) // the first was sent; this one is to make sure
		r.mu.Lock()
		defer r.mu.Unlock()
		r.waiting--
	})
}
