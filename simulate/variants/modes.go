package variants

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
)

// Mode is a way in which the variants of a worm differ from each other, beside the
// recipe of the paper: in the instructions of a decoder, in an encoding of text, or
// in what else the samples hold. Like all of this package, what it makes is inert.
type Mode struct {
	Name string
	// HeldOut marks the modes that no learner was tuned on, so that they tell what to
	// expect of worms that are not known yet. They are looked at when all is done.
	HeldOut bool
	// worm makes the bytes that variant rng of the worm has; constants come from
	// fixed, which is the same for each variant.
	worm func(fixed, rng *rand.Rand) []byte
	// sample, if set, makes a training sample instead.
	sample func(m *Mode, seed uint64, rng *rand.Rand, i int, carry Carrier) []byte
	// worms is how many worms the samples hold; 0 means one.
	worms int
}

// Modes lists the modes, those to tune on first.
func Modes() []Mode {
	return []Mode{
		{Name: "junk0", worm: junkWorm(0)},
		{Name: "junk15", worm: junkWorm(0.15)},
		{Name: "junk40", worm: junkWorm(0.4)},
		{Name: "registers", worm: registerWorm},
		{Name: "percent-path", worm: percentWorm(true)},
		{Name: "base64", worm: base64Worm},
		{Name: "overlong", worm: overlongWorm},
		{Name: "decoders6", worm: decoderWorm(6)},
		{Name: "decoy", worm: registerWorm, sample: sampleWithDecoy(1)},
		{Name: "decoy-most", worm: junkWorm(0), sample: sampleWithDecoy(0.7)},
		{Name: "decoy-some", worm: percentWorm(false), sample: sampleWithDecoy(0.4)},
		{Name: "noise50", worm: junkWorm(0.15), sample: sampleWithNoise(0.5)},
		{Name: "noise60", worm: base64Worm, sample: sampleWithNoise(0.4)},

		{Name: "junk25", HeldOut: true, worm: junkWorm(0.25)},
		{Name: "percent-free", HeldOut: true, worm: percentWorm(false)},
		{Name: "decoders3", HeldOut: true, worm: decoderWorm(3)},
		{Name: "hexadecimal", HeldOut: true, worm: hexWorm},
		{Name: "query", HeldOut: true, worm: queryWorm},
		{Name: "decoy-half", HeldOut: true, worm: registerWorm, sample: sampleWithDecoy(0.5)},
		{Name: "decoy-third", HeldOut: true, worm: junkWorm(0.25), sample: sampleWithDecoy(0.3)},
		{Name: "noise70", HeldOut: true, worm: registerWorm, sample: sampleWithNoise(0.3)},
		{Name: "noise70-hexadecimal", HeldOut: true, worm: hexWorm, sample: sampleWithNoise(0.3)},
		{Name: "two-worms", HeldOut: true, worm: registerWorm, worms: 2},
	}
}

// Worms is how many worms the samples of the mode hold.
func (m *Mode) Worms() int { return max(1, m.worms) }

// other is the seed of worm number k.
func other(seed uint64, k int) uint64 { return seed + uint64(k)*7919 }

// Samples are n samples to learn from; a mode of two worms takes turns.
func (m *Mode) Samples(seed uint64, n int, carry Carrier) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		if m.sample != nil {
			all[i] = m.sample(m, seed, rng, i, carry)
			continue
		}
		all[i] = m.embed(other(seed, i%m.Worms()), rng, carry)
	}
	return all
}

// Unseen are n variants of worm k that are not among the samples.
func (m *Mode) Unseen(seed uint64, k, n int, carry Carrier) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = m.embed(other(seed, k), rand.New(rand.NewPCG(seed, 1<<40+uint64(k)<<32+uint64(i))), carry)
	}
	return all
}

// embed puts a variant into 500 to 4000 bytes of a carrier.
func (m *Mode) embed(seed uint64, rng *rand.Rand, carry Carrier) []byte {
	worm := m.worm(rand.New(rand.NewPCG(seed, 0x776f726d)), rng)
	return insertInto(carry(rng, 500+rng.IntN(3500)), worm, rng)
}

func insertInto(carrier, b []byte, rng *rand.Rand) []byte {
	return slices.Insert(carrier, rng.IntN(len(carrier)+1), b...)
}

// sampleWithDecoy gives samples a string of 80 constant bytes, and the worm to a
// share of them.
func sampleWithDecoy(worms float64) func(*Mode, uint64, *rand.Rand, int, Carrier) []byte {
	return func(m *Mode, seed uint64, rng *rand.Rand, i int, carry Carrier) []byte {
		decoy := randomBytes(rand.New(rand.NewPCG(seed, 0x6465636f79)), 80)
		b := insertInto(carry(rng, 500+rng.IntN(3500)), decoy, rng)
		if float64(i%10) < worms*10 {
			b = append(b, m.embed(seed, rng, carry)...)
		}
		return b
	}
}

// sampleWithNoise gives the worm to a share of the samples; the others are carriers.
func sampleWithNoise(worms float64) func(*Mode, uint64, *rand.Rand, int, Carrier) []byte {
	return func(m *Mode, seed uint64, rng *rand.Rand, i int, carry Carrier) []byte {
		if float64(i%10) < worms*10 {
			return m.embed(seed, rng, carry)
		}
		return carry(rng, 500+rng.IntN(3500))
	}
}

// keyed is a body of which no two variants have a byte in common but by chance.
func keyed(rng *rand.Rand) []byte { return randomBytes(rng, 120+rng.IntN(200)) }

