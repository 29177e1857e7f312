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
// was invented. A random address among 2^32 is hardly ever one that a witness saw.
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
