package match

import (
	"bytes"
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"

	"dragnet/dossier"
)

// Options of a Matcher.
type Options struct {
	// Kernel is how windows are skipped. It never changes a result.
	Kernel Kernel
	// Published compares every part with 0, as the paper does, instead of the
	// threshold in its file.
	Published bool
}

// Matcher holds signatures ready to be matched. It is safe for concurrent use;
// each sequence has its own Stream.
type Matcher struct {
	sets      []signatureSet
	prefilter *prefilter
	keep      int // bytes a stream must keep behind the newest one
}

type signatureSet struct {
	signature *dossier.Signature
	parts     []*part
	quorum    int
	family    *family
}

// New compiles signatures, which must have passed Check.
func New(signatures []*dossier.Signature, o Options) (*Matcher, error) {
	m := &Matcher{}
	for _, s := range signatures {
		c := signatureSet{signature: s, quorum: s.Quorum}
		if c.quorum == 0 {
			c.quorum = len(s.Parts)
		}
		for i := range s.Parts {
			threshold := s.Parts[i].Threshold
			if o.Published {
				threshold = 0
			}
			p := newPart(&s.Parts[i], &s.Background, threshold, o.Kernel)
			c.parts = append(c.parts, p)
			m.keep = max(m.keep, p.before+p.after)
		}
		for _, e := range s.Exact {
			m.keep = max(m.keep, len(e.Bytes))
		}
		if s.Family != nil {
			var err error
			if c.family, err = newFamily(s, o.Kernel); err != nil {
				return nil, fmt.Errorf("signature %s: %w", s.Name, err)
			}
		}
		m.sets = append(m.sets, c)
	}
	m.prefilter = newPrefilter(m, o.Kernel)
	return m, nil
}

// Result is the result of one signature on one sequence.
type Result struct {
	Signature string `json:"signature"`
	Match     bool   `json:"match"`
	// Parts holds, for each part, the best window that reached its threshold.
	Parts []PartScore `json:"parts,omitempty"`
	// Exact is true if a whole captured copy occurs.
	Exact bool `json:"exact,omitempty"`
	// Family is the score D = exp(-d^2/2) of chapter 4; meaningful only for a
	// signature that has a family model.
	Family float64 `json:"family_score,omitempty"`
}

// PartScore is the best window of one part.
type PartScore struct {
	// Reached is false if no window reached the threshold; At and Omega are not
	// set then.
	Reached bool `json:"reached"`
	// At is where the part's most informative block starts in the sequence.
	At int64 `json:"at"`
	// Omega is the score of equation 3-2, in nats per byte.
	Omega float64 `json:"omega"`
	units int32
}

// Match judges a whole sequence.
func (m *Matcher) Match(payload []byte) []Result {
	s := m.NewStream()
	s.Write(payload)
	return s.Close()
}

// Scores returns the best scores of all parts of signature i over payload, in
// nats per byte, whether or not they reach a threshold; -Inf if payload is too
// short, and for gapped parts below their threshold.
func (m *Matcher) Scores(i int, payload []byte) []float64 {
	var out []float64
	for _, p := range m.sets[i].parts {
		at, score := -1, int32(0)
		if len(p.tables) > 1 {
			at, score = p.searchPart(payload, 0, len(payload), p.limit)
		} else {
			at, score = p.scan.Best(payload)
		}
		if at < 0 {
			out = append(out, math.Inf(-1))
			continue
		}
		out = append(out, omegaOf(score, p.width))
	}
	return out
}

func (s *signatureSet) makeVerdict(state *setState) Result {
	v := Result{Signature: s.signature.Name, Parts: state.parts, Exact: state.exact}
	reached := 0
	for i := range v.Parts {
		if p := &v.Parts[i]; p.Reached {
			p.Omega = omegaOf(p.units, s.parts[i].width)
			reached++
		}
	}
	v.Match = v.Exact || len(s.parts) > 0 && reached >= s.quorum
	if s.family != nil {
		d2 := s.family.squaredDistance(state.features)
		v.Family = math.Exp(-d2 / 2)
		// The parts keep normal traffic out, the distance other families.
		// Absent parts are ignored if most are present: a variant may have
		// dropped blocks, or its ancestors may have carried decoys.
		limit := s.signature.Family.Distance
		v.Match = v.Exact || reached >= s.quorum && (d2 <= limit ||
			2*reached >= len(s.parts) && s.family.squaredDistanceOf(state.features, v.Parts) <= limit)
	}
	return v
}