// junkWorm is a run of 14 pieces of two to five bytes, one of each being one of a few
// (a register), with junk between them, behind a slide of seven letters.
func junkWorm(junk float64) func(fixed, rng *rand.Rand) []byte {
	return func(fixed, rng *rand.Rand) []byte {
		const letters = "ABCFGHI"
		var b []byte
		for range 16 + rng.IntN(17) {
			b = append(b, letters[rng.IntN(len(letters))])
		}
		for range 14 {
			piece := randomBytes(fixed, 2+fixed.IntN(4))
			piece[fixed.IntN(len(piece))] ^= byte(rng.IntN(8))
			b = append(b, piece...)
			for rng.Float64() < junk {
				b = append(b, letters[rng.IntN(len(letters))])
			}
		}
		return append(b, keyed(rng)...)
	}
}

// registerWorm has 48 bytes of which a third is constant, and each of the others one
// of two to five bytes: by the registers of the variant, or by its own choice.
func registerWorm(fixed, rng *rand.Rand) []byte {
	registers := rng.Perm(8)
	b := make([]byte, 48)
	for i := range b {
		base, kind, place := byte(fixed.Uint32()), fixed.Float64(), fixed.IntN(4)
		choices := randomBytes(fixed, 2+fixed.IntN(4))
		switch {
		case kind < 0.35:
			b[i] = base
		case kind < 0.7:
			b[i] = base&^7 | byte(registers[place])
		default:
			b[i] = choices[rng.IntN(len(choices))]
		}
	}
	return append(b, keyed(rng)...)
}

// word is a random word of n lower-case letters.
func word(rng *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = 'a' + byte(rng.IntN(26))
	}
	return string(b)
}

// percentWorm is a request with a register worm in percent encoding, under a constant
// path of 35 bytes or under a random one.
func percentWorm(constant bool) func(fixed, rng *rand.Rand) []byte {
	return func(fixed, rng *rand.Rand) []byte {
		path := "/" + word(fixed, 14) + "/" + word(fixed, 15) + ".cgi"
		if !constant {
			path = "/" + word(rng, 3+rng.IntN(12)) + ".cgi"
		}
		var b strings.Builder
		fmt.Fprintf(&b, "GET %s?%s=", path, word(rng, 1+rng.IntN(3)))
		for _, x := range registerWorm(fixed, rng) {
			fmt.Fprintf(&b, "%%%02x", x)
		}
		fmt.Fprintf(&b, " HTTP/1.1\r\nHost: %s.example\r\n\r\n", word(rng, 8))
		return []byte(b.String())
	}
}

// base64Worm is a form whose field holds a register worm in base64, at any of the
// three alignments.
func base64Worm(fixed, rng *rand.Rand) []byte {
	path, field := word(fixed, 9), word(fixed, 12)
	body := field + "=" + base64.StdEncoding.EncodeToString(append(randomBytes(rng, rng.IntN(9)), registerWorm(fixed, rng)...))
	return fmt.Appendf(nil, "POST /%s.cgi HTTP/1.1\r\nHost: %s.example\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s", path, word(rng, 8), len(body), body)
}

// hexWorm is a document whose value holds a register worm in hexadecimal digits.
func hexWorm(fixed, rng *rand.Rand) []byte {
	name := word(fixed, 10)
	return fmt.Appendf(nil, `{"id":%d,"%s":"%s","%s":true}`, rng.IntN(1e6), name, hex.EncodeToString(registerWorm(fixed, rng)), word(rng, 6))
}

// overlongWorm is a request with a long run of a letter and words in %u encoding,
// some of which vary.
func overlongWorm(fixed, rng *rand.Rand) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "GET /%s.%s?%s", word(fixed, 7), word(fixed, 3), strings.Repeat(string("NX"[rng.IntN(2)]), 200+rng.IntN(40)))
	for range 20 {
		v, vary := uint16(fixed.Uint32()), fixed.IntN(4) == 0
		if vary {
			v = uint16(rng.Uint32())
		}
		fmt.Fprintf(&b, "%%u%04x", v)
	}
	b.WriteString("=a HTTP/1.0\r\n\r\n")
	return append([]byte(b.String()), keyed(rng)...)
}

// queryWorm is a request whose words are in any case, with comments between them.
func queryWorm(fixed, rng *rand.Rand) []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "GET /%s.php?%s=%d'", word(rng, 6), word(rng, 2), rng.IntN(1e4))
	for range 8 {
		w := []byte(word(fixed, 4+fixed.IntN(5)))
		for i := range w {
			if rng.IntN(2) == 0 {
				w[i] -= 'a' - 'A'
			}
		}
		fmt.Fprintf(&b, "/*%s*/%s", word(rng, rng.IntN(4)), w)
	}
	fmt.Fprintf(&b, "--%%20 HTTP/1.1\r\nHost: %s.example\r\n\r\n", word(rng, 8))
	return []byte(b.String())
}

// decoderWorm has one of n decoders of 40 constant bytes.
func decoderWorm(n int) func(fixed, rng *rand.Rand) []byte {
	return func(fixed, rng *rand.Rand) []byte {
		all := make([][]byte, n)
		for i := range all {
			all[i] = randomBytes(fixed, 40)
		}
		return append(all[rng.IntN(n)], keyed(rng)...)
	}
}

// Deal deals the sequences of captures into three by the SHA-256 of their bytes: what
// learners get as clean traffic and samples as carriers, what carries unseen variants,
// and what is looked at for reports only.
func Deal(sequences [][]byte) (thirds [3][][]byte) {
	for _, s := range sequences {
		i := sha256.Sum256(s)[0] % 3
		thirds[i] = append(thirds[i], s)
	}
	return thirds
}
