package variants

import (
	"math/rand/v2"
	"slices"
)

// Recipe is how a variant differs from its template and from other variants.
type Recipe struct {
	// Substitution is the share of malicious bytes replaced by random ones.
	Substitution float64
	// Garbage is how many bytes are inserted per malicious byte (1/9 in the
	// paper), in pieces of GarbagePiece bytes on average.
	Garbage      float64
	GarbagePiece int
	// Transpose shuffles the parts after the stub; Drop leaves each out with
	// that probability; MoveEntry puts the stub between two of them.
	Transpose bool
	Drop      float64
	MoveEntry bool
	// CarrierMin and CarrierMax bound the benign bytes around the worm.
	CarrierMin, CarrierMax int
	// Carrier makes the benign bytes; nil means Session.
	Carrier Carrier
	// Decoy, if set, is put into the carrier of every variant, each byte
	// replaced with probability Substitution: a training set's misleading
	// common segment.
	Decoy []byte
}

// Carrier makes n bytes of benign traffic.
type Carrier func(rng *rand.Rand, n int) []byte

// Published is the recipe of section 3.7: 10 % substituted, garbage 1:9,
// 2 to 20 KB of a normal session.
func Published() Recipe {
	return Recipe{Substitution: 0.1, Garbage: 1.0 / 9, GarbagePiece: 12, CarrierMin: 2 << 10, CarrierMax: 20 << 10}
}

// Variant is one generated string with its ground truth.
type Variant struct {
	Bytes []byte
	// Offset and Length bound the worm (with its garbage) within Bytes; a
	// misleading sample has Length 0.
	Offset, Length int
}

// Make is variant number i of t under r: a pure function of its arguments.
func (r Recipe) Make(t *Template, seed, i uint64) Variant {
	rng := rand.New(rand.NewPCG(seed, i))
	worm := r.insertGarbage(rng, r.substituteBytes(rng, r.assembleParts(rng, t)))
	return r.embedInCarrier(rng, worm)
}

// MakeAll is variants from to from+n-1.
func (r Recipe) MakeAll(t *Template, seed, from uint64, n int) [][]byte {
	all := make([][]byte, n)
	for i := range all {
		all[i] = r.Make(t, seed, from+uint64(i)).Bytes
	}
	return all
}

// Mislead is a sample without a worm: a carrier, with the decoy if set.
func (r Recipe) Mislead(seed, i uint64) []byte {
	rng := rand.New(rand.NewPCG(seed, ^i))
	return r.embedInCarrier(rng, nil).Bytes
}

func (r Recipe) assembleParts(rng *rand.Rand, t *Template) []byte {
	var parts [][]byte
	key := byte(1 + rng.IntN(255))
	for _, p := range t.Blocks {
		b := slices.Clone(p.Bytes)
		for i := range b { // in order, so that the draws do not depend on map order
			if c := p.Choice[i]; len(c) > 0 {
				b[i] = c[rng.IntN(len(c))]
			}
			if p.Keyed {
				b[i] ^= key
				key = key*5 + 17 // the key changes along the run, or a period would remain
			}
		}
		if rng.Float64() >= r.Drop || len(t.Blocks) == 1 {
			parts = append(parts, b)
		}
	}
	if r.Transpose {
		rng.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	}
	if len(t.Stubs) > 0 {
		at := 0
		if r.MoveEntry {
			at = rng.IntN(len(parts) + 1)
		}
		parts = slices.Insert(parts, at, slices.Clone(t.Stubs[rng.IntN(len(t.Stubs))]))
	}
	return slices.Concat(parts...)
}

func (r Recipe) substituteBytes(rng *rand.Rand, b []byte) []byte {
	for i := range b {
		if rng.Float64() < r.Substitution {
			b[i] = byte(rng.Uint32())
		}
	}
	return b
}

func (r Recipe) insertGarbage(rng *rand.Rand, worm []byte) []byte {
	left := int(r.Garbage*float64(len(worm)) + 0.5)
	for left > 0 {
		n := min(left, 1+rng.IntN(max(1, 2*r.GarbagePiece-1)))
		worm = slices.Insert(worm, rng.IntN(len(worm)+1), randomBytes(rng, n)...)
		left -= n
	}
	return worm
}

func (r Recipe) embedInCarrier(rng *rand.Rand, worm []byte) Variant {
	n := r.CarrierMin
	if r.CarrierMax > n {
		n += rng.IntN(r.CarrierMax - n + 1)
	}
	carry := r.Carrier
	if carry == nil {
		carry = Session
	}
	carrier := carry(rng, n)
	if len(r.Decoy) > 0 {
		at := rng.IntN(len(carrier) + 1)
		carrier = slices.Insert(carrier, at, r.substituteBytes(rng, slices.Clone(r.Decoy))...)
	}
	at := rng.IntN(len(carrier) + 1)
	return Variant{Bytes: slices.Insert(carrier, at, worm...), Offset: at, Length: len(worm)}
}
