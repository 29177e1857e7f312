// Package sequence turns folders, files and captures into the byte sequences
// that signatures are learnt from and matched against: one per file, per
// direction of a TCP connection, or per datagram. Captures are reassembled
// within the bounds of packet/stream; lost bytes are reported to the Sink.
package sequence

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"dragnet/flow"
	"dragnet/internal/unpack"
	"dragnet/packet"
	"dragnet/packet/capture"
	"dragnet/packet/stream"
)

// Sink receives one sequence in order.
type Sink interface {
	Write(p []byte) (int, error)
	// Lost reports that the next n bytes are missing.
	Lost(n int64)
	// End is called once, last.
	End()
}

// Located is a Sink that wants to know whose bytes it gets. Locate is called before the
// first of them, for sequences of captures.
type Located interface {
	Locate(o Origin)
}

// Origin is where in a capture a sequence is from.
type Origin struct {
	// Key names the client and the server, or sender and receiver of a datagram.
	Key   stream.Key
	Proto flow.Proto
	// FromServer is true for what the server sent.
	FromServer bool
	// Now is the time of the newest packet.
	Now func() flow.Time
	// Confirmed reports whether the sender acknowledged a number that only the other end
	// could tell it; otherwise its address may be forged.
	Confirmed func() bool
}

// ReadReport counts what was read.
type ReadReport struct {
	Sequences int
	Bytes     int64
	// Lost counts bytes missing in a capture.
	Lost int64
	// Skipped counts packets, and lines of logs, that could not be used, Problem the
	// first reason.
	Skipped int
	Problem string
	// Records counts files that hold records about captures, not payload.
	Records int
	// Services counts what the clients of the sequences connected to, where known.
	Services map[Service]int
}

// Each reads path (a folder, a file, a capture, or "-" for standard input) and
// opens a Sink for every sequence; a nil Sink skips the sequence. Vault reads the folders of
// traps; nil refuses them.
func Each(ctx context.Context, path string, stdin io.Reader, open func(name string) Sink, vault Vault) (ReadReport, error) {
	r := reader{ctx: ctx, open: open, vault: vault}
	if path == "-" {
		reading, stop := context.WithCancel(ctx)
		defer stop()
		err := r.readFile("-", newInterruptible(reading, stdin))
		return r.ReadReport, err
	}
	err := filepath.WalkDir(path, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && isVault(name) {
			if err := r.readVault(name); err != nil {
				return err
			}
			return fs.SkipDir
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		return r.readFile(name, f)
	})
	return r.ReadReport, err
}

type reader struct {
	ReadReport
	ctx   context.Context
	open  func(string) Sink
	vault Vault // may be nil
}

