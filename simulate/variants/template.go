// Package variants makes inert byte strings that vary like the variants of a
// polymorphic worm, to learn signatures from and to test them with (Tang 2006,
// sections 3.2 and 3.7).
//
// Every byte comes from a pseudo-random generator or from benign traffic the
// caller passes in. Nothing here encodes a program, addresses a service or is
// taken from malware. No marker is placed in the bytes, because a marker would
// be learnt as the signature: the ground truth is returned separately.
package variants

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
)

// Template is the plan of a family: what its variants share.
type Template struct {
	Name string
	// Stubs are alternative openings, one of which each variant carries (where
	// the published worms have their decoder).
	Stubs [][]byte
	// Blocks follow the stub, in order unless the recipe moves them.
	Blocks []Part
}

// Part is a run of template bytes. If Choice[i] is not empty, the variant draws
// one of its bytes instead, as register reassignment changes some bits of an
// instruction; if Keyed is set, the whole run is combined with a key that
// differs in every variant, so that none of it is constant.
type Part struct {
	Bytes  []byte
	Choice map[int][]byte
	Keyed  bool
}

// Plan sizes a template.
type Plan struct {
	// Malicious is the number of bytes of all parts.
	Malicious int
	// Stubs is the number of alternative openings (at least one), of StubLen
	// bytes each; 0 means no openings.
	Stubs, StubLen int
	// Keyed is the share of the bytes after the stub that are keyed.
	Keyed float64
	// Choice is the share of the constant bytes that vary within a small class.
	Choice float64
	// Blocks is the number of parts after the stub.
	Blocks int
}

// Families are the four synthetic templates of the reproductions, in the roles
// of the four worms of section 3.7 (Blaster, Sasser, Sapphire, PUD).
var families = []struct {
	name string
	plan Plan
}{
	{"alder", Plan{Malicious: 1400, Blocks: 6, Choice: 0.06}},
	{"birch", Plan{Malicious: 1900, Blocks: 8, Stubs: 1, StubLen: 200, Keyed: 0.3, Choice: 0.1}},
	{"cedar", Plan{Malicious: 376, Blocks: 2, Choice: 0.04}},
	{"dogwood", Plan{Malicious: 900, Blocks: 4, Stubs: 1, StubLen: 220, Keyed: 0.4, Choice: 0.08}},
}

// Names lists the built-in families.
func Names() []string {
	var names []string
	for _, f := range families {
		names = append(names, f.name)
	}
	return names
}

// Family is the built-in template of that name; other seeds give other worms of
// the same structure.
func Family(name string, seed uint64) (*Template, error) {
	i := slices.IndexFunc(families, func(f struct {
		name string
		plan Plan
	}) bool {
		return f.name == name
	})
	if i < 0 {
		return nil, fmt.Errorf("unknown family %q; want one of %v", name, Names())
	}
	return NewTemplate(name, families[i].plan, seed), nil
}

// NewTemplate draws a template: the same name, plan and seed give the same.
func NewTemplate(name string, plan Plan, seed uint64) *Template {
	h := fnv.New64a()
	h.Write([]byte(name))
	rng := rand.New(rand.NewPCG(seed, h.Sum64()))
	t := &Template{Name: name}
	for range plan.Stubs {
		t.Stubs = append(t.Stubs, randomBytes(rng, plan.StubLen))
	}
	rest := plan.Malicious
	if plan.Stubs > 0 {
		rest = max(0, rest-plan.StubLen)
	}
	blocks := max(1, plan.Blocks)
	for i := range blocks {
		n := rest*(i+1)/blocks - rest*i/blocks
		p := Part{Bytes: randomBytes(rng, n), Choice: map[int][]byte{}}
		// The last blocks are the keyed ones: the constant opening precedes them.
		p.Keyed = float64(blocks-i) <= plan.Keyed*float64(blocks)+1e-9
		for at := range n {
			if !p.Keyed && rng.Float64() < plan.Choice {
				// Two to four values that differ in three bits, as a register
				// field does.
				for range 2 + rng.IntN(3) {
					p.Choice[at] = append(p.Choice[at], p.Bytes[at]&^7|byte(rng.IntN(8)))
				}
			}
		}
		t.Blocks = append(t.Blocks, p)
	}
	return t
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}
