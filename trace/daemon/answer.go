//go:build linux

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"dragnet/trace/kernel"
	"dragnet/trace/protocol"
	"dragnet/trace/record"
	"dragnet/trace/token"
	"dragnet/trace/walk"
)

// question is one request on its way to an answer.
type question struct {
	protocol.Request
	asker         netip.Addr
	local, remote netip.AddrPort
	granted       protocol.Kind // what the asker may have
	note          string        // why that is less than asked
	at            time.Time
}

// answer finds the reply to a line. What is to be done once the reply is out
// is after; nil for nothing.
func (d *Daemon) answer(ctx context.Context, asker, local netip.Addr, line string) (reply protocol.Reply, after func(context.Context)) {
	d.Stats.Queries.Add(1)
	now := time.Now()
	q, err := protocol.ParseRequest(line)
	switch {
	case !d.budget.take(asker, now):
		d.Stats.OverBudget.Add(1)
		return d.refuse(q, protocol.UnknownError), nil
	case errors.Is(err, protocol.ErrPorts):
		return d.refuse(q, protocol.InvalidPort), nil
	case err != nil:
		return d.refuse(q, protocol.UnknownError), nil
	}
	rule := d.config.ruleFor(asker)
	if q.Remote.IsValid() && !rule.remote {
		return d.refuse(q, protocol.UnknownError), nil
	}
	u := question{Request: q, asker: asker, granted: q.Kind, at: now.UTC()}
	u.local = netip.AddrPortFrom(local, uint16(q.Asked))
	u.remote = netip.AddrPortFrom(asker, uint16(q.Asking))
	if q.Remote.IsValid() {
		u.remote = netip.AddrPortFrom(q.Remote, uint16(q.Asking))
	}
	if !rule.kinds[q.Kind] {
		u.granted, u.note = protocol.ID, fmt.Sprintf("asker may not ask for %v", q.Kind)
	} else if q.Kind != protocol.ID && !d.saveBudget.take(asker, now) {
		d.Stats.OverBudget.Add(1)
		u.granted, u.note = protocol.ID, fmt.Sprintf("asker is over its budget for %v", q.Kind)
	}
	return d.process(ctx, u)
}

// process looks the connection up and does what the granted kind says.
func (d *Daemon) process(ctx context.Context, u question) (protocol.Reply, func(context.Context)) {
	key := loopKey{u.asker, u.Remote, u.Session, u.Ports}
	if u.granted.Recursive() {
		if first, again := d.loops.begin(key, u.at); again {
			d.Stats.Loops.Add(1)
			d.log.Warn("loop: request was made before", "asker", u.asker, "session", u.Session, "ports", u.Ports)
			r := u.record()
			r.Outcome, r.First = "loop", first
			return d.keep(u, r, token.NoUser, false), nil
		}
	}
	found, err := d.finder.Find(u.local, u.remote)
	if err == nil && found.Direction == kernel.Inbound && !u.Remote.IsValid() {
		// Else anybody could learn who runs a service by connecting to it.
		return d.absent(u, "connection was not begun here", protocol.NoUser), nil
	}
	if errors.Is(err, walk.ErrNoUser) {
		return d.absent(u, "no such connection", protocol.NoUser), nil
	}
	if err != nil {
		d.log.Error("look-up failed", "error", err)
		return d.absent(u, "look-up failed", protocol.UnknownError), nil
	}
	if u.granted == protocol.ID {
		return d.identify(u, found), nil
	}
	reply, w := d.save(ctx, u, found)
	t, ok := reply.Token()
	if !ok || w == nil || !u.granted.Recursive() {
		return reply, nil
	}
	d.loops.answered(key, t)
	return reply, func(ctx context.Context) { d.askPrevious(ctx, u, t, found.UID, w.Inbound()) }
}

// identify serves ID: log the user, answer with a token or, if he wants it, his
// name.
func (d *Daemon) identify(u question, found walk.Found) protocol.Reply {
	r := d.recordOf(u, found)
	// A request that was an ID one from the start: no other kind may ever be
	// answered with a name.
	if d.config.OptIn && u.Kind == protocol.ID && !u.Remote.IsValid() && d.finder.OptedIn(found.UID, u.asker) {
		if _, err := d.store.Put(encode(r), found.UID, false); err != nil {
			return d.lost(u, err)
		}
		d.Stats.Names.Add(1)
		return protocol.Reply{Ports: u.Ports, System: "OTHER", User: d.finder.UserName(found.UID)}
	}
	return d.keep(u, r, found.UID, false)
}

