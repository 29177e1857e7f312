package dnsbl

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"dragnet/flow"
	"dragnet/internal/admission"
	"dragnet/internal/run"
	"dragnet/publish"
)

// Server answers over UDP and TCP. Start and Stop are for one goroutine.
type Server struct {
	config      Configuration
	log         *slog.Logger
	now         func() time.Time
	secondaries []netip.AddrPort
	cookies     *cookies
	zone        atomic.Pointer[zone]

	// Queries whose sender may be forged have a separate quota: they must not
	// use up that of who is where it says.
	forgeable, verified limiter

	servers []*dns.Server
	group   *run.Group
	address string

	// Queries counts what was asked, Refused and Dropped what was over a quota,
	// Transfers whole zones that were handed out.
	Queries, Refused, Dropped, Transfers atomic.Int64
}

// Dependencies of a server.
type Dependencies struct {
	Log *slog.Logger
	Now func() time.Time // nil is the machine's clock
}

// New makes a server for a configuration with a zone; it answers SERVFAIL until
// the first Update.
func New(c Configuration, d Dependencies) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	s := &Server{config: c, log: d.Log, now: d.Now, group: run.NewGroup(), cookies: newCookies()}
	for _, text := range c.Secondaries {
		a, err := parseSecondary(text)
		if err != nil {
			return nil, err
		}
		s.secondaries = append(s.secondaries, a)
	}
	return s, nil
}

// maxConnections is how many over TCP are open at a time.
const maxConnections = 2000

// Start listens.
func (s *Server) Start(ctx context.Context) error {
	listen := net.ListenConfig{Control: reusePort}
	tcp, err := listen.Listen(ctx, "tcp", s.config.Listen)
	if err != nil {
		return err
	}
	s.address = tcp.Addr().String()
	s.serve(&dns.Server{Listener: admission.Listen(tcp, maxConnections), ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxTCPQueries: 1000})
	for range runtime.NumCPU() { // the kernel spreads queries over sockets
		udp, err := listen.ListenPacket(ctx, "udp", s.address)
		if err != nil {
			return errors.Join(err, s.Stop(ctx))
		}
		s.serve(&dns.Server{PacketConn: udp, UDPSize: 1232})
	}
	return nil
}

func reusePort(_, _ string, c syscall.RawConn) (err error) {
	return errors.Join(c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}), err)
}

func (s *Server) serve(d *dns.Server) {
	d.Handler, d.TsigSecret = dns.HandlerFunc(s.Answer), s.keys()
	started := make(chan struct{})
	d.NotifyStartedFunc = func() { close(started) }
	s.servers = append(s.servers, d)
	s.group.GoWithoutError(func(context.Context) {
		if err := d.ActivateAndServe(); err != nil {
			s.log.Error("DNS server failed", "listen", s.address, "err", err)
		}
	})
	<-started
}

// keys is the key of transfers by its name; nil for none.
func (s *Server) keys() map[string]string {
	if s.config.TransferKey == "" {
		return nil
	}
	return map[string]string{dns.CanonicalName(s.config.TransferKey): s.config.TransferSecret.Reveal()}
}

// sign makes WriteMsg and Exchange sign a message, if there is a key.
func (s *Server) sign(m *dns.Msg) {
	if s.config.TransferKey != "" {
		m.SetTsig(dns.CanonicalName(s.config.TransferKey), dns.HmacSHA256, 300, time.Now().Unix())
	}
}

// isSigned reports whether a request has the signature that transfers need.
func (s *Server) isSigned(w dns.ResponseWriter, r *dns.Msg) bool {
	if s.config.TransferKey == "" {
		return true
	}
	t := r.IsTsig()
	return t != nil && dns.CanonicalName(t.Hdr.Name) == dns.CanonicalName(s.config.TransferKey) &&
		dns.CanonicalName(t.Algorithm) == dns.HmacSHA256 && w.TsigStatus() == nil
}

// Address is where the server listens.
func (s *Server) Address() string { return s.address }

// Stop ends what is being answered, no later than ctx.
func (s *Server) Stop(ctx context.Context) error {
	var err error
	for _, d := range s.servers {
		err = errors.Join(err, d.ShutdownContext(ctx))
	}
	s.servers = nil
	return errors.Join(err, s.group.Stop(ctx))
}

