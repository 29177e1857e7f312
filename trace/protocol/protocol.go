// Package protocol encodes and parses the protocol of port 113: the
// Identification Protocol (RFC 1413) and the requests the Session TOken
// Protocol adds to it (Carrier and Shields 2002, figure 2). It parses strictly,
// formats canonically and does no I/O.
//
// Two deviations from the paper's grammar: the address may be IPv6 (it is the
// last field, so its colons are not ambiguous), and an address in a request
// whose ports are wrong is still reported, because a daemon that was given an
// address must answer with a token whatever else is wrong.
package protocol

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// MaxLine is the longest line, without its end, that either side reads: RFC
// 1413, section 5, lets a peer abort a transmission at 1000 characters.
const MaxLine = 1000

// Kind is the type of a request.
type Kind uint8

// The four kinds of the paper, section III-B.
const (
	ID        Kind = iota // log the user
	IDRec                 // log the user, then ask the hosts the user came from
	Save                  // save the state of the processes behind the socket
	SaveRec               // save the state, then ask the hosts before
	kindCount             // number of kinds
)

var kindNames = [kindCount]string{"ID", "ID_REC", "SV", "SV_REC"}

// String is the word on the wire.
func (k Kind) String() string {
	if k >= kindCount {
		return fmt.Sprintf("Kind(%d)", uint8(k))
	}
	return kindNames[k]
}

// ParseKind reads one of ID, ID_REC, SV, SV_REC.
func ParseKind(s string) (Kind, error) {
	for k, name := range kindNames {
		if s == name {
			return Kind(k), nil
		}
	}
	return 0, fmt.Errorf("request type %q is not one of ID, ID_REC, SV, SV_REC", clipText(s))
}

// Recursive reports whether the previous hosts are asked as well; such a
// request carries a session identifier.
func (k Kind) Recursive() bool { return k == IDRec || k == SaveRec }

// Saves reports whether process state is saved.
func (k Kind) Saves() bool { return k == Save || k == SaveRec }

// Ports names a connection between two hosts that both know the addresses.
type Ports struct {
	// Asked is the port on the host that is asked, Asking the one on the
	// asker's side (or on the host at Request.Remote). They are 1..65535 in
	// a valid request; an error reply may echo 0 or a number that is too big.
	Asked, Asking uint32
}

func (p Ports) areValid() bool {
	return p.Asked >= 1 && p.Asked <= 65535 && p.Asking >= 1 && p.Asking <= 65535
}

// Request is one question.
type Request struct {
	Ports
	Kind Kind
	// Session is the same along one chain of recursive requests.
	Session uint32
	// Remote is the remote address of the connection if the asker is not the
	// host at its other end; the zero Addr otherwise.
	Remote netip.Addr
	// At is the time at which the connection was open, in whole seconds, for
	// questions about connections that are over; the zero Time otherwise. It
	// follows the type: SV@1764278400. It is our extension of STOP's grammar.
	At time.Time
	// BadAddress says that a malformed request has more fields than its type
	// has without an address: its answer must be a token as well.
	BadAddress bool
}

// ErrPorts means that a port is not a number from 1 to 65535; the answer is
// INVALID-PORT. ErrSyntax means that what follows the ports is not a request;
// the answer is UNKNOWN-ERROR.
var (
	ErrPorts  = errors.New("a port is not a number from 1 to 65535")
	ErrSyntax = errors.New("not a request")
)

// ParseRequest reads a line without its end. With an error, the request holds
// what could be read: ports that may be echoed, and the address if one was
// given.
func ParseRequest(line string) (Request, error) {
	var q Request
	pair, rest, more := strings.Cut(line, ":")
	var portErr error
	if q.Ports, portErr = parsePorts(pair); portErr == nil && !q.Ports.areValid() {
		portErr = ErrPorts
	}
	if more {
		err := q.parseExtension(rest)
		if err != nil && portErr == nil {
			return q, fmt.Errorf("%w: %w", ErrSyntax, err)
		}
	}
	return q, portErr
}

// parseExtension reads what STOP adds: type, session identifier, address.
func (q *Request) parseExtension(s string) error {
	word, rest, more := strings.Cut(s, ":")
	word, at, timed := strings.Cut(trimSpace(word), "@")
	kind, err := ParseKind(word)
	if err == nil && timed {
		q.At, err = parseTime(at)
	}
	if err != nil {
		q.BadAddress = more // an unknown type with anything behind it
		return err
	}
	q.Kind = kind
	if kind.Recursive() {
		if !more {
			return fmt.Errorf("%v without a session identifier", kind)
		}
		var sid string
		sid, rest, more = strings.Cut(rest, ":")
		if q.Session, err = parseNumber(trimSpace(sid), 10); err != nil {
			q.BadAddress = more || strings.ContainsAny(sid, ".:")
			return fmt.Errorf("session identifier: %w", err)
		}
	}
	if !more {
		return nil
	}
	addr, err := netip.ParseAddr(trimSpace(rest))
	if err != nil || addr.Zone() != "" {
		q.BadAddress = true
		return fmt.Errorf("%q is not an address", clipText(rest))
	}
	q.Remote = addr.Unmap()
	return nil
}

// String is the request on the wire, without the end of line.
func (q Request) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d,%d", q.Asked, q.Asking)
	if q.Kind == ID && !q.Remote.IsValid() && q.At.IsZero() {
		return b.String() // what every ident daemon understands
	}
	b.WriteString(":" + q.Kind.String())
	if !q.At.IsZero() {
		fmt.Fprintf(&b, "@%d", q.At.Unix())
	}
	if q.Kind.Recursive() {
		fmt.Fprintf(&b, ":%d", q.Session)
	}
	if q.Remote.IsValid() {
		b.WriteString(":" + q.Remote.String())
	}
	return b.String()
}

// parseTime reads seconds of Unix time.
func parseTime(s string) (time.Time, error) {
	n, err := parseNumber(s, 10)
	if err != nil || n == 0 {
		return time.Time{}, fmt.Errorf("%q is not a time in seconds since 1970", clipText(s))
	}
	return time.Unix(int64(n), 0).UTC(), nil
}

// parsePorts reads "port , port". Ports beyond 65535 are returned as they are,
// so that they can be echoed; anything but one to five digits is an error.
func parsePorts(s string) (Ports, error) {
	left, right, ok := strings.Cut(s, ",")
	if !ok {
		return Ports{}, ErrPorts
	}
	asked, err1 := parseNumber(trimSpace(left), 5)
	asking, err2 := parseNumber(trimSpace(right), 5)
	if err1 != nil || err2 != nil {
		return Ports{}, ErrPorts
	}
	return Ports{asked, asking}, nil
}

// parseNumber reads at most the given number of decimal digits: no sign, no
// wrap, no white space within.
func parseNumber(s string, digits int) (uint32, error) {
	if s == "" || len(s) > digits {
		return 0, fmt.Errorf("%q is not a number of 1 to %d digits", clipText(s), digits)
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%q is not a number", clipText(s))
		}
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is more than 32 bits", s)
	}
	return uint32(n), nil
}

// trimSpace removes the white space RFC 1413 allows between tokens.
func trimSpace(s string) string { return strings.Trim(s, " \t") }

// clipText keeps a peer's text short enough for a log line.
func clipText(s string) string {
	if len(s) > 40 {
		return s[:40] + "..."
	}
	return s
}