// save walks and stores, within the deadline. A walk that takes longer goes on
// until it ends, holding its slot, so slow walks cannot pile up.
func (d *Daemon) save(ctx context.Context, u question, found walk.Found) (protocol.Reply, *walk.Walked) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Deadline)
	defer cancel()
	select {
	case d.lookups <- struct{}{}:
	case <-ctx.Done():
		return d.absent(u, "too many look-ups", protocol.UnknownError), nil
	}
	type outcome struct {
		reply protocol.Reply
		w     *walk.Walked
	}
	done := make(chan outcome, 1)
	d.running.Go(func() {
		defer func() { <-d.lookups }()
		d.Stats.Walks.Add(1)
		w, err := d.finder.Walk(found)
		if err != nil {
			d.log.Error("walk failed", "error", err)
			done <- outcome{d.absent(u, "walk failed", protocol.UnknownError), nil}
			return
		}
		r := d.recordOf(u, found)
		if u.granted.Saves() {
			host := d.finder.Host()
			r.Host, r.Processes, r.Truncated = &host, w.Record(), w.Truncated
			r.Logins = d.finder.Logins(r.Processes)
		}
		done <- outcome{d.keep(u, r, found.UID, true), w}
	})
	select {
	case o := <-done:
		return o.reply, o.w
	case <-ctx.Done():
		return d.absent(u, "look-up took too long", protocol.UnknownError), nil
	}
}

// record begins the record of a question.
func (u *question) record() record.Record {
	r := record.Record{
		Version: record.Version, Time: u.at, Asker: u.asker, Kind: u.Kind.String(), Local: u.local, Remote: u.remote, Outcome: u.note,
	}
	if u.Kind.Recursive() {
		r.Session = &u.Session
	}
	return r
}

func (d *Daemon) recordOf(u question, found walk.Found) record.Record {
	r := u.record()
	r.UID, r.User = &found.UID, d.finder.UserName(found.UID)
	r.Inode, r.Cookie, r.Direction = found.Inode, found.Cookie, found.Direction.String()
	return r
}

// keep stores a record and answers with its token.
func (d *Daemon) keep(u question, r record.Record, account uint32, durable bool) protocol.Reply {
	t, err := d.store.Put(encode(r), account, durable)
	if err != nil {
		return d.lost(u, err)
	}
	d.Stats.Tokens.Add(1)
	return protocol.TokenReply(u.Ports, t)
}

func encode(r record.Record) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // the types cannot fail to encode
	}
	return b
}

// lost answers where the record could not be stored: no token is given out
// that cannot be redeemed, unless the request demands one.
func (d *Daemon) lost(u question, err error) protocol.Reply {
	d.Stats.Lost.Add(1)
	d.log.Error("record is lost", "asker", u.asker, "local", u.local, "remote", u.remote, "error", err)
	return d.refuse(u.Request, protocol.UnknownError)
}

// absent answers a valid question that has no owner to tell about. Where the
// answer is a token, what was asked is stored.
func (d *Daemon) absent(u question, why, word string) protocol.Reply {
	if u.Remote.IsValid() || d.config.AlwaysToken {
		r := u.record()
		r.Outcome = why
		return d.keep(u, r, token.NoUser, false)
	}
	return d.refuse(u.Request, word)
}

// refuse answers with an error or, where an address was given or errors are
// never told, with a token that stands for nothing.
func (d *Daemon) refuse(q protocol.Request, word string) protocol.Reply {
	if q.Remote.IsValid() || d.config.AlwaysToken {
		d.Stats.Tokens.Add(1)
		return protocol.TokenReply(q.Ports, token.Random())
	}
	d.Stats.Errors.Add(1)
	if d.config.HideErrors {
		word = protocol.UnknownError
	}
	return protocol.ErrorReply(q.Ports, word)
}