// Update answers from a view from now on, and notifies the secondaries (RFC
// 1996).
func (s *Server) Update(v *publish.View) {
	s.zone.Store(newZone(&s.config, v))
	for _, to := range s.secondaries {
		m := new(dns.Msg)
		m.SetNotify(dns.CanonicalName(s.config.Zone))
		s.sign(m)
		s.group.GoWithoutError(func(context.Context) {
			c := dns.Client{Timeout: 3 * time.Second, TsigSecret: s.keys()}
			if _, _, err := c.Exchange(m, to.String()); err != nil {
				s.log.Warn("secondary did not answer NOTIFY; it will ask at its next refresh", "secondary", to, "err", err)
			}
		})
	}
}

// maxUDP is what an answer over UDP has at most (DNS flag day 2020).
const maxUDP = 1232

// Answer writes one answer, or none to a network that is far over its quota.
func (s *Server) Answer(w dns.ResponseWriter, r *dns.Msg) {
	s.Queries.Add(1)
	from, overTCP := senderOf(w)
	m := new(dns.Msg)
	m.SetReply(r)
	m.Compress = true
	verified := s.answerCookie(m, r, from) || overTCP
	limits := &s.forgeable
	if verified {
		limits = &s.verified
	}
	switch n := limits.count(from, s.now()); {
	case n <= s.config.PerSecond:
	case verified:
		s.Refused.Add(1)
		m.Rcode = dns.RcodeRefused
		s.write(w, r, m)
		return
	case n <= 2*s.config.PerSecond:
		// The address may be forged: an answer no longer than the query, which
		// an honest client asks again over TCP.
		s.Refused.Add(1)
		m.Truncated = true
		s.write(w, r, m)
		return
	default:
		s.Dropped.Add(1)
		return
	}
	z := s.zone.Load()
	switch {
	case r.Opcode != dns.OpcodeQuery:
		m.Rcode = dns.RcodeNotImplemented
	case z == nil:
		m.Rcode = dns.RcodeServerFailure
	case len(r.Question) != 1:
		m.Rcode = dns.RcodeFormatError
	default:
		q := r.Question[0]
		if q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
			s.transfer(w, r, m, z, from, overTCP)
			return
		}
		z.answer(m, &q, flow.FromTime(s.now()))
	}
	if !overTCP {
		m.Truncate(sizeFor(r))
	}
	s.write(w, r, m)
}

// write sends an answer, signed if the query was.
func (s *Server) write(w dns.ResponseWriter, r, m *dns.Msg) {
	if r.IsTsig() != nil && s.isSigned(w, r) {
		s.sign(m)
	}
	if err := w.WriteMsg(m); err != nil {
		s.log.Debug("DNS answer not sent", "err", err)
	}
}

func senderOf(w dns.ResponseWriter) (from netip.Addr, overTCP bool) {
	switch a := w.RemoteAddr().(type) {
	case *net.UDPAddr:
		return a.AddrPort().Addr().Unmap(), false
	case *net.TCPAddr:
		return a.AddrPort().Addr().Unmap(), true
	}
	return netip.IPv4Unspecified(), false
}

func sizeFor(r *dns.Msg) int {
	if o := r.IsEdns0(); o != nil {
		return min(max(int(o.UDPSize()), dns.MinMsgSize), maxUDP)
	}
	return dns.MinMsgSize
}

// answerCookie adds what EDNS needs and reports whether the query brought a
// cookie of ours.
func (s *Server) answerCookie(m, r *dns.Msg, from netip.Addr) bool {
	o := r.IsEdns0()
	if o == nil {
		return false
	}
	m.SetEdns0(maxUDP, false)
	for _, option := range o.Option {
		c, ok := option.(*dns.EDNS0_COOKIE)
		if !ok {
			continue
		}
		b, err := hex.DecodeString(c.Cookie)
		if err != nil || len(b) < clientCookie {
			return false
		}
		now := s.now()
		reply := m.IsEdns0()
		reply.Option = append(reply.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: hex.EncodeToString(s.cookies.make(b, from, now))})
		return s.cookies.check(b, from, now)
	}
	return false
}

