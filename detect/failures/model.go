package failures

import "math"

// Model gives the chances of what becomes of the hosts that a source tries,
// under two hypotheses: it is benign, or it scans.
type Model struct {
	// Failed is the chance that a host never answers in the span.
	Failed float64
	// Again is the chance that a host which never answers is tried again.
	Again float64
	// Returned is the chance that a host which answers is connected to once more.
	Returned float64
}

// The models. As in Threshold Random Walk (Jung et al. 2004, section 4), they
// are bounds between which no source is expected, not estimates of either kind:
// a peer-to-peer client may fail as often as a scanner, but asks again. Where
// nothing is tried twice, a source is suspect from 71 % of failed hosts on, from
// 85 % on if it uses those again that answered; where nothing answers, up to 33 %
// tried again.
var (
	Benign  = Model{Failed: 0.8, Again: 0.4, Returned: 0.4}
	Scanner = Model{Failed: 0.97, Again: 0.1, Returned: 0.1}
)

// score is the logarithm of the likelihood ratio of what a source did.
//
// Under Benign its exponential is 1 on average, so that it reaches log(1/alpha)
// in a given window with a chance of at most alpha (Markov).
func (s *sums) score() float64 {
	answered, failed := (1-Scanner.Failed)/(1-Benign.Failed), Scanner.Failed/Benign.Failed
	return float64(s.answered)*math.Log(answered) + float64(s.failed())*math.Log(failed) +
		float64(s.returned)*math.Log(Scanner.Returned/Benign.Returned) + float64(s.answered-s.returned)*math.Log((1-Scanner.Returned)/(1-Benign.Returned)) +
		float64(s.again)*math.Log(Scanner.Again/Benign.Again) + float64(s.once)*math.Log((1-Scanner.Again)/(1-Benign.Again))
}
