//go:build linux

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
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
	granted       protocol.Kind // what the asker is allowed
	note          string        // why that is less than asked
	at            time.Time
}

// answerLine finds the reply to a line. If after is not nil, call it once the
// reply is sent.
func (d *Daemon) answerLine(ctx context.Context, asker, local netip.Addr, line string) (reply protocol.Reply, after func(context.Context)) {
	d.Stats.Queries.Add(1)
	now := time.Now()
	q, err := protocol.ParseRequest(line)
	switch {
	case !d.budget.takeToken(asker, now):
		d.Stats.OverBudget.Add(1)
		return d.replyError(q, protocol.UnknownError), nil
	case errors.Is(err, protocol.ErrPorts):
		return d.replyError(q, protocol.InvalidPort), nil
	case err != nil:
		return d.replyError(q, protocol.UnknownError), nil
	}
	rule := d.rules.Load().ruleFor(asker)
	if q.Remote.IsValid() && !rule.remote && !rule.mayNameItself(q, asker) {
		return d.replyError(q, protocol.UnknownError), nil
	}
	u := question{Request: q, asker: asker, granted: q.Kind, at: now.UTC()}
	u.local = netip.AddrPortFrom(local, uint16(q.Asked))
	u.remote = netip.AddrPortFrom(asker, uint16(q.Asking))
	if q.Remote.IsValid() {
		u.remote = netip.AddrPortFrom(q.Remote, uint16(q.Asking))
	}
	if !rule.kinds[q.Kind] {
		u.granted, u.note = protocol.ID, fmt.Sprintf("asker may not ask for %v", q.Kind)
	}
	return d.answerRequest(ctx, u)
}

// answerRequest looks the connection up and serves the granted kind.
func (d *Daemon) answerRequest(ctx context.Context, u question) (protocol.Reply, func(context.Context)) {
	key := loopKey{u.asker, u.Remote, u.Session, u.Ports}
	if u.granted.Recursive() {
		if first, again := d.loops.noteRequest(key, "", u.at); again {
			d.Stats.Loops.Add(1)
			d.log.Warn("request ignored: it was seen before (loop)", "asker", u.asker, "session", u.Session, "ports", u.Ports)
			r := u.newRecord()
			r.Outcome, r.First = "loop", first
			return d.storeRecord(u, r, token.NoUser, false), nil
		}
	}
	if !u.At.IsZero() {
		if reply, after, ok := d.answerPast(ctx, u); ok {
			return reply, after
		}
	}
	found, err := d.finder.Find(u.local, u.remote)
	if err == nil && found.Direction == kernel.Inbound && !u.Remote.IsValid() {
		// Otherwise anyone could learn who runs a service by connecting to it.
		return d.replyNoOwner(u, "connection was not opened here", protocol.NoUser), nil
	}
	if errors.Is(err, walk.ErrNoUser) && !u.hidesExistence() {
		return d.replyNoOwner(u, "no such connection", protocol.NoUser), nil
	}
	if err != nil && !errors.Is(err, walk.ErrNoUser) {
		d.log.Error("look-up failed", "err", err)
		return d.replyNoOwner(u, "look-up failed", protocol.UnknownError), nil
	}
	// Only connections that exist count, or that a gateway names: any user of a host
	// may ask in its name, and must not use up what the host itself needs.
	if u.granted != protocol.ID && !d.saveBudget.takeToken(u.asker, u.at) {
		d.Stats.OverBudget.Add(1)
		u.granted, u.note = protocol.ID, fmt.Sprintf("asker is over its budget for %v", u.Kind)
	}
	if u.granted == protocol.ID {
		if err != nil {
			return d.replyNoOwner(u, "no such connection", protocol.NoUser), nil
		}
		return d.answerID(u, found), nil
	}
	reply, w := d.answerSave(ctx, u, found, err == nil)
	if u.hidesExistence() {
		waitForStep(ctx, u.at, d.config.Deadline)
	}
	t, ok := reply.Token()
	if !ok || w == nil {
		return reply, nil
	}
	if !u.granted.Recursive() {
		return reply, func(ctx context.Context) { d.addExecutables(ctx, u, t, found.UID, w) }
	}
	d.loops.noteToken(key, t)
	return reply, func(ctx context.Context) { d.askPrevious(ctx, u, t, found.UID, d.targetsOf(w), w) }
}

// hidesExistence reports whether the answer must not tell whether the connection
// exists, by its time either: a question about a connection of another host, for
// which a look-up alone would be much faster than a walk.
func (u *question) hidesExistence() bool { return u.Remote.IsValid() && u.granted != protocol.ID }

// answerStep is the grid of times at which such answers leave.
const answerStep = 50 * time.Millisecond

// waitForStep waits until the time since a question is a multiple of answerStep.
func waitForStep(ctx context.Context, asked time.Time, deadline time.Duration) {
	since := time.Since(asked)
	wait := min(answerStep-since%answerStep, max(deadline-since, 0))
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}

// answerID serves ID: log the user, answer with a token or, if the user opted
// in, the name.
func (d *Daemon) answerID(u question, found walk.Found) protocol.Reply {
	r := d.recordOf(u, found)
	// A request that was an ID one from the start: no other kind may ever be
	// answered with a name.
	if d.config.OptIn && u.Kind == protocol.ID && !u.Remote.IsValid() && d.finder.OptedIn(found.UID, u.asker) {
		if _, err := d.store.Put(encodeRecord(r), d.account(found.UID, u.asker), false); err != nil {
			return d.replyNotStored(u, err)
		}
		d.Stats.Names.Add(1)
		return protocol.Reply{Ports: u.Ports, System: "OTHER", User: d.finder.UserName(found.UID)}
	}
	return d.storeRecord(u, r, found.UID, false)
}

