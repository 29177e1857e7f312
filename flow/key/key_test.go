package key

import (
	"math/big"
	"math/rand/v2"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

func drawMask(t *rapid.T) Mask {
	m := Mask{SPort: rapid.Bool().Draw(t, "sport"), DPort: rapid.Bool().Draw(t, "dport"), Proto: rapid.Bool().Draw(t, "proto")}
	switch rapid.IntRange(0, 2).Draw(t, "family") {
	case 1:
		m.Family, m.Prefix = IPv4, uint8(rapid.IntRange(1, 32).Draw(t, "prefix"))
	case 2:
		m.Family, m.Prefix = IPv6, uint8(rapid.IntRange(1, 128).Draw(t, "prefix"))
	}
	if (m == Mask{}) {
		m.Proto = true
	}
	return m
}

func drawFlow(t *rapid.T, family AddressFamily) flow.Flow {
	addr := func(label string) netip.Addr {
		if family == IPv6 {
			return netip.AddrFrom16([16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label)))
		}
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, label)))
	}
	return flow.Flow{
		Orig: addr("orig"), Resp: addr("resp"), OrigPort: rapid.Uint16().Draw(t, "sport"), RespPort: rapid.Uint16().Draw(t, "dport"),
		Proto: flow.Proto(rapid.Byte().Draw(t, "proto")),
	}
}

// bigProduct is the paper's hash with whole numbers, from its text: multiply
// the bytes, zeros rounded up to one.
func bigProduct(tuple Tuple) *big.Int {
	p := big.NewInt(1)
	for _, b := range tuple.appendComponents(nil) {
		if b != 0 {
			p.Mul(p, big.NewInt(int64(b)))
		}
	}
	return p
}

// bigLinear is Linear with whole numbers.
func bigLinear(tuple Tuple, a [maxLimbs]uint64, bits uint8) uint64 {
	var limbs []uint64
	b := tuple.appendComponents(nil)
	if tuple.Mask.Proto { // the protocol is a separate limb
		limbs = append(limbs, uint64(b[len(b)-1]))
		b = b[:len(b)-1]
	}
	var all []uint64
	for i := 0; i < len(b); i += 2 {
		all = append(all, uint64(b[i])<<8|uint64(b[i+1]))
	}
	sum := new(big.Int)
	for i, limb := range append(all, limbs...) {
		sum.Add(sum, new(big.Int).Mul(new(big.Int).SetUint64(a[i]), new(big.Int).SetUint64(limb)))
	}
	sum.Mod(sum, big.NewInt(1<<31-1))
	return new(big.Int).Mod(sum, big.NewInt(1<<bits)).Uint64()
}

func TestHashesAgainstBigIntegers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMask(t)
		f := drawFlow(t, m.Family)
		end := End(rapid.IntRange(0, 1).Draw(t, "end"))
		tuple, ok := m.Tuple(&f, end)
		if !ok {
			t.Fatal("no tuple")
		}
		salt := OneShotSalt(m, "2026-11-22")
		bits := uint8(rapid.IntRange(1, MaxBits).Draw(t, "bits"))
		modulus := rapid.Uint64Range(2, 1<<63).Draw(t, "modulus")
		product := bigProduct(tuple)
		for _, c := range []struct {
			hash Hash
			want uint64
		}{
			{Hash{Kind: Product}, new(big.Int).And(product, new(big.Int).SetUint64(^uint64(0))).Uint64()},
			{Hash{Kind: ProductMod, Modulus: modulus}, new(big.Int).Mod(product, new(big.Int).SetUint64(modulus)).Uint64()},
			{Hash{Kind: Linear, Bits: bits}, bigLinear(tuple, Coefficients(salt), bits)},
		} {
			k, err := NewKeyer(m, end, c.hash, salt)
			if err != nil {
				t.Fatal(err)
			}
			if got := k.Tuple(tuple); uint64(got) != c.want {
				t.Fatalf("%v of %v is %d, want %d", c.hash, tuple, got, c.want)
			}
			if got, ok := k.Flow(&f); !ok || uint64(got) != c.want {
				t.Fatalf("%v of flow %v is %d (%v), want %d", c.hash, tuple, got, ok, c.want)
			}
		}
	})
}

