//go:build linux

package tc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"

	"dragnet/daw"
	"dragnet/flow"
)

// prefixKey is a prefix in the kernel's tries, IPv4 in its mapped form.
type prefixKey struct {
	Bits uint32
	Addr [16]byte
}

func makeKey(p netip.Prefix) prefixKey {
	bits := p.Bits()
	if p.Addr().Is4() {
		bits += 96
	}
	return prefixKey{uint32(bits), p.Masked().Addr().As16()}
}

// replaceMap makes a map hold what is wanted: first what is new, then without what is
// no longer wanted, so that nothing is missing meanwhile.
func replaceMap[K comparable, V comparable](m *ebpf.Map, want map[K]V) error {
	var k K
	var v V
	var gone []K
	have := map[K]V{}
	all := m.Iterate()
	for all.Next(&k, &v) {
		if have[k] = v; want[k] != v {
			if _, ok := want[k]; !ok {
				gone = append(gone, k)
			}
		}
	}
	if err := all.Err(); err != nil {
		return fmt.Errorf("read map %s: %w", m, err)
	}
	for k, v := range want {
		if old, ok := have[k]; !ok || old != v {
			if err := m.Put(k, v); err != nil {
				return fmt.Errorf("write map %s: %w", m, err)
			}
		}
	}
	for _, k := range gone {
		if err := m.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return fmt.Errorf("write map %s: %w", m, err)
		}
	}
	return nil
}

// What is said about sources (maps.h).
const (
	inScope = 1 << iota
	exempt
	allowed
)

// SetScope sets which sources are watched, to which ports, and which are never held
// back or blocked.
func (p *Programs) SetScope(s daw.Scope, allow []netip.Prefix) error {
	type list struct {
		all  []netip.Prefix
		flag uint64
	}
	lists := []list{{s.Sources, inScope}, {s.Exempt, exempt}, {allow, allowed | exempt}}
	want := map[prefixKey]uint64{}
	for _, l := range lists {
		for _, one := range l.all {
			flags := uint64(0)
			for _, other := range lists {
				for _, q := range other.all {
					if q.Bits() <= one.Bits() && q.Contains(one.Addr()) {
						flags |= other.flag
					}
				}
			}
			want[makeKey(one)] = flags
		}
	}
	words := make([]uint64, 1<<16/64)
	for _, port := range s.Ports {
		words[port/64] |= 1 << (port % 64)
	}
	return errors.Join(replaceMap(p.objects.Scope, want), writeAt(p.memory[p.objects.Ports], 0, words))
}

// BlockedPrefix is a prefix from which no connection can be opened.
type BlockedPrefix struct {
	Prefix netip.Prefix
	Until  flow.Time
}

// SetBlocks replaces the blocks. edge gives the time in the kernel's terms.
func (p *Programs) SetBlocks(edge *daw.Edge, all []BlockedPrefix) error {
	want := map[prefixKey]int64{}
	for _, b := range all {
		// A longer prefix hides those it lies in, so it lasts as long as each of them.
		until := edge.ActiveUntil(b.Until)
		for _, o := range all {
			if o.Prefix.Bits() <= b.Prefix.Bits() && o.Prefix.Contains(b.Prefix.Addr()) {
				until = max(until, edge.ActiveUntil(o.Until))
			}
		}
		k := makeKey(b.Prefix)
		want[k] = max(want[k], until)
	}
	err := replaceMap(p.objects.Blocked, want)
	p.limits.Blocks = uint32(len(want))
	return errors.Join(err, p.writeLimits())
}

// HasBlock reports whether the kernel lists a block of a prefix.
func (p *Programs) HasBlock(prefix netip.Prefix) bool {
	var until int64
	return p.objects.Blocked.Lookup(makeKey(prefix), &until) == nil
}

// StationBinding allows a station, an Ethernet address as a number, to send from a prefix.
type StationBinding struct {
	Prefix  netip.Prefix
	Station uint64
}

type stationKey struct{ Binding, Station uint64 }

// SetBindings replaces the bindings; with only, sources without one are not watched.
func (p *Programs) SetBindings(all []StationBinding, only bool) error {
	prefixes, stations, numbers := map[prefixKey]uint64{}, map[stationKey]uint64{}, map[netip.Prefix]uint64{}
	for _, b := range all {
		n, ok := numbers[b.Prefix]
		if !ok {
			n = uint64(len(numbers) + 1)
			numbers[b.Prefix] = n
		}
		prefixes[makeKey(b.Prefix)], stations[stationKey{n, b.Station}] = n, 1
	}
	err := errors.Join(replaceMap(p.objects.Stations, stations), replaceMap(p.objects.Bound, prefixes))
	p.limits.Bindings, p.limits.BoundOnly = uint32(len(all)), boolBit(only)
	return errors.Join(err, p.writeLimits())
}