// answer fills in what the zone says to a question.
func (z *zone) answer(m *dns.Msg, q *dns.Question, now flow.Time) {
	name := dns.CanonicalName(q.Name)
	labels, within := strings.CutSuffix(name, z.name)
	if q.Qclass != dns.ClassINET || !within || labels != "" && !strings.HasSuffix(labels, ".") {
		m.Rcode = dns.RcodeRefused
		return
	}
	m.Authoritative = true
	if labels = strings.TrimSuffix(labels, "."); labels == "" {
		switch q.Qtype {
		case dns.TypeSOA:
			m.Answer = []dns.RR{z.soa}
		case dns.TypeNS:
			m.Answer = z.ns
		case dns.TypeANY: // one of them, RFC 8482
			m.Answer = []dns.RR{z.soa}
		default:
			m.Ns = []dns.RR{z.soa}
		}
		return
	}
	if n, ok := parseName(labels); !ok || !z.answerHost(m, q, n.host, now) && !z.anyBelow(n.parts, now) {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 {
		m.Ns = []dns.RR{z.soa}
	}
}

func (z *zone) anyBelow(parts []netip.Prefix, now flow.Time) bool {
	return slices.ContainsFunc(parts, func(p netip.Prefix) bool { return z.hasBelow(p, now) })
}

// answerHost reports whether the host is listed.
func (z *zone) answerHost(m *dns.Msg, q *dns.Question, host netip.Addr, now flow.Time) bool {
	reason, until, ok := z.find(host, now)
	if !ok {
		return false
	}
	// An answer is kept no longer than the entry lives.
	ttl := uint32(min(int64(z.ttl), max(int64(until-now)/int64(time.Second), 1)))
	a, txt := z.records(host, reason, ttl)
	a.Hdr.Name, txt.Hdr.Name = q.Name, q.Name // as it was asked, with its letters' case
	switch q.Qtype {
	case dns.TypeA, dns.TypeANY:
		m.Answer = []dns.RR{a}
	case dns.TypeTXT:
		m.Answer = []dns.RR{txt}
	}
	return true
}

// transferChunk is how many records one message of a transfer holds; with the
// longest names and texts they stay below 64 KiB.
const transferChunk = 100

// transfer hands the whole zone to a secondary (RFC 5936); IXFR is answered with
// all of it, too (RFC 1995, section 4).
func (s *Server) transfer(w dns.ResponseWriter, r, m *dns.Msg, z *zone, from netip.Addr, overTCP bool) {
	permitted := false
	for _, a := range s.secondaries {
		permitted = permitted || a.Addr() == from
	}
	switch {
	case permitted && !s.isSigned(w, r):
		m.Rcode = dns.RcodeNotAuth // RFC 8945, section 5.3.2
	case !permitted || dns.CanonicalName(r.Question[0].Name) != z.name:
		m.Rcode = dns.RcodeRefused
	case !overTCP: // the SOA alone: ask over TCP
		m.Authoritative, m.Answer = true, []dns.RR{z.soa}
	default:
		if err := s.sendZone(w, r, z); err != nil {
			s.log.Warn("zone transfer failed", "secondary", from, "err", err)
			w.Close()
			return
		}
		s.Transfers.Add(1)
		return
	}
	s.write(w, r, m)
}

func (s *Server) sendZone(w dns.ResponseWriter, r *dns.Msg, z *zone) error {
	chunk := append([]dns.RR{z.soa}, z.ns...)
	send := func() error {
		m := new(dns.Msg)
		m.SetReply(r)
		m.Authoritative, m.Compress, m.Answer = true, true, chunk
		chunk = nil
		s.sign(m)
		err := w.WriteMsg(m)
		w.TsigTimersOnly(true) // after the first (RFC 8945, section 5.3.1)
		return err
	}
	err := z.each(flow.FromTime(s.now()), netip.Addr.IsValid, func(host netip.Addr, reason []byte) error {
		a, txt := z.records(host, string(reason), z.ttl)
		if chunk = append(chunk, a, txt); len(chunk) >= transferChunk {
			return send()
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("send zone: %w", err)
	}
	chunk = append(chunk, z.soa)
	return send()
}