func TestFewerBitsAreTheLowEndOfMore(t *testing.T) {
	m := Mask{Family: IPv4, Prefix: 32, DPort: true, Proto: true}
	salt := OneShotSalt(m, "2026-11-22")
	long, _ := NewKeyer(m, Out, Hash{Kind: Linear, Bits: 31}, salt)
	short, _ := NewKeyer(m, Out, Hash{Kind: Linear, Bits: 11}, salt)
	tuple := Tuple{Mask: m, Addr: netip.MustParseAddr("198.51.100.7"), DPort: 69, Proto: flow.UDP}
	if l, s := long.Tuple(tuple), short.Tuple(tuple); l&(1<<11-1) != s {
		t.Errorf("11-bit key %d is not the low end of %d", s, l)
	}
}

func TestSaltsDifferByEpochAndWithoutAddressByMask(t *testing.T) {
	m := Mask{Proto: true}
	if OneShotSalt(m, "a") == OneShotSalt(m, "b") || OneShotSalt(m, "a") == OneShotSalt(Mask{DPort: true}, "a") {
		t.Error("two epochs, or two masks without an address, share a salt")
	}
	host, service, host6 := Mask{Family: IPv4, Prefix: 32}, Mask{Family: IPv4, Prefix: 24, DPort: true}, Mask{Family: IPv6, Prefix: 128}
	if OneShotSalt(host, "a") != OneShotSalt(service, "a") || OneShotSalt(host, "a") == OneShotSalt(host6, "a") || OneShotSalt(host, "a") == OneShotSalt(m, "a") {
		t.Error("masks with an address of one family do not share their salt, or share it with others")
	}
}

func TestColumnsAgreeWithFlows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMask(t)
		m.Family, m.Prefix = IPv4, uint8(rapid.IntRange(1, 32).Draw(t, "prefix"))
		h := rapid.SampledFrom([]Hash{{Kind: Linear, Bits: 3}, {Kind: Product}, {Kind: ProductMod, Modulus: 7}}).Draw(t, "hash")
		k, err := NewKeyer(m, Out, h, OneShotSalt(m, "x"))
		if err != nil {
			t.Fatal(err)
		}
		var c TupleColumns
		var want []int32
		flows := make([]flow.Flow, 40)
		for i := range flows {
			f := drawFlow(t, IPv4)
			flows[i] = f
			a := f.Resp.As4()
			c.Addr4 = append(c.Addr4, uint32(a[0])<<24|uint32(a[1])<<16|uint32(a[2])<<8|uint32(a[3]))
			c.SPort, c.DPort, c.Proto = append(c.SPort, f.OrigPort), append(c.DPort, f.RespPort), append(c.Proto, uint8(f.Proto))
		}
		asked, _ := k.Flow(&flows[0])
		for i := range flows {
			if got, _ := k.Flow(&flows[i]); got == asked {
				want = append(want, int32(i))
			}
		}
		if h.Kind == Linear {
			for i, got := range k.AppendKeys(nil, c) {
				if want, _ := k.Flow(&flows[i]); K(got) != want {
					t.Fatalf("%v row %d: key %d, want %d", m, i, got, want)
				}
			}
		}
		got := k.AppendMatches(nil, c, asked)
		if len(got) != len(want) {
			t.Fatalf("%v %v: rows %v, want %v", m, h, got, want)
		}
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("%v %v: rows %v, want %v", m, h, got, want)
			}
		}
	})
}

