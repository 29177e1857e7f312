package survey

import (
	"context"

	"dragnet/flow/key"
)

// Candidates is how many tuples a reader who saw none of the traffic must deem
// possible for a key, over keys of tuples drawn from the log: the median, and
// what 95 of 100 questions exceed.
type Candidates struct {
	// Knowing is what the reader knows beforehand: "nothing", "service" (the
	// ports and protocol), "near" (the prefix) or "near+service".
	Knowing string  `json:"knowing"`
	Asked   int     `json:"asked"`
	P5      float64 `json:"p5"`
	Median  float64 `json:"median"`
}

// costly is how many keys are tried where each takes a quarter million random
// tuples (see key.Meter).
const costly = 8

func (s *surveyor) candidates(ctx context.Context, h key.Hash, keyer *key.Keyer) ([]Candidates, error) {
	anywhere, near := s.asked[:min(s.Asked, len(s.asked))], s.askedNear
	if h.Kind == key.ProductMod {
		anywhere, near = anywhere[:min(costly, len(anywhere))], near[:min(costly, len(near))]
	}
	meter := key.NewMeter(h)
	var out []Candidates
	for _, reader := range []struct {
		knowing       string
		near, service bool
		asked         []packed
	}{
		{"nothing", false, false, anywhere},
		{"service", false, true, anywhere},
		{"near", true, false, near},
		{"near+service", true, true, near},
	} {
		if len(reader.asked) == 0 {
			continue
		}
		found := make([]float64, len(reader.asked))
		for i := range reader.asked {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			t := reader.asked[i].tuple(s.Mask)
			var r key.Reader
			if reader.near {
				r.Near = s.Near
			}
			if reader.service {
				r.Service = &t
			}
			found[i] = meter.Candidates(r, s.Mask, keyer.Tuple(t))
		}
		out = append(out, Candidates{reader.knowing, len(found), quantile(found, 0.05), quantile(found, 0.5)})
	}
	return out, nil
}
