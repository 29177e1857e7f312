package message

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var compare = cmpopts.EquateComparable(netip.Prefix{}, netip.Addr{})

func request(peer string) *Message {
	return &Message{Kind: Ask, ID: [8]byte{1, 2, 3}, Proto: 17, PPort: 666, Peer: netip.MustParsePrefix(peer), Seconds: 60}
}

func TestLetterComesBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := request(rapid.SampledFrom([]string{"192.0.2.1/32", "10.10.10.0/24", "2001:db8::1/128", "2001:db8::/64"}).Draw(t, "peer"))
		l.Kind = Kind(rapid.IntRange(1, 4).Draw(t, "kind"))
		l.Proto = rapid.Uint8Min(1).Draw(t, "proto")
		l.HPort, l.Seconds = rapid.Uint16().Draw(t, "hport"), rapid.Uint32().Draw(t, "seconds")
		if l.Kind != Ask {
			for range rapid.IntRange(0, Proofs).Draw(t, "proofs") {
				l.Proofs = append(l.Proofs, Proof{Address: l.Peer.Addr(), Nonce: [16]byte{rapid.Uint8().Draw(t, "nonce")}})
			}
		}
		got, err := Parse(l.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(l, got, compare); d != "" {
			t.Fatal(d)
		}
	})
}

func TestAskPaysForWhatItCauses(t *testing.T) {
	for _, peer := range []string{"192.0.2.1/32", "10.10.10.0/24", "2001:db8::/64"} {
		ask := request(peer)
		sent := 0
		for _, p := range NewProver([32]byte{1}).Challenges(netip.MustParseAddr("10.0.0.5"), ask, time.Unix(1000, 0)) {
			c := *ask
			c.Kind, c.Proofs = Challenge, []Proof{p}
			sent += len(c.Append(nil))
		}
		if b := ask.Append(nil); len(b) < sent {
			t.Errorf("%s: %d octets make the gateway send %d", peer, len(b), sent)
		} else if _, err := Parse(b[:len(b)-1]); err == nil {
			t.Errorf("%s: a shorter request is taken", peer)
		}
	}
}

func TestProofs(t *testing.T) {
	host, now := netip.MustParseAddr("10.0.0.5"), time.Unix(1000, 0)
	p := NewProver([32]byte{1})
	for _, peer := range []string{"192.0.2.1/32", "192.0.2.0/31", "192.0.2.8/29", "10.10.10.0/24", "2001:db8::/64"} {
		l := request(peer)
		l.Kind, l.Proofs = Pull, p.Challenges(host, l, now)
		for _, proof := range l.Proofs {
			if !l.Peer.Contains(proof.Address) {
				t.Errorf("%s: %v is challenged", peer, proof.Address)
			}
		}
		check := func(what string, want bool, at time.Time, host netip.Addr, change func(*Message)) {
			t.Helper()
			c := *l
			c.Proofs = append([]Proof(nil), l.Proofs...)
			change(&c)
			if got := p.Check(host, &c, at); got != want {
				t.Errorf("%s: %s: %v, want %v", peer, what, got, want)
			}
		}
		same := func(*Message) {}
		check("at once", true, now, host, same)
		check("a slot later", true, now.Add(slot), host, same)
		check("too late", false, now.Add(Lifetime), host, same)
		check("another host", false, now, netip.MustParseAddr("10.0.0.6"), same)
		check("longer", false, now, host, func(l *Message) { l.Seconds++ })
		check("another port", false, now, host, func(l *Message) { l.PPort++ })
		check("another request", false, now, host, func(l *Message) { l.ID[0]++ })
		check("no proof", false, now, host, func(l *Message) { l.Proofs = nil })
		check("a wrong nonce", false, now, host, func(l *Message) { l.Proofs[len(l.Proofs)-1].Nonce[0]++ })
		check("in another order", true, now, host, func(l *Message) { slices.Reverse(l.Proofs) })
		check("one twice", len(l.Proofs) == 1, now, host, func(l *Message) { l.Proofs[len(l.Proofs)-1] = l.Proofs[0] })
		check("another address", false, now, host, func(l *Message) { l.Proofs[0].Address = l.Proofs[0].Address.Next() })
	}
}

func TestAddressesOfAPrefixAreNotForTheAskerToChoose(t *testing.T) {
	p, host, now := NewProver([32]byte{1}), netip.MustParseAddr("10.0.0.5"), time.Unix(1000, 0)
	l := request("10.10.10.0/24")
	first := p.Challenges(host, l, now)
	if d := cmp.Diff(first, p.Challenges(host, l, now), compare); d != "" {
		t.Error("asking again has other addresses challenged:", d)
	}
	seen := map[netip.Addr]bool{}
	for _, c := range first {
		seen[c.Address] = true
	}
	for n := range 10_000 {
		r := *request("10.10.10.0/24")
		r.ID[7], r.ID[6], r.PPort, r.Seconds = byte(n), byte(n>>8), uint16(n%100+1), uint32(n)
		for _, c := range p.Challenges(host, &r, now.Add(time.Duration(n)*100*time.Millisecond)) {
			if !seen[c.Address] {
				t.Fatalf("try %d has another address challenged: %v", n, c.Address)
			}
		}
	}
	for hour := range 100 {
		for _, c := range p.Challenges(host, l, now.Add(time.Duration(hour)*time.Hour)) {
			seen[c.Address] = true
		}
	}
	if len(seen) < 200 {
		t.Errorf("only %d of 256 addresses are ever challenged", len(seen))
	}
}

func FuzzParse(f *testing.F) {
	for _, peer := range []string{"192.0.2.1/32", "10.10.10.0/24", "2001:db8::/64"} {
		l := request(peer)
		f.Add(l.Append(nil))
		l.Kind, l.Proofs = Pull, NewProver([32]byte{}).Challenges(netip.MustParseAddr("10.0.0.5"), l, time.Unix(0, 0))
		f.Add(l.Append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		again, err := Parse(l.Append(nil))
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		if d := cmp.Diff(l, again, compare); d != "" {
			t.Fatal(d)
		}
	})
}
