package detective

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"

	"dragnet/dossier/pattern"
	"dragnet/flow"
)

// Decoy is a pattern that asks like p, about traffic that never happened: each
// address is replaced by a random one, ports and protocols stay. Witnesses
// cannot tell it from p, since they see keys of the same masks; whatever opens
// was invented. By chance alone, one address in 2^32 is as good as never seen.
func Decoy(p *pattern.Pattern, random *rand.Rand) (*pattern.Pattern, error) {
	out := &pattern.Pattern{Clues: slices.Clone(p.Clues), Root: p.Root}
	for i := range out.Clues {
		c := &out.Clues[i]
		if len(c.Other) == 0 {
			return nil, errors.New("a decoy needs an address in every clue: ports alone are seen everywhere")
		}
		c.Other, c.Text = slices.Clone(c.Other), "decoy"
		for j, old := range c.Other {
			c.Other[j] = randomPrefix(old, random)
		}
	}
	return out, nil
}

// randomPrefix is a random prefix like p, of addresses that could be anybody's.
func randomPrefix(p netip.Prefix, random *rand.Rand) netip.Prefix {
	for {
		b := p.Addr().AsSlice()
		for i := range b {
			b[i] = byte(random.Uint32())
		}
		if p.Addr().Is6() {
			b[0] = 0x20 | b[0]&0x1f // global unicast is 2000::/3 (RFC 4291, section 2.4; IANA)
		}
		a, _ := netip.AddrFromSlice(b)
		made := netip.PrefixFrom(a, p.Bits()).Masked()
		if flow.Global(a) && made != p.Masked() && (a.Is6() || b[0] < 224) {
			return made
		}
	}
}

// Bounds of what an honest witness returns: sprayFactor times what its flows
// would give if the hash spread them evenly, and sprayRest on top of that for
// small logs.
const (
	sprayFactor = 8
	sprayRest   = 64
)

// Sprays reports whether a witness returned far more answers than the number of
// flows it claims can explain: one that has not seen the traffic and wants to
// be opened all the same must answer under every tuple that fits the keys.
func (q *Inquiry) Sprays(h *TestimonySummary) bool {
	expected := 0.0
	for _, clues := range q.askedClues() {
		// A join gives no more than its rarest clue; each flow falls into one
		// of the keys asked with their share of all keys.
		least := float64(h.Flows)
		for _, i := range clues {
			share := float64(len(q.clues[i].tuples)) / countKeys(&q.config)
			least = min(least, float64(h.Flows)*min(1, share))
		}
		expected += least
	}
	return float64(h.Answers) > sprayFactor*expected+sprayRest
}

// countKeys is how many values a key may have.
func countKeys(c *Configuration) float64 {
	if c.Hash.Bits == 0 {
		return 1 // a product's keys are not evenly spread: expect anything
	}
	return float64(uint64(1) << c.Hash.Bits)
}
