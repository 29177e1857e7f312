//go:build linux

package bpf

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"net/netip"

	"github.com/cilium/ebpf"

	"dragnet/contain/ripcord/tables"
)

// The keys as the kernel holds them: addresses and ports in network order, IPv4
// mapped into IPv6 except in key4.
type (
	key4 struct {
		Host, Peer   [4]byte
		HPort, PPort [2]byte
	}
	key6 struct {
		Host, Peer   [16]byte
		HPort, PPort [2]byte
	}
	stopKey struct {
		Peer               [16]byte
		HPort, PPort       [2]byte
		Bits, Proto, Later uint8
		_                  uint8
	}
	resetKey struct {
		Peer  [16]byte
		PPort [2]byte
		_     uint16
	}
	cookieKey       struct{ Host, Peer [16]byte }
	conversationKey struct {
		Peer         [16]byte
		HPort, PPort [2]byte
		Proto        uint8
		_            [3]uint8
	}
)

func portBytes(n uint16) (b [2]byte) {
	binary.BigEndian.PutUint16(b[:], n)
	return b
}

func portNumber(b [2]byte) uint16 { return binary.BigEndian.Uint16(b[:]) }

func unmapAddr(b [16]byte) netip.Addr { return netip.AddrFrom16(b).Unmap() }

func (k key4) toEnds() tables.Ends {
	return tables.Ends{
		Host: netip.AddrPortFrom(netip.AddrFrom4(k.Host), portNumber(k.HPort)),
		Peer: netip.AddrPortFrom(netip.AddrFrom4(k.Peer), portNumber(k.PPort)),
	}
}

func (k key6) toEnds() tables.Ends {
	return tables.Ends{
		Host: netip.AddrPortFrom(netip.AddrFrom16(k.Host), portNumber(k.HPort)),
		Peer: netip.AddrPortFrom(netip.AddrFrom16(k.Peer), portNumber(k.PPort)),
	}
}

// connKey finds the table and the key of a connection; half is 1 for those to
// which the peer has not agreed.
func (w *Wire) connKey(e tables.Ends, half uint8) (*ebpf.Map, any) {
	t4, t6 := w.objects.Conns4, w.objects.Conns6
	if half == 1 {
		t4, t6 = w.objects.Half4, w.objects.Half6
	}
	if e.Host.Addr().Is4() {
		return t4, key4{e.Host.Addr().As4(), e.Peer.Addr().As4(), portBytes(e.Host.Port()), portBytes(e.Peer.Port())}
	}
	return t6, key6{e.Host.Addr().As16(), e.Peer.Addr().As16(), portBytes(e.Host.Port()), portBytes(e.Peer.Port())}
}

// Conns yields all connections. The tables change meanwhile, so one may be
// missed or yielded twice.
func (w *Wire) Conns(yield func(tables.Ends, tables.Conn) bool) {
	if w.eachConn(0, yield) {
		w.eachConn(1, yield)
	}
}

// WholeConns yields all but the half-open ones that began with a SYN from outside, which
// are in other tables.
func (w *Wire) WholeConns(yield func(tables.Ends, tables.Conn) bool) { w.eachConn(0, yield) }

// HalfConns yields the half-open ones.
func (w *Wire) HalfConns(yield func(tables.Ends, tables.Conn) bool) { w.eachConn(1, yield) }

func (w *Wire) eachConn(half int, yield func(tables.Ends, tables.Conn) bool) bool {
	t4, t6 := w.objects.Conns4, w.objects.Conns6
	if half == 1 {
		t4, t6 = w.objects.Half4, w.objects.Half6
	}
	return eachEntry(t4, func(k key4, c tables.Conn) bool { return yield(k.toEnds(), c) }) &&
		eachEntry(t6, func(k key6, c tables.Conn) bool { return yield(k.toEnds(), c) })
}

// eachEntry reads a hash in batches; at worst, a table that changes under the
// reader ends the pass early.
func eachEntry[K, V any](m *ebpf.Map, yield func(K, V) bool) bool {
	var cursor ebpf.MapBatchCursor
	keys, values := make([]K, 4096), make([]V, 4096)
	for {
		n, err := m.BatchLookup(&cursor, keys, values, nil)
		for i := range n {
			if !yield(keys[i], values[i]) {
				return false
			}
		}
		if err != nil {
			return true
		}
	}
}

// Conn reads one connection.
func (w *Wire) Conn(e tables.Ends) (c tables.Conn, ok bool) {
	for half := range uint8(2) {
		if m, key := w.connKey(e, half); m.Lookup(key, &c) == nil {
			return c, true
		}
	}
	return c, false
}

// PutConn writes a connection.
func (w *Wire) PutConn(e tables.Ends, c tables.Conn) error {
	m, key := w.connKey(e, c.Half)
	return m.Put(key, c)
}