func TestMaskText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMask(t)
		if got, err := ParseMask(m.String()); err != nil || got != m {
			t.Fatalf("%v read back as %v: %v", m, got, err)
		}
		if got, err := MaskFromCode(m.Code()); err != nil || got != m {
			t.Fatalf("%v decoded as %v: %v", m, got, err)
		}
	})
	for _, bad := range []string{"", "addr4/33", "addr5/1", "addr6/0", "port", "proto+proto", "addr4", "dport+"} {
		if m, err := ParseMask(bad); err == nil {
			t.Errorf("%q was read as %v", bad, m)
		}
	}
}

func TestParseHash(t *testing.T) {
	for in, want := range map[string]Hash{
		"linear": {Kind: Linear, Bits: 19}, "product": {Kind: Product},
		"product-mod": {Kind: ProductMod, Modulus: 524287}, "product-mod:1000": {Kind: ProductMod, Modulus: 1000},
	} {
		if got, err := ParseHash(in, 19); err != nil || got != want {
			t.Errorf("%s: %+v, %v", in, got, err)
		}
	}
	for _, bad := range []string{"", "sha256", "product-mod:1", "linear:5", "product-mod:x"} {
		if h, err := ParseHash(bad, 19); err == nil {
			t.Errorf("%q was read as %+v", bad, h)
		}
	}
	for _, bits := range []int{0, 32, -1, 1000} {
		if _, err := ParseHash("linear", bits); err == nil {
			t.Errorf("linear took %d bits", bits)
		}
	}
}

