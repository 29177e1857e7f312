package key

import (
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// TestCandidatesByTryingANetwork asks readers who know all but the last two
// bytes of the address, and tries all of those: with both ports the product
// wraps at 2^64, and still must be counted.
func TestCandidatesByTryingANetwork(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	cases := 12
	if testkit.Short(t) { // the race detector makes it slow, and there is no race
		cases = 2
	}
	for range cases {
		m := Mask{Family: IPv4, Prefix: 32, SPort: true, DPort: true, Proto: true}
		busy := []uint16{65535, 65280, 61680, 443, 0, 4660}
		tuple := Tuple{Mask: m, SPort: busy[rng.IntN(len(busy))], DPort: busy[rng.IntN(len(busy))], Proto: []flow.Proto{flow.TCP, 255}[rng.IntN(2)]}
		addr := [4]byte{byte(1 + rng.IntN(255)), byte(rng.IntN(256))}
		near := netip.PrefixFrom(netip.AddrFrom4(addr), 16)
		addr[2], addr[3] = byte(rng.IntN(256)), byte(rng.IntN(256))
		tuple.Addr = netip.AddrFrom4(addr)
		for _, h := range []Hash{{Kind: Product}, {Kind: ProductMod, Modulus: 1009}, {Kind: ProductMod, Modulus: 1 << 10}} {
			k, err := NewKeyer(m, Out, h, Salt{})
			if err != nil {
				t.Fatal(err)
			}
			asked, want := k.Tuple(tuple), 0.0
			for last := range 1 << 16 {
				other := tuple
				addr[2], addr[3] = byte(last>>8), byte(last)
				other.Addr = netip.AddrFrom4(addr)
				if k.Tuple(other) == asked {
					want++
				}
			}
			got := NewMeter(h).Candidates(Reader{Service: &tuple, Near: near}, m, asked)
			// A sample of 2^18 is within five standard deviations of a share.
			slack := 0.0
			if h.Kind == ProductMod {
				slack = max(64, 5*math.Sqrt(want/4)) // fewer than ten hits count as an even spread
			}
			if math.Abs(got-want) > slack {
				t.Fatalf("%v of %v: %g candidates, trying all gives %g", h, tuple, got, want)
			}
		}
	}
}

// TestCandidatesHoldThePermutations: exchanging the bytes of a tuple leaves its
// product, so the candidates are at least that many.
func TestCandidatesHoldThePermutations(t *testing.T) {
	product := Hash{Kind: Product}
	for _, c := range []struct {
		tuple Tuple
		least float64
	}{
		{Tuple{Mask: Mask{Family: IPv4, Prefix: 32, SPort: true, DPort: true, Proto: true}, Addr: netip.MustParseAddr("198.51.100.7"), SPort: 1234, DPort: 443, Proto: flow.TCP}, 5040},
		{Tuple{Mask: Mask{Family: IPv6, Prefix: 128, DPort: true, Proto: true}, Addr: netip.MustParseAddr("2001:db8::1"), DPort: 443, Proto: flow.TCP}, 1e6},
		{Tuple{Mask: Mask{Family: IPv6, Prefix: 48}, Addr: netip.MustParseAddr("2001:db8:77::")}, 360},
	} {
		k, err := NewKeyer(c.tuple.Mask, Out, product, Salt{})
		if err != nil {
			t.Fatal(err)
		}
		if got := NewMeter(product).Candidates(Reader{}, c.tuple.Mask, k.Tuple(c.tuple)); got < c.least {
			t.Errorf("%v: %g candidates, want at least %g", c.tuple, got, c.least)
		}
	}
}

// BenchmarkMeter is what one key of a list costs to measure.
func BenchmarkMeter(b *testing.B) {
	m := Mask{Family: IPv4, Prefix: 32, DPort: true, Proto: true}
	for _, h := range []Hash{{Kind: Linear, Bits: 19}, {Kind: Product}, {Kind: ProductMod, Modulus: 524287}} {
		b.Run(h.Kind.String(), func(b *testing.B) {
			k, err := NewKeyer(m, Out, h, Salt{})
			if err != nil {
				b.Fatal(err)
			}
			meter, i := NewMeter(h), 0
			for b.Loop() {
				i++
				t := Tuple{Mask: m, Addr: netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), DPort: 22, Proto: flow.TCP}
				meter.Candidates(Reader{}, m, k.Tuple(t))
			}
		})
	}
}
