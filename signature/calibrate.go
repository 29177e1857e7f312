package signature

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"dragnet/dossier"
	"dragnet/signature/match"
)

// margin is how far, in nats of the whole window, a threshold lies above the highest
// score on clean traffic: a million times as much traffic would be needed to reach it,
// if its scores fell off as those of random traffic do.
const margin = 13.8

// floorOf is the least threshold of a part: above what the model allows, and above
// all clean traffic by the margin.
func (l *learner) floorOf(p *dossier.Part) float64 {
	model := match.NewBound(p, l.clean.Background).Threshold(l.o.FalseAlarms)
	highest := match.Highest(&p.Blocks[0], l.clean.Background, model, l.quiet())
	if highest == model {
		return model
	}
	return highest + margin/float64(p.Width())
}

// quiet is all that must not match.
func (l *learner) quiet() [][]byte {
	return append(slices.Concat(l.clean.Sequences, l.negatives), l.clean.joined)
}

// separation is how well a part separates samples it has not learnt from clean
// traffic.
type separation struct {
	// found samples score above the floor, and gap is how far the median of these lies
	// above it, in nats of the whole window.
	found int
	gap   float64
}

// setThreshold puts the threshold of p half-way between a floor and what all but one
// in twenty samples score that it did not learn from.
func setThreshold(p *dossier.Part, floor float64, unseen []float64) (s separation) {
	p.Threshold = floor
	var above []float64
	for _, v := range unseen {
		if v > floor {
			above = append(above, v)
		}
	}
	if s.found = len(above); s.found > 0 {
		slices.Sort(above)
		p.Threshold = floor + (above[len(above)/20]-floor)/2
		s.gap = (above[len(above)/2] - floor) * float64(p.Width())
	}
	for _, v := range unseen {
		if v > p.Threshold {
			p.Samples++
		}
	}
	return s
}

// Calibrate sets the thresholds of a signature of one part by the model alone: the one
// whose false alarms it puts at rate per 10^9 bytes, and, where the samples score far
// above that, half-way to seven tenths of what all but one in fifty of them reach, as
// they took part in learning.
func Calibrate(s *dossier.Signature, samples [][]byte, rate float64) error {
	for i := range s.Parts {
		p := &s.Parts[i]
		model := match.NewModel(p, &s.Background)
		p.Threshold = model.Threshold(rate)
		one := *s
		one.Parts, one.Exact, one.Family, one.Quorum = s.Parts[i:i+1], nil, nil, 0
		m, err := match.New([]*dossier.Signature{&one}, match.Options{Kernel: match.Fastest()})
		if err != nil {
			return err
		}
		var scores []float64
		for _, sample := range samples {
			scores = append(scores, m.Scores(0, sample)[0])
		}
		slices.Sort(scores)
		if reach := 0.7 * scores[len(scores)/50]; reach > p.Threshold {
			p.Threshold = (p.Threshold + reach) / 2
		}
		p.FalseAlarms = model.FalseAlarms(p.Threshold)
	}
	return nil
}

// encodedNoise is what any payload may hold: random bytes in the usual encodings, and
// runs of one byte. A signature that matches it recognises the encoding, not a worm.
// It is made once, and only read.
var encodedNoise = sync.OnceValue(makeNoise)

func makeNoise() [][]byte {
	const size = 32 << 10
	rng := rand.New(rand.NewPCG(1, 0x6e6f697365))
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(rng.Uint32())
	}
	all := [][]byte{raw, []byte(base64.StdEncoding.EncodeToString(raw))}
	for _, format := range []string{"%%%02x", "%%%02X", "\\x%02x", "%%u00%02x"} {
		var b strings.Builder
		for _, x := range raw[:size/4] {
			fmt.Fprintf(&b, format, x)
		}
		all = append(all, []byte(b.String()))
	}
	digits := hex.EncodeToString(raw)
	all = append(all, []byte(digits), []byte(strings.ToUpper(digits)))
	var words strings.Builder
	for i := 0; i+1 < size/4; i += 2 {
		fmt.Fprintf(&words, "%%u%02x%02x", raw[i], raw[i+1])
	}
	all = append(all, []byte(words.String()))
	var runs []byte
	for x := range 256 {
		runs = append(runs, slices.Repeat([]byte{byte(x)}, 256)...)
	}
	letters := make([]byte, size)
	for i := range letters {
		letters[i] = 'A' + raw[i]%26
	}
	return append(all, runs, letters, []byte(strings.ToLower(string(letters))))
}
