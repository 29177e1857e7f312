package signature

import (
	"math"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/match"
	"dragnet/signature/tokens"
)

// Bounds of chains. A chain is a string whose bytes all samples have in this order, with
// junk between them: mostJunk bytes at one place at most. chainMargin is how many bytes
// around a match are compared, and chainSurprise what a chain has, in nats, beyond what
// a string needs.
const (
	mostJunk      = 48
	chainMargin   = 48
	chainSurprise = 15
)

// regionsOf are, by part, the bytes of samples around where s matches them.
func regionsOf(s *dossier.Signature, samples [][]byte) map[int][][]byte {
	m, err := match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()})
	if err != nil {
		return nil
	}
	regions := map[int][][]byte{}
	for _, b := range samples {
		for i, p := range m.Match(b)[0].Parts {
			if p.Reached {
				regions[i] = append(regions[i], b[max(0, int(p.At)-chainMargin):min(len(b), int(p.At)+s.Parts[i].Width()+chainMargin)])
			}
		}
	}
	return regions
}

// chainOf finds the bytes that all samples have in the same order around where s matches
// them, with what may lie between; nil if they are too few to tell the worm by, or clean
// traffic has them.
func (l *learner) chainOf(s *dossier.Signature, samples [][]byte) *dossier.Alternatives {
	regions := regionsOf(s, samples)
	best := 0
	for i := range s.Parts {
		if len(regions[i]) > len(regions[best]) {
			best = i
		}
	}
	out := &dossier.Alternatives{Name: s.Name}
	for i := range s.Parts {
		// What carriers happen to share would make a chain of a few samples.
		if len(regions[i]) < fewSamples || 5*len(regions[i]) < len(regions[best]) {
			continue
		}
		out.Contents = append(out.Contents, l.chainContents(alignAll(regions[i]))...)
	}
	if len(out.Contents) == 0 {
		return nil
	}
	return out
}

// link is a byte of a chain, and how many other bytes were seen before it.
type link struct {
	x           byte
	least, most int
}

// alignAll aligns regions one after the other, and keeps the bytes that all have; a
// region in which less than half of the others' bytes are is left out.
func alignAll(regions [][]byte) []link {
	chain := regions[0]
	for _, r := range regions[1:] {
		var next []byte
		for k, at := range alignTo(chain, r) {
			if at >= 0 {
				next = append(next, chain[k])
			}
		}
		if 2*len(next) >= len(chain) || len(chain) > len(regions[0])/2 {
			chain = next
		}
	}
	links := make([]link, len(chain))
	for k, x := range chain {
		links[k] = link{x, math.MaxInt, 0}
	}
	for _, r := range regions {
		at := alignTo(chain, r)
		for k := 1; k < len(at); k++ {
			if at[k] >= 0 && at[k-1] >= 0 {
				gap := at[k] - at[k-1] - 1
				links[k].least, links[k].most = min(links[k].least, gap), max(links[k].most, gap)
			}
		}
	}
	return links
}

// alignTo is where the bytes of chain are in r, in order, -1 for one that is not: as many
// as possible, and those side by side that are so in both.
func alignTo(chain, r []byte) []int {
	n, m := len(chain), len(r)
	const same, beside = 2, 3
	// best[i][j] is of chain[i:] and r[j:]; diagonal, of those that begin with a match of
	// chain[i] and r[j].
	best, diagonal := make([][]int, n+1), make([][]int, n+1)
	for i := range best {
		best[i], diagonal[i] = make([]int, m+1), make([]int, m+1)
	}
	for i := n - 1; i >= 0; i-- {
		for j := m - 1; j >= 0; j-- {
			best[i][j] = max(best[i+1][j], best[i][j+1])
			if chain[i] == r[j] {
				diagonal[i][j] = same + best[i+1][j+1]
				if i+1 < n && j+1 < m && chain[i+1] == r[j+1] {
					diagonal[i][j] = max(diagonal[i][j], same+beside+diagonal[i+1][j+1])
				}
				best[i][j] = max(best[i][j], diagonal[i][j])
			}
		}
	}
	at := make([]int, n)
	for i := range at {
		at[i] = -1
	}
	for i, j, tied := 0, 0, false; i < n && j < m; {
		switch {
		case tied || chain[i] == r[j] && diagonal[i][j] == best[i][j]:
			at[i] = j
			tied = i+1 < n && j+1 < m && chain[i+1] == r[j+1] && diagonal[i][j] == same+beside+diagonal[i+1][j+1]
			i, j = i+1, j+1
		case best[i+1][j] == best[i][j]:
			i++
		default:
			j++
		}
	}
	return at
}

// mostChains bounds the stretches of one chain. A variant with more junk than was seen, or
// another byte, within one of them has the others.
const mostChains = 4

// chainContents makes contents of stretches of a chain that have no byte in common, those
// with the least junk first.
func (l *learner) chainContents(links []link) (all []dossier.Content) {
	used := make([]bool, len(links))
	for range 3 * mostChains {
		from, to := l.pickStretch(links, used)
		if to == 0 || len(all) == mostChains {
			break
		}
		for k := from; k < to; k++ {
			used[k] = true
		}
		c := l.contentOf(links[from:to])
		f := tokens.NewFinder(c)
		if !slices.ContainsFunc(l.quiet(), f.In) {
			all = append(all, c)
		}
	}
	return all
}

// pickStretch is the stretch of a chain, of bytes that are not used, that is surprising
// enough with the least junk; to is 0 if there is none.
func (l *learner) pickStretch(links []link, used []bool) (from, to int) {
	need := math.Log(1e9/l.o.FalseAlarms) + chainSurprise
	least := math.Inf(1)
	for a := range links {
		// Programs that look for stretches one after the other give up if the first is
		// too common.
		if a+2 >= len(links) || links[a+1].most > 0 || used[a] {
			continue
		}
		sum, junk := 0.0, 0.0
		for b := a; b < len(links); b++ {
			if b > a {
				if links[b].most > mostJunk || used[b] {
					break
				}
				slack := float64(slackOf(links[b]))
				sum, junk = sum-math.Log1p(slack), junk+slack
			}
			sum += min(-math.Log(l.clean.Background[links[b].x]), math.Log(256))
			// Other things being equal, shorter ones are found more often.
			if cost := junk + 0.1*float64(b-a); sum >= need && cost < least {
				from, to, least = a, b+1, cost
			}
		}
	}
	return from, to
}

// contentOf is the content of a stretch.
func (l *learner) contentOf(links []link) (c dossier.Content) {
	surprise := 0.0
	for k, x := range links {
		if k > 0 {
			for range x.least {
				c.Bytes, c.Fixed = append(c.Bytes, 0), append(c.Fixed, false)
			}
			if slack := slackOf(x); slack > 0 {
				c.Joints = append(c.Joints, dossier.Joint{At: len(c.Bytes), Most: slack})
				surprise -= math.Log1p(float64(slack))
			}
		}
		c.Bytes, c.Fixed = append(c.Bytes, x.x), append(c.Fixed, true)
		surprise += min(-math.Log(l.clean.Background[x.x]), math.Log(256))
	}
	c.FalseAlarms = 1e9 * math.Exp(-surprise)
	return c
}

// slackOf is how many bytes more than the least may lie before a byte of a chain: what
// was seen, and as much again, as others may have more.
func slackOf(k link) int {
	if k.most <= k.least {
		return 0
	}
	return 2*(k.most-k.least) + 3
}
