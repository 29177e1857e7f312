package family

import (
	"context"
	"fmt"
	"math"
	"slices"

	"dragnet/dossier"
	"dragnet/signature/match"
)

// Model is the result of chapter 4: the blocks of all samples together, the
// families their features fall into, and a signature of each.
type Model struct {
	Components []Component
	Families   [][]int // samples of each, the largest first
	Outliers   []int
	Signatures []*dossier.Signature
}

// Learn builds a Model. Every fifth member of a family is held out of its mean
// and covariance and decides the distance. Families of fewer than least
// samples, or without a block not shared with others, are outliers.
func Learn(ctx context.Context, name string, samples [][]byte, bg *dossier.Background, o MixtureOptions, least int, seed uint64) (*Model, error) {
	found, err := Mixture(ctx, samples, bg, o)
	if err != nil {
		return nil, err
	}
	h := Features(found, samples, bg)
	m := &Model{Components: found}
	groups := mergeGaussians(h, Gaussians(h, most, seed), most)
	for _, members := range groups {
		parts := presentIn(h, members, len(found))
		if len(members) < max(least, 2) || len(parts) == 0 {
			m.Outliers = append(m.Outliers, members...)
			continue
		}
		m.Families = append(m.Families, members)
	}
	slices.SortStableFunc(m.Families, func(a, b []int) int { return len(b) - len(a) })
	slices.Sort(m.Outliers)
	own := m.ownBlocks(h)
	for n, members := range m.Families {
		m.Signatures = append(m.Signatures, m.makeSignature(fmt.Sprintf("%s-%d", name, n+1), h, members, own[n], seed, bg))
	}
	return m, nil
}

// presentIn lists the blocks that occur in at least half of the members.
func presentIn(h [][]float64, members []int, blocks int) []int {
	var present []int
	for j := range blocks {
		n := 0
		for _, i := range members {
			if h[i][j] > 1 {
				n++
			}
		}
		if 2*n >= len(members) && n > 0 {
			present = append(present, j)
		}
	}
	return present
}

// ownBlocks lists the blocks of each family without those that several families
// hold, as long as any is left: a block shared by families may be a decoy
// planted to mislead.
func (m *Model) ownBlocks(h [][]float64) [][]int {
	present := make([][]int, len(m.Families))
	holders := make([]int, len(m.Components))
	for f, members := range m.Families {
		present[f] = presentIn(h, members, len(m.Components))
		for _, j := range present[f] {
			holders[j]++
		}
	}
	for f, all := range present {
		own := slices.DeleteFunc(slices.Clone(all), func(j int) bool { return holders[j] > 1 })
		if len(own) > 0 {
			present[f] = own
		}
	}
	return present
}

func (m *Model) makeSignature(name string, h [][]float64, members, parts []int, seed uint64, bg *dossier.Background) *dossier.Signature {
	s := &dossier.Signature{Name: name, Background: *bg, Learning: dossier.Learning{Method: "mixture", Samples: len(members), Seed: seed}}
	var training, heldOut [][]float64
	for k, i := range members {
		v := make([]float64, len(parts))
		for p, j := range parts {
			v[p] = h[i][j]
		}
		if k%5 == 4 {
			heldOut = append(heldOut, v)
		} else {
			training = append(training, v)
		}
	}
	s.Family = Describe(training, heldOut)
	for _, j := range parts {
		s.Family.Prior = append(s.Family.Prior, m.Components[j].Prior)
		part := dossier.Part{Blocks: []dossier.Block{m.Components[j].Block}}
		model := match.NewModel(&part, bg)
		part.Threshold = model.Threshold(falseAlarms)
		part.FalseAlarms = model.FalseAlarms(part.Threshold)
		s.Parts = append(s.Parts, part)
	}
	s.Quorum = 1
	return s
}

// falseAlarms is what each part may give per 10^9 bytes.
const falseAlarms = 1e-3

// most is how many Gaussians are tried.
const most = 12

// sameBlocks is the cosine of two mean feature vectors from which they count
// as one family: worms that share no block are at 0.
const sameBlocks = 0.5

// mergeGaussians joins Gaussians that hold the same blocks. A block that a variant lost
// gives its feature two modes, so one family may need several Gaussians.
func mergeGaussians(h [][]float64, labels []int, gaussians int) [][]int {
	groups := make([][]int, gaussians)
	means := make([][]float64, gaussians)
	for i, label := range labels {
		groups[label] = append(groups[label], i)
	}
	centre := func(members []int) []float64 {
		v := make([]float64, len(h[0]))
		for _, i := range members {
			for j := range v {
				v[j] += h[i][j] / float64(len(members))
			}
		}
		return v
	}
	for g := range groups {
		means[g] = centre(groups[g])
	}
	for a := 0; a < gaussians; a++ {
		for b := a + 1; b < gaussians; b++ {
			if len(groups[a]) > 0 && len(groups[b]) > 0 && cosineOf(means[a], means[b]) >= sameBlocks {
				groups[a] = append(groups[a], groups[b]...)
				groups[b], means[a] = nil, centre(groups[a])
				b = a // the joined mean may now be near others
			}
		}
		slices.Sort(groups[a])
	}
	return slices.DeleteFunc(groups, func(g []int) bool { return len(g) == 0 })
}

func cosineOf(a, b []float64) float64 {
	var ab, aa, bb float64
	for j := range a {
		ab, aa, bb = ab+a[j]*b[j], aa+a[j]*a[j], bb+b[j]*b[j]
	}
	if aa < 1e-3 || bb < 1e-3 {
		return 0 // almost no block
	}
	return ab / math.Sqrt(aa*bb)
}
