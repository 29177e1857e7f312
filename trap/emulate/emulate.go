// Package emulate speaks protocols far enough that an attack is delivered: it
// answers as a server would until the client has sent what it came to send. It
// executes nothing, keeps no files, and opens no connections.
//
// Every emulator ends when the client closes, is silent for the connection's
// idle time, or has sent more than the bounds allow.
package emulate

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"time"

	"dragnet/trap/session"
)

// Conn is a connection that is recorded: everything read from and written to it.
type Conn struct {
	net.Conn
	// Reader reads what the client sends, without a limit but that of time.
	Reader *bufio.Reader

	recorder *session.Recorder
	idle     time.Duration
	end      time.Time
	// Nested, if set, records what an encrypted connection carries.
	nested func(service string) *session.Recorder
}

// NewConn records c with r. A read waits for idle at most, and none goes on after
// end. Nested is called for what the connection carries encrypted; it may be nil.
func NewConn(c net.Conn, r *session.Recorder, idle time.Duration, end time.Time, nested func(service string) *session.Recorder) *Conn {
	k := &Conn{Conn: c, recorder: r, idle: idle, end: end, nested: nested}
	k.Reader = bufio.NewReaderSize(readerFunc(k.Read), 2048)
	return k
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }

// Read reads from the client and records it.
func (c *Conn) Read(b []byte) (int, error) {
	until := time.Now().Add(c.idle)
	if until.After(c.end) {
		until = c.end
	}
	if err := c.SetReadDeadline(until); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	c.recorder.Add(false, b[:n])
	return n, err
}

// Write answers the client and records it.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Write(b)
	c.recorder.Add(true, b[:n])
	return n, err
}

// Service emulates one protocol.
type Service struct {
	// Name is in the session's record.
	Name string
	// Ports are those on which it is offered; a client may also be recognised by
	// its first bytes.
	Ports []uint16
	// recognise reports whether a client's first bytes are of this protocol; nil
	// for protocols in which the server speaks first.
	recognise func(first []byte) bool
	serve     func(c *Conn) error
}

// Services are all that are emulated. The last takes whatever no other does.
func Services() []Service {
	return []Service{
		{"http", []uint16{80, 8000, 8008, 8080, 8081, 8888}, isHTTP, serveHTTP},
		{"tls", []uint16{443, 465, 636, 853, 989, 990, 993, 995, 8443}, isTLS, serveTLS},
		{"smb", []uint16{139, 445}, isSMB, serveSMB},
		{"tds", []uint16{1433, 1434}, isTDS, serveTDS},
		{"dcerpc", []uint16{135, 593, 1025}, isRPC, serveRPC},
		{"ftp", []uint16{21, 2121}, nil, serveFTP},
		{"telnet", []uint16{23, 2323}, nil, serveTelnet},
		{"smtp", []uint16{25, 587}, nil, serveSMTP},
		{"redis", []uint16{6379}, isRedis, serveRedis},
		{"dns", []uint16{53}, nil, serveDNS},
		{"ssh", []uint16{22, 2222}, isSSH, serveSSH},
		{"sip", []uint16{5060}, isSIP, serveSIP},
		{"mqtt", []uint16{1883}, isMQTT, serveMQTT},
		{"adb", []uint16{5555}, isADB, serveADB},
		{"generic", nil, func([]byte) bool { return true }, serveGeneric},
	}
}

// bannerAfter is how long a client may be silent before it is taken for one that
// waits for the server to speak.
const bannerAfter = 2 * time.Second

// firstBytes are needed to recognise a protocol.
const firstBytes = 16

// Serve emulates what the client of a connection to port wants, and returns why
// the session ended: closed, idle, limit or reset.
func Serve(c *Conn, port uint16) (reason string) {
	return reasonOf(choose(c, port).run(c))
}

func (s *Service) run(c *Conn) error {
	c.recorder.SetService(s.Name)
	return s.serve(c)
}

// choose finds the service of a port, unless the client's first bytes are of
// another one: worms try one port's protocol on another.
func choose(c *Conn, port uint16) *Service {
	all := Services()
	generic := &all[len(all)-1]
	byPort := generic
	for i := range all {
		for _, p := range all[i].Ports {
			if p == port {
				byPort = &all[i]
			}
		}
	}
	if byPort.recognise == nil {
		return byPort // the server speaks first
	}
	first := c.peek(bannerAfter)
	if byPort != generic && (len(first) == 0 || byPort.recognise(first)) {
		return byPort
	}
	for i := range all {
		if r := all[i].recognise; len(first) > 0 && r != nil && r(first) {
			return &all[i]
		}
	}
	return generic
}

// peek returns the first bytes of a client, as many as come within a time.
func (c *Conn) peek(within time.Duration) []byte {
	idle := c.idle
	c.idle = min(idle, within)
	defer func() { c.idle = idle }()
	b, _ := c.Reader.Peek(1)
	if len(b) == 0 {
		c.Reader.Reset(readerFunc(c.Read)) // a time-out is not the end
		return nil
	}
	b, _ = c.Reader.Peek(min(firstBytes, c.Reader.Buffered()))
	return b
}

// errLimit ends a session that has sent more than an emulator takes.
var errLimit = errors.New("limit")

func reasonOf(err error) string {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "idle"
	case errors.Is(err, errLimit), errors.Is(err, bufio.ErrTooLong), errors.Is(err, bufio.ErrBufferFull):
		return "limit"
	}
	return "reset"
}

// maxDrain bounds what is read from a client after its protocol is done with, so
// that the rest of an attack is recorded too.
const maxDrain = 64 << 20

// drain reads until the client has nothing more to say.
func drain(c *Conn) error {
	n, err := io.Copy(io.Discard, io.LimitReader(c.Reader, maxDrain))
	if err == nil && n == maxDrain {
		return errLimit
	}
	return err
}

// readLine reads a line, or 2048 bytes of a longer one: the rest is read as the
// next, so that an overflow is recorded whole.
func readLine(c *Conn) (string, error) {
	line, err := c.Reader.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		err = nil
	}
	return string(bytes.TrimRight(line, "\r\n")), err
}

// serveGeneric reads what comes. A client that is silent is sent a banner, which
// many protocols in which the server speaks first accept (SMTP, FTP, NNTP, POP3).
func serveGeneric(c *Conn) error {
	if first := c.peek(bannerAfter); len(first) == 0 {
		if _, err := io.WriteString(c, "220 ready\r\n"); err != nil {
			return err
		}
	}
	return drain(c)
}
