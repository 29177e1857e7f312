//go:build linux

package daemon

import (
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"sync"
	"time"

	"dragnet/trace/client"
	"dragnet/trace/diag"
	"dragnet/trace/kernel"
	"dragnet/trace/protocol"
	"dragnet/trace/record"
	"dragnet/trace/token"
	"dragnet/trace/walk"
)

// target is a connection about which its other end is asked.
type target struct {
	walk.Inbound
	// at and why are set if the flight recorder knew of it.
	at  time.Time
	why string
}

func (t *target) answer() record.Answer {
	return record.Answer{
		Host: t.Remote.Addr(), Ports: [2]uint16{t.Remote.Port(), t.Local.Port()}, Direction: t.Direction.String(), At: t.at, Why: t.why,
	}
}

// askPrevious asks the hosts at the other ends of inbound connections, in
// parallel, with the same kind and session, and stores their answers with the
// token of the request.
func (d *Daemon) askPrevious(ctx context.Context, u question, answered string, account uint32, targets []target, w *walk.Walked) {
	p := record.Previous{Version: record.Version, Token: answered, Session: u.Session}
	targets = orderFairly(targets)
	if limit := d.config.Recursion.Limit; len(targets) > limit {
		p.Skipped = len(targets) - limit
		targets = targets[:limit]
	}
	p.Answers = make([]record.Answer, len(targets))
	var wg sync.WaitGroup
	for i, in := range targets {
		wg.Go(func() {
			p.Answers[i] = d.askOnce(ctx, u, answered, in)
			a := p.Answers[i]
			if a.Failure != "" {
				d.log.Warn("previous host gave no identity", "host", a.Host, "ports", a.Ports, "why", a.Failure)
			}
		})
	}
	wg.Wait()
	if w != nil {
		p.Executables = d.hashLater(ctx, w)
	}
	d.storePrevious(p, d.account(account, u.asker))
}

func (d *Daemon) storePrevious(p record.Previous, account token.Account) {
	p.Time = time.Now().UTC()
	b, err := json.Marshal(p)
	if err == nil {
		err = d.store.PutPrevious(p.Token, b, account)
	}
	if err != nil {
		d.Stats.Lost.Add(1)
		d.log.Error("store what was learnt after the answer failed", "token", p.Token, "err", err)
	}
}

// addExecutables stores the hashes of programs that were too large to be hashed
// before the answer.
func (d *Daemon) addExecutables(ctx context.Context, u question, answered string, account uint32, w *walk.Walked) {
	if later := d.hashLater(ctx, w); len(later) > 0 {
		d.storePrevious(record.Previous{Version: record.Version, Token: answered, Session: u.Session, Executables: later}, d.account(account, u.asker))
	}
}

// hashLater hashes for one request at a time.
func (d *Daemon) hashLater(ctx context.Context, w *walk.Walked) []record.Executable {
	defer w.Close()
	select {
	case d.hashing <- struct{}{}:
		defer func() { <-d.hashing }()
		return w.HashLater(ctx)
	case <-ctx.Done():
		return nil
	}
}

// orderFairly takes one connection of each host, then the second of each, and so
// on: many connections to one host must not crowd out the one to another.
func orderFairly(targets []target) []target {
	byHost := map[netip.Addr][]target{}
	var hosts []netip.Addr
	for _, t := range targets {
		host := accountOf(t.Remote.Addr())
		if len(byHost[host]) == 0 {
			hosts = append(hosts, host)
		}
		byHost[host] = append(byHost[host], t)
	}
	var ordered []target
	for turn := 0; len(ordered) < len(targets); turn++ {
		for _, host := range hosts {
			if turn < len(byHost[host]) {
				ordered = append(ordered, byHost[host][turn])
			}
		}
	}
	return ordered
}

// askOnce asks about a connection unless that was done in this session already:
// where two hosts have many connections with each other, every request meets all
// of them.
func (d *Daemon) askOnce(ctx context.Context, u question, token string, in target) record.Answer {
	key := askedKey{u.Session, u.granted, in.NetNS, in.Local, in.Remote}
	if earlier, again := d.asked.noteRequest(key, token, time.Now()); again {
		a := in.answer()
		a.Earlier = earlier
		return a
	}
	return d.askOne(ctx, u, in)
}

func (d *Daemon) askOne(ctx context.Context, u question, in target) record.Answer {
	a := in.answer()
	// The slots bound the questions in flight of all requests together; waiting
	// counts against the timeout.
	ctx, cancel := context.WithTimeout(ctx, d.config.Recursion.Timeout)
	defer cancel()
	select {
	case d.recursions <- struct{}{}:
		defer func() { <-d.recursions }()
	case <-ctx.Done():
		a.Failure = "not asked: too many questions to previous hosts"
		return a
	}
	d.Stats.Recursions.Add(1)
	conn, err := d.dialFrom(ctx, in.Inbound)
	if err != nil {
		a.Failure = err.Error()
		return a
	}
	q := protocol.Request{
		Ports: protocol.Ports{Asked: uint32(a.Ports[0]), Asking: uint32(a.Ports[1])}, Kind: u.granted, Session: u.Session, At: in.at,
	}
	if in.Direction == kernel.Outbound {
		q.Remote = in.Local.Addr() // for it, the connection is one from outside
	}
	reply, err := client.Exchange(ctx, conn, q)
	switch t, ok := reply.Token(); {
	case err != nil:
		a.Failure = err.Error()
	case ok:
		a.Token = t
	case reply.Error != "":
		a.Failure = reply.Error
	default:
		a.Ident = reply.User
	}
	return a
}

// dialFrom connects from the address, and in the network namespace, that the
// inbound connection has on this machine.
func (d *Daemon) dialFrom(ctx context.Context, in walk.Inbound) (conn net.Conn, err error) {
	to := netip.AddrPortFrom(in.Remote.Addr(), d.config.Recursion.Port)
	from := in.Local.Addr()
	if in.NetNS == d.finder.OwnNetNS() {
		return client.Dial(ctx, from, to)
	}
	err = diag.Inside(in.PID, func() error {
		conn, err = client.Dial(ctx, from, to)
		return err
	})
	return conn, err
}
