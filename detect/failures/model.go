package failures

import "math"

// Model gives the chances of what becomes of the hosts that a source tries,
// under two hypotheses: it is benign, or it scans.
type Model struct {
	// Failed is the chance that a host never answers in the span.
	Failed float64
	// Again is the chance that a host which never answers is tried again.
	Again float64
}

// The models. As in Threshold Random Walk (Jung et al. 2004, section 4), they
// are bounds between which no source is expected, not estimates of either kind:
// a peer-to-peer client may fail as often as a scanner, but asks again. Where
// nothing is tried twice, a source is suspect from 76 % of failed hosts on; where
// nothing answers, up to 33 % tried again.
var (
	Benign  = Model{Failed: 0.8, Again: 0.4}
	Scanner = Model{Failed: 0.97, Again: 0.1}
)

// score is the logarithm of the likelihood ratio of what a source did: of hosts
// that answered, that failed and were tried once, and that failed and were
// tried again.
//
// Under Benign its exponential is 1 on average, so that it reaches log(1/alpha)
// in a given window with a chance of at most alpha (Markov).
func score(answered, once, again int) float64 {
	return float64(answered)*math.Log((1-Scanner.Failed)/(1-Benign.Failed)) +
		float64(once)*math.Log(Scanner.Failed*(1-Scanner.Again)/(Benign.Failed*(1-Benign.Again))) +
		float64(again)*math.Log(Scanner.Failed*Scanner.Again/(Benign.Failed*Benign.Again))
}