// DeleteConn removes a connection, unless a packet arrived since it was read.
func (w *Wire) DeleteConn(e tables.Ends, read tables.Conn) error {
	m, key := w.connKey(e, read.Half)
	var now tables.Conn
	if err := m.Lookup(key, &now); err != nil || now.LastSeen != read.LastSeen {
		return nil
	}
	if err := m.Delete(key); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("delete a connection: %w", err)
	}
	return nil
}

// Sources yields the addresses the host may use.
func (w *Wire) Sources() iter.Seq2[netip.Addr, tables.Source] {
	return func(yield func(netip.Addr, tables.Source) bool) {
		eachEntry(w.objects.Sources, func(k [16]byte, s tables.Source) bool { return yield(unmapAddr(k), s) })
	}
}

// PutSource lets the host use an address.
func (w *Wire) PutSource(a netip.Addr, s tables.Source) error {
	return w.objects.Sources.Put(a.As16(), s)
}

// DropSource removes an address of the host.
func (w *Wire) DropSource(a netip.Addr) error { return w.objects.Sources.Delete(a.As16()) }

// SetBudget says how many IPv4 and IPv6 sources may still be learnt, and in how
// many more prefixes of IPv6.
func (w *Wire) SetBudget(v4, v6, prefixes int32) error {
	return errors.Join(w.objects.Budget.Put(uint32(0), v4), w.objects.Budget.Put(uint32(1), v6), w.objects.Budget.Put(uint32(2), prefixes))
}

// Budget returns what is left of the budget.
func (w *Wire) Budget() (v [3]int32, err error) {
	for i := range v {
		err = errors.Join(err, w.objects.Budget.Lookup(uint32(i), &v[i]))
	}
	return v, err
}

// Prefixes yields the /64 in which IPv6 sources are learnt, and when they were
// taken or last advertised.
func (w *Wire) Prefixes() iter.Seq2[netip.Prefix, uint32] {
	return func(yield func(netip.Prefix, uint32) bool) {
		eachEntry(w.objects.Prefixes, func(k [8]byte, at uint32) bool {
			var a [16]byte
			copy(a[:], k[:])
			return yield(netip.PrefixFrom(netip.AddrFrom16(a), 64), at)
		})
	}
}

// PutPrefix lets IPv6 sources be learnt in the /64 of an address.
func (w *Wire) PutPrefix(a netip.Addr, now uint32) error {
	b := a.As16()
	return w.objects.Prefixes.Put([8]byte(b[:]), now)
}

// DropPrefix takes one back.
func (w *Wire) DropPrefix(p netip.Prefix) error {
	b := p.Addr().As16()
	return w.objects.Prefixes.Delete([8]byte(b[:]))
}

// readNeighbours reads the addresses that others on the link claim.
func (w *Wire) readNeighbours() iter.Seq2[netip.Addr, uint32] {
	return func(yield func(netip.Addr, uint32) bool) {
		eachEntry(w.objects.Neighbours, func(k [16]byte, at uint32) bool { return yield(unmapAddr(k), at) })
	}
}

// readPeerCookies reads the Fast Open cookies that peers granted to the host.
func (w *Wire) readPeerCookies() iter.Seq2[tables.Grant, uint64] {
	return func(yield func(tables.Grant, uint64) bool) {
		eachEntry(w.objects.PeerCookies, func(k cookieKey, v uint64) bool {
			return yield(tables.Grant{Host: unmapAddr(k.Host), Peer: unmapAddr(k.Peer)}, v)
		})
	}
}

// SetSecret changes the key of the nonces; connections that are open keep
// theirs.
func (w *Wire) SetSecret(key [2]uint64) error { return w.objects.Secrets.Put(uint32(0), key) }

// Counters sums the counters of all processors.
func (w *Wire) Counters() (sum [tables.Reasons]uint64, err error) {
	for r := range sum {
		var per []uint64
		if err := w.objects.Counters.Lookup(uint32(r), &per); err != nil {
			return sum, fmt.Errorf("read counters: %w", err)
		}
		for _, n := range per {
			sum[r] += n
		}
	}
	return sum, nil
}

// Room is how many connections of IPv4 and IPv6 the tables take.
func (w *Wire) Room() [2]int {
	return [2]int{int(w.objects.Conns4.MaxEntries()), int(w.objects.Conns6.MaxEntries())}
}

// Memory is the size of the tables of connections, in bytes.
func (w *Wire) Memory() (v4, v6 uint64) {
	for i, m := range []*ebpf.Map{w.objects.Conns4, w.objects.Conns6} {
		if info, err := m.Info(); err == nil {
			n, _ := info.Memlock()
			if i == 0 {
				v4 = n
			} else {
				v6 = n
			}
		}
	}
	return v4, v6
}