func boolBit(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// Behaviour is what may change while the programs run.
type Behaviour struct {
	// Acting has limits enforced, and pieces of SYNs dropped.
	Acting bool
	// ListAll gives each source a record at its first failure.
	ListAll bool
	// Share has replies told that match no request.
	Share bool
}

// SetBehaviour changes what the programs do.
func (p *Programs) SetBehaviour(b Behaviour) error {
	l := p.limits
	l.Acting, l.ListAll, l.Share, l.Events = boolBit(b.Acting), boolBit(b.ListAll), boolBit(b.Share), 1
	if l == p.limits {
		return nil
	}
	p.limits = l
	return p.writeLimits()
}

// SetClock tells the programs the time of day, of which they know a steady clock.
func (p *Programs) SetClock(now flow.Time, monotonic time.Duration) error {
	offset := int64(now) - int64(monotonic)
	if d := offset - p.limits.Offset; d > -int64(time.Millisecond) && d < int64(time.Millisecond) {
		return nil
	}
	p.limits.Offset = offset
	return p.writeLimits()
}

// The operations of the program control.
const (
	opTick = iota
	opReply
	opPause
)

type connKey struct{ Hi, Lo uint64 }

func keyOf(a netip.Addr) connKey {
	b := a.As16()
	return connKey{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (k connKey) addr() netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], k.Hi)
	binary.BigEndian.PutUint64(b[8:], k.Lo)
	return netip.AddrFrom16(b).Unmap()
}

type kernelConn struct {
	Src, Dst         connKey
	Link             uint64
	Seq              uint32
	SrcPort, DstPort uint16
}

type operation struct {
	Frame    [14]byte
	_        [2]byte
	Conn     kernelConn
	Until    int64
	Op, What uint32
}

// refused is what the programs answer if they could not get the lock.
const refused = 5

func (p *Programs) operate(o operation) (daw.ReplyOutcome, error) {
	var b bytes.Buffer
	if err := binary.Write(&b, binary.NativeEndian, o); err != nil {
		return 0, err
	}
	ret, err := p.objects.Control.Run(&ebpf.RunOptions{Data: b.Bytes()})
	if err == nil && ret == refused {
		err = errors.New("the tables are locked")
	}
	if err != nil {
		return 0, fmt.Errorf("eBPF program control: %w", err)
	}
	return daw.ReplyOutcome(ret), nil
}

// Tick has done what is due by time: a new day, and silence. Packets do the same, if
// there are any.
func (p *Programs) Tick() error {
	_, err := p.operate(operation{Op: opTick})
	return err
}

// Reply counts a reply that did not come by one of the interfaces.
func (p *Programs) Reply(r Reply, c *daw.Conn) (daw.ReplyOutcome, error) {
	return p.operate(operation{Op: opReply, What: uint32(r), Conn: kernelConn{keyOf(c.Src), keyOf(c.Dst), c.Link, c.Seq, c.SrcPort, c.DstPort}})
}

// Pause has requests without a reply not count until then.
func (p *Programs) Pause(until flow.Time) error {
	_, err := p.operate(operation{Op: opPause, Until: int64(until)})
	return err
}

// Reply is a kind of reply.
type Reply uint32

// The kinds of replies (enum of maps.h).
const (
	Success Reply = iota + 1
	Reset
	Unreachable
	Logged
)

// Event is a request that a limit drops, or a reply that matches no request.
type Event struct {
	Time    flow.Time
	Conn    daw.Conn
	Verdict daw.RequestVerdict // of a request
	Reply   Reply              // 0 for a request
}

// Events reads what the programs tell.
type Events struct {
	reader *ringbuf.Reader
	record ringbuf.Record
}

// Events opens the events; there is one reader.
func (p *Programs) Events() (*Events, error) {
	r, err := ringbuf.NewReader(p.objects.Events)
	return &Events{reader: r}, err
}

// Close stops reading.
func (e *Events) Close() error { return e.reader.Close() }

type kernelEvent struct {
	Time          int64
	Conn          kernelConn
	What, Verdict uint32
}

// Drain passes on all events there are.
func (e *Events) Drain(take func(Event)) error {
	e.reader.SetDeadline(time.Unix(1, 0))
	for {
		err := e.reader.ReadInto(&e.record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		var k kernelEvent
		if _, err := binary.Decode(e.record.RawSample, binary.NativeEndian, &k); err != nil {
			return fmt.Errorf("eBPF event: %w", err)
		}
		c := &k.Conn
		take(Event{
			Time: flow.Time(k.Time), Verdict: daw.RequestVerdict(k.Verdict), Reply: Reply(k.What),
			Conn: daw.Conn{Src: c.Src.addr(), Dst: c.Dst.addr(), SrcPort: c.SrcPort, DstPort: c.DstPort, Seq: c.Seq, Link: c.Link},
		})
	}
}

// Counters count packets since the programs were loaded.
type Counters struct {
	// Requests were judged, Dropped of them dropped; Replies were counted.
	Requests, Dropped, Replies uint64
	// Fragments hide the flags of a TCP segment. Blocked packets were dropped outside
	// the scope.
	Fragments, Blocked uint64
	// Busy packets found the tables locked too long, Lost events no room.
	Busy, Lost uint64
}

// Counters reads the counters.
func (p *Programs) Counters() (c Counters, err error) {
	for i, to := range []*uint64{&c.Requests, &c.Dropped, &c.Fragments, &c.Busy, &c.Lost, &c.Replies, &c.Blocked} {
		var each []uint64
		if err := p.objects.Counters.Lookup(uint32(i), &each); err != nil {
			return c, fmt.Errorf("read counters: %w", err)
		}
		for _, n := range each {
			*to += n
		}
	}
	return c, nil
}
