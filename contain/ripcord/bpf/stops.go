//go:build linux

package bpf

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"dragnet/contain/ripcord/tables"
)

func (k stopKey) toPrincipals() tables.Principals {
	return tables.Principals{
		Peer: netip.PrefixFrom(netip.AddrFrom16(k.Peer), int(k.Bits)), HPort: portNumber(k.HPort), PPort: portNumber(k.PPort),
		Proto: k.Proto, Later: k.Later != 0,
	}
}

func stopKeyOf(p tables.Principals) stopKey {
	k := stopKey{
		Peer: p.Peer.Addr().As16(), HPort: portBytes(p.HPort), PPort: portBytes(p.PPort),
		Bits: uint8(p.Peer.Bits()), Proto: p.Proto,
	}
	if p.Later {
		k.Later = 1
	}
	return k
}

// Stops yields the coarse conversations that were ended. Their prefixes are of
// IPv6, with IPv4 mapped into it.
func (w *Wire) Stops() iter.Seq2[tables.Principals, tables.Stop] {
	return func(yield func(tables.Principals, tables.Stop) bool) {
		eachEntry(w.objects.Stops, func(k stopKey, s tables.Stop) bool { return yield(k.toPrincipals(), s) })
	}
}

// PutStop ends a coarse conversation; the prefix is of IPv6 (state.Prefix). It
// fails when stops of state.StopLengths other lengths are there.
func (w *Wire) PutStop(p tables.Principals, s tables.Stop) error {
	var used [tables.StopLengths]uint32
	if err := w.objects.StopLengths.Lookup(uint32(0), &used); err != nil {
		return fmt.Errorf("read lengths of stops: %w", err)
	}
	bits := uint32(p.Peer.Bits())
	at := 0
	if bits != 128 {
		at = slices.Index(used[:], bits)
		if at < 0 {
			at = 1 + slices.Index(used[1:], 0)
		}
		if at == 0 {
			return fmt.Errorf("stops of %d prefix lengths are in force, which is the limit", tables.StopLengths)
		}
	}
	// What is there may last longer.
	var known tables.Stop
	if w.objects.Stops.Lookup(stopKeyOf(p), &known) == nil && known.SYNOnly == 0 && int32(known.Until-s.Until) >= 0 {
		return nil
	}
	if err := w.objects.Stops.Put(stopKeyOf(p), s); err != nil {
		return fmt.Errorf("end a conversation: %w", err)
	}
	used[at] = bits
	return w.objects.StopLengths.Put(uint32(0), used)
}

// SweepStops removes expired stops, and the look-ups for lengths no longer
// used, and counts those left. now is in milliseconds since boot.
func (w *Wire) SweepStops(now uint32) (left int, err error) {
	var used [tables.StopLengths]uint32
	eachEntry(w.objects.Stops, func(k stopKey, s tables.Stop) bool {
		if int32(s.Until-now) <= 0 {
			_ = w.objects.Stops.Delete(k)
			return true
		}
		if k.Later == 0 {
			left++
		}
		if bits := uint32(k.Bits); bits == 128 {
			used[0] = bits
		} else if !slices.Contains(used[:], bits) {
			if at := 1 + slices.Index(used[1:], 0); at > 0 {
				used[at] = bits
			}
		}
		return true
	})
	if err := w.objects.StopLengths.Put(uint32(0), used); err != nil {
		return left, fmt.Errorf("write lengths of stops: %w", err)
	}
	if used[0] != 0 {
		return left, nil
	}
	// The programs may have added a coarse block since the pass.
	eachEntry(w.objects.Stops, func(k stopKey, _ tables.Stop) bool {
		if k.Bits == 128 {
			used[0] = 128
			err = w.objects.StopLengths.Put(uint32(0), used)
			return false
		}
		return true
	})
	return left, err
}

// Conversations yields when the host last sent in each conversation other than TCP's.
func (w *Wire) Conversations() iter.Seq2[tables.Conversation, uint32] {
	return func(yield func(tables.Conversation, uint32) bool) {
		eachEntry(w.objects.Talks, func(k conversationKey, last uint32) bool {
			return yield(tables.Conversation{Peer: unmapAddr(k.Peer), HPort: portNumber(k.HPort), PPort: portNumber(k.PPort), Proto: k.Proto}, last)
		})
	}
}

// Hop is how the host reaches a peer.
func (w *Wire) Hop(peer netip.Addr) (h tables.Hop, ok bool) {
	return h, w.objects.Hops.Lookup(peer.As16(), &h) == nil
}

// Hops yields how the host reaches its peers.
func (w *Wire) Hops() iter.Seq2[netip.Addr, tables.Hop] {
	return func(yield func(netip.Addr, tables.Hop) bool) {
		eachEntry(w.objects.Hops, func(k [16]byte, h tables.Hop) bool { return yield(unmapAddr(k), h) })
	}
}

// readCookies reads the Fast Open cookies that the host granted.
func (w *Wire) readCookies() iter.Seq2[tables.Grant, tables.Cookie] {
	return func(yield func(tables.Grant, tables.Cookie) bool) {
		eachEntry(w.objects.Cookies, func(k cookieKey, c tables.Cookie) bool {
			return yield(tables.Grant{Host: unmapAddr(k.Host), Peer: unmapAddr(k.Peer)}, c)
		})
	}
}

// readResets reads the counts of RSTs.
func (w *Wire) readResets() iter.Seq2[netip.AddrPort, tables.ResetCount] {
	return func(yield func(netip.AddrPort, tables.ResetCount) bool) {
		eachEntry(w.objects.Resets, func(k resetKey, r tables.ResetCount) bool {
			return yield(netip.AddrPortFrom(unmapAddr(k.Peer), portNumber(k.PPort)), r)
		})
	}
}
