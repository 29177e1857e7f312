//go:build linux

package daemon

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"dragnet/trace/kernel"
	"dragnet/trace/protocol"
	"dragnet/trace/record"
	"dragnet/trace/recorder"
	"dragnet/trace/walk"
)

// EventsDir is the path of the flight recorder's log in a state folder.
func EventsDir(state string) string { return filepath.Join(state, "events") }

// startRecorder starts the flight recorder. Without it the daemon answers for
// connections that are open.
func (d *Daemon) startRecorder() {
	if !d.config.Recorder.Enabled {
		return
	}
	var err error
	if d.past, err = recorder.Open(EventsDir(d.config.State), d.config.Recorder, d.finder, d.log); err != nil {
		d.past = nil
		d.log.Warn("nothing is recorded: questions about connections that are over will have no answer", "err", err)
	}
}

// answerPast answers a question with a time; ok is false if the connection is still
// open or not recorded, and the present state must answer.
func (d *Daemon) answerPast(ctx context.Context, u question) (reply protocol.Reply, after func(context.Context), ok bool) {
	if !d.rules.Load().lists(u.asker) {
		// A look-up may read much of the disk.
		return d.replyNoOwner(u, "asker may not ask about a time", protocol.UnknownError), nil, true
	}
	if d.past == nil {
		return reply, nil, false
	}
	if !d.saveBudget.takeToken(u.asker, u.at) {
		d.Stats.OverBudget.Add(1)
		return d.replyNoOwner(u, "asker is over its budget", protocol.UnknownError), nil, true
	}
	ctx, cancel := context.WithTimeout(ctx, d.config.Deadline)
	defer cancel()
	select {
	case d.lookups <- struct{}{}:
		defer func() { <-d.lookups }()
	case <-ctx.Done():
		return d.replyNoOwner(u, "too many look-ups", protocol.UnknownError), nil, true
	}
	d.Stats.Past.Add(1)
	p, err := d.past.Find(ctx, u.local, u.remote, u.At)
	switch {
	case errors.Is(err, recorder.ErrUnknown):
		return reply, nil, false
	case err != nil:
		d.log.Error("look-up of a past connection failed", "err", err)
		return d.replyNoOwner(u, "look-up failed", protocol.UnknownError), nil, true
	case p.Ended.IsZero() && !p.Summarized:
		return reply, nil, false
	case p.Direction == kernel.Inbound && !u.Remote.IsValid():
		return d.replyNoOwner(u, "connection was not opened here", protocol.NoUser), nil, true
	}
	r := u.newRecord()
	r.UID, r.User, r.Direction, r.Started, r.Ended = &p.UID, d.finder.UserName(p.UID), p.Direction.String(), p.Started, p.Ended
	if u.granted != protocol.ID {
		r.End = endOfPast(&p)
	}
	if u.granted.Saves() {
		host := d.finder.Host()
		r.Host, r.Processes = &host, p.Processes
	}
	reply = d.storeRecord(u, r, p.UID, u.granted != protocol.ID)
	if u.hidesExistence() {
		waitForStep(ctx, u.at, d.config.Deadline)
	}
	t, isToken := reply.Token()
	if !isToken || !u.granted.Recursive() {
		return reply, nil, true
	}
	d.loops.noteToken(loopKey{u.asker, u.Remote, u.Session, u.Ports}, t)
	return reply, func(ctx context.Context) { d.askPrevious(ctx, u, t, p.UID, targetsOfPast(&p), nil) }, true
}

func targetsOfPast(p *recorder.Past) (out []target) {
	for _, o := range p.Origins {
		out = append(out, target{o.Inbound, o.At, o.Why})
	}
	return out
}

// targetsOf are the connections that a walk found, or, where it found none, those
// with which its processes began.
func (d *Daemon) targetsOf(w *walk.Walked) (out []target) {
	for _, in := range w.Inbound() {
		out = append(out, target{Inbound: in})
	}
	if len(out) > 0 || d.past == nil {
		return out
	}
	var pids []int32
	for _, st := range w.Steps {
		pids = append(pids, st.PID)
	}
	for _, o := range d.past.Origins(pids) {
		out = append(out, target{o.Inbound, o.At, o.Why})
	}
	return out
}

// endOfPast says where the recorded walk ended.
func endOfPast(p *recorder.Past) *record.End {
	end := &record.End{Grade: record.Cut}
	if p.Summarized {
		end.Add(record.Unseen{What: record.Bound, Detail: "the user opened more connections than are recorded one by one: only the user is known"})
	}
	if p.Blind {
		end.Add(record.Unseen{What: record.NoHolder, Detail: "no process was seen to hold the connection while it was open"})
	}
	for _, o := range p.Origins {
		if o.Direction != kernel.Outbound {
			end.Grade = record.InboundSeen
			continue
		}
		if end.Grade == record.Cut {
			end.Grade = record.CarrierSeen
		}
		end.Add(record.Unseen{What: record.OutboundOne, PID: o.PID, Detail: o.Local.String() + " to " + o.Remote.String()})
	}
	for _, q := range p.Processes {
		if end.Grade != record.InboundSeen && strings.HasPrefix(q.Terminal, "tty") {
			end.Grade, end.Origin = record.OriginSeen, q.Terminal+", at which "+q.Name+" ran"
		}
	}
	if end.Grade == record.Cut && len(end.Unseen) == 0 {
		end.Add(record.Unseen{What: record.Nothing, Detail: "no console, no login and no inbound connection is recorded"})
	}
	return end
}