func (r *reader) readFile(name string, in io.Reader) error {
	b := bufio.NewReaderSize(in, 1<<16)
	if isCapture(b) {
		return r.readCapture(name, b)
	}
	if ok, err := r.readRecorded(name, b); ok {
		return err
	}
	s := r.openSequence(name, nil)
	defer s.End()
	buf := make([]byte, 64<<10)
	for {
		n, err := b.Read(buf)
		s.Write(buf[:n])
		if err == io.EOF {
			return r.ctx.Err()
		}
		if err == nil {
			err = r.ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// isCapture reports whether b is a capture, compressed or not. A compressed file that
// holds none is a sequence as it is: it may be what an attacker sent. No more is waited
// for than it takes: standard input may be slow.
func isCapture(b *bufio.Reader) bool {
	head, _ := b.Peek(unpack.MagicBytes)
	if unpack.Detect(head) != unpack.Plain {
		packed, _ := b.Peek(b.Size())
		head = make([]byte, 4)
		n, _ := io.ReadFull(unpack.NewReader(bytes.NewReader(packed)), head)
		head = head[:n]
	}
	return capture.Is(head)
}

// openSequence opens a sequence; from is nil unless it is of a capture.
func (r *reader) openSequence(name string, from *Origin) Sink {
	r.Sequences++
	s := r.open(name)
	if l, ok := s.(Located); ok && from != nil {
		l.Locate(*from)
	}
	if s == nil {
		s = discard{}
	}
	return countingSink{s, r}
}

// countingSink counts what it passes on.
type countingSink struct {
	Sink
	r *reader
}

func (c countingSink) Write(p []byte) (int, error) {
	c.r.Bytes += int64(len(p))
	return c.Sink.Write(p)
}

func (c countingSink) Lost(n int64) {
	c.r.ReadReport.Lost += n
	c.Sink.Lost(n)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) Lost(int64)                  {}
func (discard) End()                        {}

func (r *reader) readCapture(name string, in io.Reader) error {
	records, err := capture.NewReader(in)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var tcp *stream.Assembler
	tcp = stream.New(stream.DefaultConfiguration(), func(k stream.Key) stream.Handler {
		return &connection{r: r, name: fmt.Sprintf("%s: %v", name, k), key: k, tcp: tcp}
	})
	defer tcp.Flush()
	for {
		rec, err := records.Next()
		var skip *capture.SkipError
		var damage *capture.DamageError
		switch {
		case errors.Is(err, io.EOF):
			return r.ctx.Err()
		case errors.As(err, &skip):
			r.countSkipped(fmt.Sprintf("%s: %v", name, err))
			continue
		case errors.As(err, &damage): // the packets before are usable
			r.countSkipped(fmt.Sprintf("%s: %v", name, err))
			return nil
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case r.ctx.Err() != nil:
			return r.ctx.Err()
		}
		var p packet.Packet
		if err := p.Decode(rec.Link, rec.Data, rec.Wire); err != nil {
			if !errors.Is(err, packet.ErrNotIP) {
				r.countSkipped(fmt.Sprintf("%s: packet %d: %v", name, rec.Number, err))
			}
			continue
		}
		switch {
		case p.Proto == flow.TCP:
			tcp.Packet(rec.Time, &p)
		case p.Proto == flow.UDP && p.Decoded && len(p.Payload) > 0:
			r.countService(flow.UDP, p.DstPort)
			s := r.openSequence(fmt.Sprintf("%s: packet %d: %v:%d > %v:%d udp", name, rec.Number, p.Src, p.SrcPort, p.Dst, p.DstPort), &Origin{
				Key:   stream.Key{Client: netip.AddrPortFrom(p.Src, p.SrcPort), Server: netip.AddrPortFrom(p.Dst, p.DstPort)},
				Proto: flow.UDP, Now: func() flow.Time { return rec.Time }, Confirmed: func() bool { return false },
			})
			s.Write(p.Payload)
			if lost := p.PayloadLen - len(p.Payload); lost > 0 {
				s.Lost(int64(lost))
			}
			s.End()
		}
	}
}

func (r *reader) countSkipped(why string) {
	if r.Skipped++; r.Problem == "" {
		r.Problem = why
	}
}

// connection opens a sequence per direction when its first byte arrives.
type connection struct {
	r    *reader
	name string
	key  stream.Key
	tcp  *stream.Assembler
	dirs [2]Sink
}

// ToServer and ToClient end the names of what each side of a connection sent.
const (
	ToServer = ", to server"
	ToClient = ", to client"
)

func (c *connection) sinkFor(dir stream.Direction) Sink {
	if c.dirs[dir] == nil {
		if dir == stream.ToServer {
			c.r.countService(flow.TCP, c.key.Server.Port())
		}
		c.dirs[dir] = c.r.openSequence(c.name+[...]string{ToServer, ToClient}[dir], &Origin{
			Key: c.key, Proto: flow.TCP, FromServer: dir == stream.ToClient, Now: c.tcp.Now, Confirmed: func() bool { return c.tcp.Confirmed(c.key, dir) },
		})
	}
	return c.dirs[dir]
}

// Data implements stream.Handler.
func (c *connection) Data(dir stream.Direction, b []byte) { c.sinkFor(dir).Write(b) }

// Gap implements stream.Handler.
func (c *connection) Gap(dir stream.Direction, n int64) { c.sinkFor(dir).Lost(n) }

// Close implements stream.Handler.
func (c *connection) Close(stream.CloseReason) {
	for _, s := range c.dirs {
		if s != nil {
			s.End()
		}
	}
}

// Collector keeps sequences whole, up to a bound for each and for all; a loss
// ends a sequence and starts another.
type Collector struct {
	// Most bounds one sequence, Total all of them; the rest is counted in Cut.
	Most, Total int
	Sequences   [][]byte
	Names       []string
	Cut         int64
	held        int
}

// Open is the open function of Each.
func (c *Collector) Open(name string) Sink { return &collectingSink{c: c, name: name} }

type collectingSink struct {
	c    *Collector
	name string
	buf  []byte
}

func (s *collectingSink) Write(p []byte) (int, error) {
	take := max(0, min(len(p), s.c.Most-len(s.buf), s.c.Total-s.c.held))
	s.buf = append(s.buf, p[:take]...)
	s.c.held += take
	s.c.Cut += int64(len(p) - take)
	return len(p), nil
}

func (s *collectingSink) Lost(int64) { s.End() }

func (s *collectingSink) End() {
	if len(s.buf) > 0 {
		s.c.Sequences, s.c.Names = append(s.c.Sequences, s.buf), append(s.c.Names, s.name)
		s.buf = nil
	}
}