// TestProductCandidatesByTryingAll counts all (port, protocol) pairs.
func TestProductCandidatesByTryingAll(t *testing.T) {
	m := Mask{DPort: true, Proto: true}
	k, err := NewKeyer(m, In, Hash{Kind: Product}, Salt{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[K]float64{}
	for port := range 1 << 16 {
		for _, p := range plausibleProtos {
			count[k.Tuple(Tuple{Mask: m, DPort: uint16(port), Proto: flow.Proto(p)})]++
		}
	}
	tried := 0
	for asked, want := range count {
		if tried++; tried > 500 && testkit.Short(t) { // the race detector makes it slow
			break
		}
		if got := NewMeter(Hash{Kind: Product}).Candidates(Reader{}, m, asked); got != want {
			t.Fatalf("key %d: %g candidates, trying all gives %g", asked, got, want)
		}
	}
}

// TestNearReader follows the paper file's arithmetic: knowing the witness's own
// /16 leaves 2^16 addresses.
func TestNearReader(t *testing.T) {
	m := Mask{Family: IPv4, Prefix: 32, DPort: true, Proto: true}
	service := &Tuple{DPort: 1433, Proto: flow.TCP}
	r := Reader{Service: service, Near: netip.MustParsePrefix("131.114.0.0/16")}
	if got := r.Space(m); got != 1<<16 {
		t.Errorf("space %g, want 65536", got)
	}
	if got := NewMeter(Hash{Kind: Linear, Bits: 10}).Candidates(r, m, 0); got != 64 {
		t.Errorf("%g candidates, want 64", got)
	}
	wide := Reader{Service: service, Near: netip.MustParsePrefix("131.114.16.0/20")}
	if got := wide.Space(m); got != 1<<12 {
		t.Errorf("space of a /20: %g, want 4096", got)
	}
	if got := wide.Space(Mask{Family: IPv4, Prefix: 24}); got != 1<<4 {
		t.Errorf("/24s of a /20: %g, want 16", got)
	}
}

func TestDefaultBitsKeepTheFloor(t *testing.T) {
	host := Mask{Family: IPv4, Prefix: 32, DPort: true, Proto: true}
	port := Mask{DPort: true, Proto: true}
	if got := DefaultBits(100, host); got != 19 {
		t.Errorf("host and service: %d bits, want 19", got)
	}
	// A /24 leaves 2^24 - 2^21 addresses, whatever the service.
	if got := DefaultBits(100, Mask{Family: IPv4, Prefix: 24, DPort: true, Proto: true}); got != 17 {
		t.Errorf("a /24 and service: %d bits, want 17", got)
	}
	bits := DefaultBits(100, host, port)
	if c := NewMeter(Hash{Kind: Linear, Bits: uint8(bits)}).Candidates(Reader{}, port, 0); c < 100 || c >= 200 {
		t.Errorf("%d bits leave %g candidates, want 100 to 200", bits, c)
	}
}

func TestCatalogueIsConsistent(t *testing.T) {
	seen := map[uint16]bool{0: true}
	for _, s := range Catalogue() {
		if seen[s.ID] {
			t.Errorf("%s: number %d is taken", s.Name, s.ID)
		}
		seen[s.ID] = true
		if err := s.Mask.Validate(); err != nil {
			t.Errorf("%s: %v", s.Name, err)
		}
		if StandardID(s.End, s.Mask) != s.ID {
			t.Errorf("%s is not found by its mask", s.Name)
		}
	}
}

// benchColumns is a column store of a busy border: 4 Mi rows.
func benchColumns() TupleColumns {
	rng := rand.New(rand.NewPCG(1, 2))
	var c TupleColumns
	for range 4 << 20 {
		c.Addr4 = append(c.Addr4, rng.Uint32())
		c.DPort = append(c.DPort, uint16(rng.Uint32()))
		c.Proto = append(c.Proto, plausibleProtos[rng.IntN(3)])
	}
	return c
}

// BenchmarkColumns gives rows/s of each hash over columns in memory, beside a
// plain comparison of the same columns, which is the memory's own speed.
func BenchmarkColumns(b *testing.B) {
	c := benchColumns()
	m := Mask{Family: IPv4, Prefix: 32, DPort: true, Proto: true}
	rows := func(b *testing.B) {
		b.ReportMetric(float64(b.N)*float64(len(c.Addr4))/b.Elapsed().Seconds()/1e6, "Mrows/s")
	}
	for _, h := range []Hash{{Kind: Linear, Bits: 19}, {Kind: Product}, {Kind: ProductMod, Modulus: 524287}} {
		b.Run(h.Kind.String(), func(b *testing.B) {
			k, err := NewKeyer(m, Out, h, OneShotSalt(m, "x"))
			if err != nil {
				b.Fatal(err)
			}
			var out []int32
			for b.Loop() {
				out = k.AppendMatches(out[:0], c, 12345)
			}
			rows(b)
		})
	}
	b.Run("compare", func(b *testing.B) {
		var out []int32
		for b.Loop() {
			out = out[:0]
			for i, a := range c.Addr4 {
				if a == 12345 && c.DPort[i] == 69 && c.Proto[i] == 17 {
					out = append(out, int32(i))
				}
			}
		}
		rows(b)
	})
}

// BenchmarkFlows is the same over flow records, as a witness on files hashes.
func BenchmarkFlows(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	flows := make([]flow.Flow, 1<<14)
	for i := range flows {
		flows[i] = flow.Flow{Resp: netip.AddrFrom4([4]byte{byte(rng.Uint32()), 2, 3, byte(i)}), RespPort: uint16(i), Proto: flow.TCP}
	}
	m := Mask{Family: IPv4, Prefix: 32, DPort: true, Proto: true}
	for _, h := range []Hash{{Kind: Linear, Bits: 19}, {Kind: Product}} {
		b.Run(h.Kind.String(), func(b *testing.B) {
			k, err := NewKeyer(m, Out, h, OneShotSalt(m, "x"))
			if err != nil {
				b.Fatal(err)
			}
			var sum K
			for b.Loop() {
				for i := range flows {
					v, _ := k.Flow(&flows[i])
					sum += v
				}
			}
			b.ReportMetric(float64(b.N)*float64(len(flows))/b.Elapsed().Seconds()/1e6, "Mflows/s")
			_ = sum
		})
	}
}
