package family

import (
	"math"
	"math/rand/v2"

	"gonum.org/v1/gonum/mat"

	"dragnet/dossier"
)

// spread regularises variances: features of one family differ by at least this
// much (nats per byte, squared), however few samples were seen.
const spread = 0.25

// Gaussians sorts feature vectors by EM on a mixture of Gaussians with diagonal
// covariances (section 4.3.2). The number of families, up to most, is the one
// with the least Bayesian information criterion.
func Gaussians(h [][]float64, most int, seed uint64) []int {
	best, bestBIC := make([]int, len(h)), math.Inf(1)
	for k := 1; k <= min(most, len(h)); k++ {
		for restart := range 3 {
			labels, logLike := fitMixture(h, k, rand.New(rand.NewPCG(seed, uint64(k*8+restart))))
			parameters := float64(k*(2*len(h[0])+1) - 1)
			if bic := parameters*math.Log(float64(len(h))) - 2*logLike; bic < bestBIC-1e-9 {
				best, bestBIC = labels, bic
			}
		}
	}
	return best
}

func fitMixture(h [][]float64, k int, rng *rand.Rand) (labels []int, logLike float64) {
	means := farStarts(h, k, rng)
	d := len(h[0])
	vars := make([][]float64, k)
	weight := make([]float64, k)
	for m := range vars {
		vars[m], weight[m] = make([]float64, d), 1/float64(k)
		for j := range vars[m] {
			vars[m][j] = 4
		}
	}
	z := make([][]float64, len(h))
	labels = make([]int, len(h))
	last := math.Inf(-1)
	for range 100 {
		logLike = 0
		for i, v := range h {
			z[i] = make([]float64, k)
			top := math.Inf(-1)
			for m := range means {
				z[i][m] = math.Log(weight[m]+1e-300) + logDensity(v, means[m], vars[m])
				if z[i][m] > top {
					top, labels[i] = z[i][m], m
				}
			}
			sum := 0.0
			for m := range z[i] {
				z[i][m] = math.Exp(z[i][m] - top)
				sum += z[i][m]
			}
			for m := range z[i] {
				z[i][m] /= sum
			}
			logLike += top + math.Log(sum)
		}
		if logLike-last < 1e-6*math.Abs(logLike) {
			break
		}
		last = logLike
		for m := range means {
			n := 1e-9
			clear(means[m])
			clear(vars[m])
			for i := range h {
				n += z[i][m]
				for j, v := range h[i] {
					means[m][j] += z[i][m] * v
					vars[m][j] += z[i][m] * v * v
				}
			}
			weight[m] = n / float64(len(h))
			for j := range means[m] {
				means[m][j] /= n
				vars[m][j] = max(0, vars[m][j]/n-means[m][j]*means[m][j]) + spread
			}
		}
	}
	return labels, logLike
}

func logDensity(v, mean, variance []float64) float64 {
	sum := 0.0
	for j := range v {
		d := v[j] - mean[j]
		sum -= 0.5 * (math.Log(2*math.Pi*variance[j]) + d*d/variance[j])
	}
	return sum
}

// farStarts draws means far from one another (k-means++).
func farStarts(h [][]float64, k int, rng *rand.Rand) [][]float64 {
	means := [][]float64{append([]float64(nil), h[rng.IntN(len(h))]...)}
	for len(means) < k {
		far := make([]float64, len(h))
		total := 0.0
		for i, v := range h {
			far[i] = math.Inf(1)
			for _, m := range means {
				sum := 0.0
				for j := range v {
					sum += (v[j] - m[j]) * (v[j] - m[j])
				}
				far[i] = min(far[i], sum)
			}
			total += far[i]
		}
		u, pick := rng.Float64()*total, 0
		for pick < len(h)-1 && u >= far[pick] {
			u -= far[pick]
			pick++
		}
		means = append(means, append([]float64(nil), h[pick]...))
	}
	return means
}

// Describe is the family signature of section 4.3.1: mean and covariance of the
// members' features. Distance is one and a half times the largest d^2 of the
// held-out members, or that expected of a Gaussian by chance if larger: a lost
// block makes features less regular than Gaussians, and the parts' own
// thresholds already keep normal traffic out.
func Describe(training, heldOut [][]float64) *dossier.Family {
	d := len(training[0])
	f := &dossier.Family{Mean: make([]float64, d), Covariance: make([][]float64, d)}
	for _, h := range training {
		for j, v := range h {
			f.Mean[j] += v / float64(len(training))
		}
	}
	cov := mat.NewSymDense(d, nil)
	for i := range d {
		for j := i; j < d; j++ {
			sum := 0.0
			for _, h := range training {
				sum += (h[i] - f.Mean[i]) * (h[j] - f.Mean[j])
			}
			v := sum / float64(len(training))
			if i == j {
				// A block that no training sample lacks may still be lacking in
				// the next: two imagined samples without it (Laplace).
				lack := 2 / float64(len(training)+2)
				v += spread + lack*f.Mean[i]*f.Mean[i]
			}
			cov.SetSym(i, j, v)
		}
	}
	for i := range d {
		f.Covariance[i] = make([]float64, d)
		for j := range d {
			f.Covariance[i][j] = cov.At(i, j)
		}
	}
	f.Distance = 1.5 * (float64(d) + 4*math.Sqrt(2*float64(d))) // mean and 4 deviations of chi-squared
	var chol mat.Cholesky
	if chol.Factorize(cov) {
		for _, h := range heldOut {
			diff := mat.NewVecDense(d, nil)
			for j := range h {
				diff.SetVec(j, h[j]-f.Mean[j])
			}
			var solved mat.VecDense
			if chol.SolveVecTo(&solved, diff) == nil {
				f.Distance = max(f.Distance, 1.5*mat.Dot(diff, &solved))
			}
		}
	}
	return f
}
