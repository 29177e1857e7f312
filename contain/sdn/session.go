package sdn

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"dragnet/contain/sdn/openflow"
)

// Reasons why a switch is of no use at the moment; a refusal is an
// openflow.Failure.
var (
	// ErrUnreachable: there is no connection, or it broke.
	ErrUnreachable = errors.New("the switch cannot be reached")
	// ErrProtocol: what it sends is not OpenFlow 1.3.
	ErrProtocol = errors.New("the switch does not speak OpenFlow 1.3")
	// ErrContradiction: it confirms changes and does not list them.
	ErrContradiction = errors.New("the switch contradicts itself")
)

const (
	// maxOthers bounds unsolicited messages in one session.
	maxOthers = 10_000
	// maxListed bounds the entries of one list.
	maxListed = 1 << 16
)

// session is one connection to a switch. It is for one goroutine.
type session struct {
	conn   net.Conn
	r      *bufio.Reader
	xid    uint32
	first  uint32 // the first transaction of the exchange that is under way
	others int
	// Datapath is the identifier that the switch gives itself.
	datapath uint64
}

// openSession connects and exchanges hellos. The session ends when ctx does.
func openSession(ctx context.Context, c *Configuration) (*session, error) {
	conn, err := dial(ctx, c)
	if err != nil {
		return nil, err
	}
	s := &session{conn: conn, r: bufio.NewReader(conn)}
	if until, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(until)
	}
	context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	if err := s.exchangeHellos(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

func (s *session) close() { _ = s.conn.Close() }

// exchangeHellos does the handshake (section 6.3.1) and asks who the switch is.
func (s *session) exchangeHellos() error {
	if err := s.send(openflow.Hello, s.nextXID(), openflow.HelloBody()); err != nil {
		return err
	}
	m, err := s.receive()
	switch {
	case err != nil:
		return err
	case m.Type == openflow.Error:
		return fmt.Errorf("%w: %w", ErrProtocol, failureOf(m))
	case m.Type != openflow.Hello:
		return fmt.Errorf("%w: its first message is of type %d", ErrProtocol, m.Type)
	case !openflow.Offers13(m):
		return fmt.Errorf("%w: it offers version byte %d; in Open vSwitch, add OpenFlow13 to the bridge's protocols", ErrProtocol, m.Version)
	}
	reply, err := s.sendRequest(openflow.FeaturesRequest, nil, openflow.FeaturesReply)
	if err != nil {
		return err
	}
	if s.datapath, err = openflow.Datapath(reply.Body); err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

func (s *session) nextXID() uint32 { s.xid++; return s.xid }

func (s *session) send(t openflow.Type, xid uint32, body []byte) error {
	m := openflow.Message{Version: openflow.Version13, Type: t, XID: xid, Body: body}
	if _, err := s.conn.Write(m.Append(nil)); err != nil {
		return fmt.Errorf("%w: %w", ErrUnreachable, err)
	}
	return nil
}

func (s *session) receive() (openflow.Message, error) {
	m, err := openflow.ReadMessage(s.r)
	switch {
	case errors.Is(err, openflow.ErrLength):
		return m, fmt.Errorf("%w: %w", ErrProtocol, err)
	case err != nil:
		return m, fmt.Errorf("%w: it closed the connection or fell silent: %w", ErrUnreachable, err)
	}
	return m, nil
}

// awaitReply reads until the reply to xid of the wanted type. It answers echo
// requests, and skips unsolicited messages. An error of the switch about
// any transaction of this exchange ends it.
func (s *session) awaitReply(xid uint32, want openflow.Type) (openflow.Message, error) {
	for {
		m, err := s.receive()
		if err != nil {
			return m, err
		}
		switch {
		case m.Version != openflow.Version13:
			return m, fmt.Errorf("%w: a message of version byte %d", ErrProtocol, m.Version)
		case m.Type == openflow.EchoRequest:
			if err := s.send(openflow.EchoReply, m.XID, m.Body); err != nil {
				return m, err
			}
		case m.Type == openflow.Error && m.XID-s.first <= xid-s.first:
			return m, failureOf(m)
		case m.XID == xid && m.Type == want:
			return m, nil
		}
		if s.others++; s.others > maxOthers {
			return m, fmt.Errorf("%w: more than %d unsolicited messages", ErrProtocol, maxOthers)
		}
	}
}

func failureOf(m openflow.Message) error {
	f, err := openflow.ParseFailure(m.Body)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return f
}

func (s *session) sendRequest(t openflow.Type, body []byte, want openflow.Type) (openflow.Message, error) {
	xid := s.nextXID()
	s.first = xid
	if err := s.send(t, xid, body); err != nil {
		return openflow.Message{}, err
	}
	return s.awaitReply(xid, want)
}

// readParts asks for one of the lists and gives the parts of the reply to parse, which
// returns how many entries there were.
func (s *session) readParts(kind openflow.Multipart, request []byte, parse func(reply []byte) (int, error)) error {
	m, err := s.sendRequest(openflow.MultipartRequest, openflow.MultipartBody(kind, request), openflow.MultipartReply)
	for total := 0; ; {
		if err != nil {
			return err
		}
		got, more, reply, err := openflow.ParseMultipart(m.Body)
		if err == nil && got != kind {
			err = fmt.Errorf("a list of kind %d instead of %d", got, kind)
		}
		var n int
		if err == nil {
			n, err = parse(reply)
		}
		if total += n; err == nil && total > maxListed {
			err = fmt.Errorf("a list of more than %d", maxListed)
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrProtocol, err)
		}
		if !more {
			return nil
		}
		if s.others++; s.others > maxOthers { // empty parts without end
			return fmt.Errorf("%w: a list without end", ErrProtocol)
		}
		if m, err = s.awaitReply(m.XID, openflow.MultipartReply); err != nil {
			return err
		}
	}
}

func (s *session) listRules(of family) (all []openflow.RuleStats, err error) {
	err = s.readParts(openflow.FlowStats, openflow.StatsRequest(of.cookie, of.mask), func(reply []byte) (int, error) {
		some, err := openflow.ParseRules(reply)
		for _, r := range some {
			if r.Cookie&of.mask == of.cookie { // the switch might list others
				all = append(all, r)
			}
		}
		return len(some), err
	})
	return all, err
}

func (s *session) listPorts() (all []openflow.Port, err error) {
	err = s.readParts(openflow.PortList, nil, func(reply []byte) (int, error) {
		some, err := openflow.ParsePorts(reply)
		all = append(all, some...)
		return len(some), err
	})
	return all, err
}

func (s *session) listMeters() (all []openflow.Meter, err error) {
	err = s.readParts(openflow.MeterConfig, openflow.MetersRequest(), func(reply []byte) (int, error) {
		some, err := openflow.ParseMeters(reply)
		all = append(all, some...)
		return len(some), err
	})
	return all, err
}

func (s *session) meterLimit() (limit uint32, err error) {
	err = s.readParts(openflow.MeterFeatures, nil, func(reply []byte) (int, error) {
		limit, err = openflow.ParseMeterLimit(reply)
		return 1, err
	})
	return limit, err
}
