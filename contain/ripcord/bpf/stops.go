//go:build linux

package bpf

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"dragnet/contain/ripcord/state"
)

func (k stopKey) toPrincipals() state.Principals {
	return state.Principals{
		Peer: netip.PrefixFrom(netip.AddrFrom16(k.Peer), int(k.Bits)), HPort: portNumber(k.HPort), PPort: portNumber(k.PPort),
		Proto: k.Proto, Later: k.Later != 0,
	}
}

func stopKeyOf(p state.Principals) stopKey {
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
func (w *Wire) Stops() iter.Seq2[state.Principals, state.Stop] {
	return func(yield func(state.Principals, state.Stop) bool) {
		eachEntry(w.objects.Stops, func(k stopKey, s state.Stop) bool { return yield(k.toPrincipals(), s) })
	}
}

// PutStop ends a coarse conversation; the prefix is of IPv6 (state.Prefix). It
// fails when stops of state.StopLengths other lengths are there.
func (w *Wire) PutStop(p state.Principals, s state.Stop) error {
	var used [state.StopLengths]uint32
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
			return fmt.Errorf("stops of %d prefix lengths are in force, which is the limit", state.StopLengths)
		}
	}
	// What is there may last longer.
	var known state.Stop
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
// used. now is in milliseconds since boot.
func (w *Wire) SweepStops(now uint32) error {
	var used [state.StopLengths]uint32
	eachEntry(w.objects.Stops, func(k stopKey, s state.Stop) bool {
		if int32(s.Until-now) <= 0 {
			_ = w.objects.Stops.Delete(k)
		} else if bits := uint32(k.Bits); bits == 128 {
			used[0] = bits
		} else if !slices.Contains(used[:], bits) {
			if at := 1 + slices.Index(used[1:], 0); at > 0 {
				used[at] = bits
			}
		}
		return true
	})
	if err := w.objects.StopLengths.Put(uint32(0), used); err != nil {
		return fmt.Errorf("write lengths of stops: %w", err)
	}
	if used[0] != 0 {
		return nil
	}
	// The programs may have added a coarse block since the pass.
	var late error
	eachEntry(w.objects.Stops, func(k stopKey, _ state.Stop) bool {
		if k.Bits == 128 {
			used[0] = 128
			late = w.objects.StopLengths.Put(uint32(0), used)
			return false
		}
		return true
	})
	return late
}

// Conversations yields when the host last sent in each conversation other than TCP's.
func (w *Wire) Conversations() iter.Seq2[state.Conversation, uint32] {
	return func(yield func(state.Conversation, uint32) bool) {
		eachEntry(w.objects.Talks, func(k conversationKey, last uint32) bool {
			return yield(state.Conversation{Peer: unmapAddr(k.Peer), HPort: portNumber(k.HPort), PPort: portNumber(k.PPort), Proto: k.Proto}, last)
		})
	}
}

// Hop is how the host reaches a peer.
func (w *Wire) Hop(peer netip.Addr) (h state.Hop, ok bool) {
	return h, w.objects.Hops.Lookup(peer.As16(), &h) == nil
}

// Hops yields how the host reaches its peers.
func (w *Wire) Hops() iter.Seq2[netip.Addr, state.Hop] {
	return func(yield func(netip.Addr, state.Hop) bool) {
		eachEntry(w.objects.Hops, func(k [16]byte, h state.Hop) bool { return yield(unmapAddr(k), h) })
	}
}

// readCookies reads the Fast Open cookies that the host granted.
func (w *Wire) readCookies() iter.Seq2[state.Grant, state.Cookie] {
	return func(yield func(state.Grant, state.Cookie) bool) {
		eachEntry(w.objects.Cookies, func(k cookieKey, c state.Cookie) bool {
			return yield(state.Grant{Host: unmapAddr(k.Host), Peer: unmapAddr(k.Peer)}, c)
		})
	}
}

// readResets reads the counts of RSTs.
func (w *Wire) readResets() iter.Seq2[netip.AddrPort, state.Resets] {
	return func(yield func(netip.AddrPort, state.Resets) bool) {
		eachEntry(w.objects.Resets, func(k resetKey, r state.Resets) bool {
			return yield(netip.AddrPortFrom(unmapAddr(k.Peer), portNumber(k.PPort)), r)
		})
	}
}