func containsExact(data []byte, exact []dossier.Exact) bool {
	for _, e := range exact {
		if bytes.Contains(data, e.Bytes) {
			return true
		}
	}
	return false
}

// family is the compiled model of chapter 4. Feature j of a sequence is
//
//	h_j = (1/W_j) sum over windows y of log(1 - pi_j + pi_j p(y|F_j)/p(y|f0)),
//
// the log likelihood ratio of "a share pi_j of the windows belongs to block j"
// against "all are background". The published feature is the likelihood
// itself; dividing by the background's takes the carrier's length and content
// out of it. Terms below e^-8 are left out.
type family struct {
	scans      []*Scanner
	prior      []float64
	mean       []float64
	covariance *mat.SymDense
	inverse    *mat.SymDense
}

func newFamily(s *dossier.Signature, k Kernel) (*family, error) {
	f := &family{prior: s.Family.Prior, mean: s.Family.Mean}
	n := len(s.Parts)
	cov := mat.NewSymDense(n, nil)
	for i, row := range s.Family.Covariance {
		for j := i; j < n; j++ {
			cov.SetSym(i, j, row[j])
		}
	}
	var chol mat.Cholesky
	if !chol.Factorize(cov) {
		return nil, fmt.Errorf("the family's covariance is not positive definite")
	}
	f.covariance, f.inverse = cov, mat.NewSymDense(n, nil)
	if err := chol.InverseTo(f.inverse); err != nil {
		return nil, fmt.Errorf("the family's covariance: %w", err)
	}
	for j := range s.Parts {
		f.scans = append(f.scans, featureScanner(&s.Parts[j].Blocks[0], &s.Background, f.prior[j], k))
	}
	return f, nil
}

func featureScanner(b *dossier.Block, bg *dossier.Background, prior float64, k Kernel) *Scanner {
	return NewScanner(NewTable(b, bg), int32(math.Floor((-math.Log(prior)-8)*Units)), k)
}

// featureTerm is the contribution of a window with that score to a feature,
// times W.
func featureTerm(units int32, prior float64) float64 {
	return math.Log(1 - prior + prior*math.Exp(min(float64(units)/Units, 600)))
}

// Feature is h_j of payload for one block, see family.
func Feature(b *dossier.Block, bg *dossier.Background, prior float64, payload [][]byte, k Kernel) []float64 {
	s := featureScanner(b, bg, prior, k)
	h := make([]float64, len(payload))
	for i, data := range payload {
		s.Scan(data, func(_ int, units int32) int32 {
			h[i] += featureTerm(units, prior)
			return s.limit
		})
		h[i] /= float64(s.table.Width())
	}
	return h
}

// squaredDistance is d^2 of equation 4-19.
func (f *family) squaredDistance(h []float64) float64 {
	diff := mat.NewVecDense(len(h), nil)
	for j := range h {
		diff.SetVec(j, h[j]/float64(f.scans[j].table.Width())-f.mean[j])
	}
	return mat.Inner(diff, f.inverse, diff)
}

// squaredDistanceOf is the same over only the parts that were reached: their
// marginal distribution has their rows and columns of the covariance.
func (f *family) squaredDistanceOf(h []float64, parts []PartScore) float64 {
	var there []int
	for j := range parts {
		if parts[j].Reached {
			there = append(there, j)
		}
	}
	cov, diff := mat.NewSymDense(len(there), nil), mat.NewVecDense(len(there), nil)
	for a, i := range there {
		diff.SetVec(a, h[i]/float64(f.scans[i].table.Width())-f.mean[i])
		for b, j := range there[:a+1] {
			cov.SetSym(a, b, f.covariance.At(i, j))
		}
	}
	var chol mat.Cholesky
	var solved mat.VecDense
	if !chol.Factorize(cov) || chol.SolveVecTo(&solved, diff) != nil {
		return math.Inf(1)
	}
	return mat.Dot(diff, &solved)
}