// answerSave walks and stores, within the deadline. A walk that takes longer
// continues to its end, holding its slot, so slow walks cannot pile up. Where no
// such connection exists, it does the same work.
func (d *Daemon) answerSave(ctx context.Context, u question, found walk.Found, exists bool) (protocol.Reply, *walk.Walked) {
	ctx, cancel := context.WithTimeout(ctx, d.config.Deadline)
	defer cancel()
	select {
	case d.lookups <- struct{}{}:
	case <-ctx.Done():
		return d.replyNoOwner(u, "too many look-ups", protocol.UnknownError), nil
	}
	type outcome struct {
		reply protocol.Reply
		w     *walk.Walked
	}
	done := make(chan outcome, 1)
	d.group.GoWithoutError(func(context.Context) {
		defer func() { <-d.lookups }()
		d.Stats.Walks.Add(1)
		if !exists {
			done <- outcome{d.walkWithoutConnection(u), nil}
			return
		}
		w, err := d.finder.Walk(found)
		if err != nil {
			d.log.Error("walk failed", "err", err)
			done <- outcome{d.replyNoOwner(u, "walk failed", protocol.UnknownError), nil}
			return
		}
		r := d.recordOf(u, found)
		r.End = w.End()
		if u.granted.Saves() {
			host := d.finder.Host()
			r.Host, r.Processes, r.Truncated = &host, w.Record(), w.Truncated
			r.Logins = d.finder.Logins(r.Processes)
		}
		if len(w.Steps) == 0 && r.Outcome == "" {
			r.Outcome = "no process was found"
		}
		done <- outcome{d.storeRecord(u, r, found.UID, true), w}
	})
	select {
	case o := <-done:
		return o.reply, o.w
	case <-ctx.Done():
		return d.replyNoOwner(u, "look-up took too long", protocol.UnknownError), nil
	}
}

// walkWithoutConnection costs what a walk costs, and answers that there is no such
// connection.
func (d *Daemon) walkWithoutConnection(u question) protocol.Reply {
	if _, err := d.finder.Snapshot(); err != nil {
		d.log.Error("walk failed", "err", err)
	}
	r := u.newRecord()
	r.Outcome = "no such connection"
	return d.storeRecord(u, r, token.NoUser, true)
}

// newRecord starts the record of a question.
func (u *question) newRecord() record.Record {
	r := record.Record{
		Version: record.Version, Time: u.at, Asker: u.asker, Kind: u.Kind.String(), Local: u.local, Remote: u.remote, Outcome: u.note, At: u.At,
	}
	if u.Kind.Recursive() {
		r.Session = &u.Session
	}
	return r
}

func (d *Daemon) recordOf(u question, found walk.Found) record.Record {
	r := u.newRecord()
	r.UID, r.User = &found.UID, d.finder.UserName(found.UID)
	r.Inode, r.Cookie, r.Direction = found.Inode, found.Cookie, found.Direction.String()
	return r
}

// account is to whom a record is charged: the user, who may have thousands of
// subordinate user numbers, and who asked.
func (d *Daemon) account(uid uint32, asker netip.Addr) token.Account {
	if uid != token.NoUser {
		uid = d.owner(uid)
	}
	h := fnv.New32a()
	h.Write(accountOf(asker).AsSlice())
	return token.Account{User: uid, Asker: h.Sum32() | 1} // 0 means unknown
}

// storeRecord stores a record and answers with its token.
func (d *Daemon) storeRecord(u question, r record.Record, account uint32, durable bool) protocol.Reply {
	t, err := d.store.Put(encodeRecord(r), d.account(account, u.asker), durable)
	if err != nil {
		return d.replyNotStored(u, err)
	}
	d.Stats.Tokens.Add(1)
	return protocol.TokenReply(u.Ports, t)
}

func encodeRecord(r record.Record) []byte {
	b, err := json.Marshal(r)
	if err != nil {
		panic(err) // these types always encode
	}
	return b
}

// replyNotStored answers when the record could not be stored: no token is given
// out that cannot be redeemed, unless the request requires one.
func (d *Daemon) replyNotStored(u question, err error) protocol.Reply {
	d.Stats.Lost.Add(1)
	d.log.Error("store record failed", "asker", u.asker, "local", u.local, "remote", u.remote, "err", err)
	return d.replyError(u.Request, protocol.UnknownError)
}

// replyNoOwner answers a valid question about a connection without owner. If
// the answer is a token, the question is stored.
func (d *Daemon) replyNoOwner(u question, why, word string) protocol.Reply {
	if u.Remote.IsValid() || d.config.AlwaysToken {
		r := u.newRecord()
		r.Outcome = why
		return d.storeRecord(u, r, token.NoUser, false)
	}
	return d.replyError(u.Request, word)
}

// replyError answers with an error or, if an address was given or errors are
// hidden, with a random token without record.
func (d *Daemon) replyError(q protocol.Request, word string) protocol.Reply {
	if q.Remote.IsValid() || q.BadAddress || d.config.AlwaysToken {
		d.Stats.Tokens.Add(1)
		return protocol.TokenReply(q.Ports, token.Random())
	}
	d.Stats.Errors.Add(1)
	if d.config.HideErrors {
		word = protocol.UnknownError
	}
	return protocol.ErrorReply(q.Ports, word)
}
