package steppingstone

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// login is the time of logging in, which is left out.
const login = 3 * time.Second

// chain is both connections of a recorded chain.
type chain struct {
	kind          string
	before, after *Connection
}

// loadChains reads a file of lab/steppingstone.
func loadChains(t testing.TB, path string) (all []chain) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	type track struct {
		Inbound           bool
		First, Last       int64
		Arriving, Leaving []int64
	}
	open := func(k *track) *Connection {
		events := func(flat []int64) (out []Event) {
			at := k.First
			for i := 0; i+1 < len(flat); i += 2 {
				at += flat[i]
				out = append(out, Event{flow.Time(at * 1000), int(flat[i+1])})
			}
			return out
		}
		return &Connection{Inbound: k.Inbound, First: flow.Time(k.First * 1000), Last: flow.Time(k.Last * 1000), Arriving: events(k.Arriving), Leaving: events(k.Leaving)}
	}
	for d := json.NewDecoder(z); ; {
		var r struct {
			Kind          string
			Before, After *track
		}
		err := d.Decode(&r)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		x := chain{r.Kind, open(r.Before), open(r.After)}
		// Log-ins follow each other more closely than anything later: a capture that
		// begins in the middle of a session must do without.
		x.after.First += flow.Time(login)
		all = append(all, x)
	}
}

// disturbance is what a relay adds to hide.
type disturbance struct {
	name string
	// jitter is by how much the relay delays each event at most, in order and in
	// both directions.
	jitter time.Duration
	// chaff is how many events of its own it sends, for each one that it passes on.
	chaff float64
}

var disturbances = []disturbance{
	{"none", 0, 0}, {"jitter 100 ms", 100 * time.Millisecond, 0}, {"jitter 500 ms", 500 * time.Millisecond, 0},
	{"chaff 50 %", 0, 0.5}, {"chaff 200 %", 0, 2}, {"jitter 100 ms, chaff 50 %", 100 * time.Millisecond, 0.5},
	{"jitter 500 ms, chaff 200 %", 500 * time.Millisecond, 2},
}

// disturb changes what the connection after the relay shows: data leaves later, and
// what arrives did so earlier than the relay passed it on; chaff of the same sizes,
// at random times, goes both ways.
func (d disturbance) disturb(c *Connection, r *rand.Rand) *Connection {
	out := *c
	for i, p := range []*[]Event{&out.Leaving, &out.Arriving} {
		events := slices.Clone(*p)
		if i == 0 {
			last := flow.Time(0)
			for j := range events {
				last = max(last, events[j].Time+flow.Time(r.Float64()*float64(d.jitter)))
				events[j].Time = last
			}
		} else {
			first := c.Last
			for j := len(events) - 1; j >= 0; j-- {
				first = min(first, events[j].Time-flow.Time(r.Float64()*float64(d.jitter)))
				events[j].Time = first
			}
		}
		n := len(events)
		for range int(float64(n) * d.chaff) {
			at := c.First + flow.Time(r.Float64()*float64(c.Last-c.First))
			events = append(events, Event{at, events[r.IntN(n)].Size})
		}
		slices.SortStableFunc(events, func(a, b Event) int { return int(min(max(a.Time-b.Time, -1), 1)) })
		*p = events
	}
	return &out
}

// judged are the scores of the pairs of a file: chains, and unrelated connections
// that were open at the same time.
type judged struct {
	chains, others []float64
	kinds          []string // of chains
	skipped        int      // pairs with too little data
}

func judgeAll(all []chain, d disturbance, score func(a, b *Connection) (float64, bool)) (out judged) {
	r := rand.New(rand.NewPCG(5, 5))
	for i, x := range all {
		after := d.disturb(x.after, r)
		for j, y := range all {
			s, ok := score(y.before, after)
			switch {
			case !ok && i == j:
				out.chains, out.kinds = append(out.chains, math.Inf(-1)), append(out.kinds, x.kind)
			case !ok:
				out.skipped++
			case i == j:
				out.chains, out.kinds = append(out.chains, s), append(out.kinds, x.kind)
			default:
				out.others = append(out.others, s)
			}
		}
	}
	return out
}

// above is the share of scores that reach a threshold.
func above(scores []float64, threshold float64) float64 {
	n := 0
	for _, s := range scores {
		if s >= threshold {
			n++
		}
	}
	return float64(n) / float64(max(len(scores), 1))
}

// thresholdFor is the score that a share of the others exceeds.
func thresholdFor(others []float64, share float64) float64 {
	sorted := slices.Clone(others)
	slices.Sort(sorted)
	return math.Nextafter(sorted[len(sorted)-1-int(share*float64(len(sorted)))], math.Inf(1))
}

// TestLearn prints the weights and the score of the model, learnt from one
// recording, if LEARN is set.
func TestLearn(t *testing.T) {
	if os.Getenv("LEARN") == "" {
		t.Skip("prints the numbers of model.go if LEARN is set")
	}
	all := loadChains(t, "testdata/learn.jsonl.gz")
	c := DefaultConfiguration()
	var x [][ofPair]float64
	var y []float64
	for _, d := range disturbances {
		judgeAll(all, d, func(a, b *Connection) (float64, bool) {
			f, _, ok := c.compare(a, b, max(a.First, b.First), min(a.Last, b.Last))
			if ok {
				x = append(x, f)
				y = append(y, 0)
				if a.First == originOf(all, b) {
					y[len(y)-1] = 1
				}
			}
			return 0, ok
		})
	}
	w := learn(x, y)
	var text []string
	for _, v := range w {
		text = append(text, fmt.Sprintf("%.4g", v))
	}
	fmt.Println("weights:", strings.Join(text, ", "))
	weights = w
	var others []float64
	for _, d := range disturbances {
		j := judgeAll(all, d, modelScore(c))
		others = append(others, j.others...)
		fmt.Printf("%s: %d chains, %d others, %.3f found at 1e-3\n", d.name, len(j.chains), len(j.others), above(j.chains, thresholdFor(j.others, 1e-3)))
	}
	fmt.Println("score:", thresholdFor(others, 1e-3))
}

// originOf is when the connection before that of a chain began.
func originOf(all []chain, after *Connection) flow.Time {
	for _, x := range all {
		if x.after.First == after.First {
			return x.before.First
		}
	}
	return -1
}

func modelScore(c Configuration) func(a, b *Connection) (float64, bool) {
	return func(a, b *Connection) (float64, bool) {
		p, ok := Judge(c, a, b)
		return p.Score, ok
	}
}

// learn is logistic regression with a penalty on squares, by gradient descent;
// chains and others count the same in all.
func learn(x [][ofPair]float64, y []float64) (w [ofPair + 1]float64) {
	var positives float64
	for _, v := range y {
		positives += v
	}
	share := [2]float64{0.5 / (float64(len(y)) - positives), 0.5 / positives}
	var m, v [ofPair + 1]float64
	for step := 1; step <= 3000; step++ {
		var g [ofPair + 1]float64
		for i, f := range x {
			z := w[ofPair]
			for k, u := range f {
				z += w[k] * u
			}
			e := (1/(1+math.Exp(-z)) - y[i]) * share[int(y[i])]
			for k, u := range f {
				g[k] += e * u
			}
			g[ofPair] += e
		}
		for k := range g {
			if k < ofPair {
				g[k] += 1e-4 * w[k]
			}
			m[k], v[k] = 0.9*m[k]+0.1*g[k], 0.999*v[k]+0.001*g[k]*g[k]
			w[k] -= 0.05 * (m[k] / (1 - math.Pow(0.9, float64(step)))) / (math.Sqrt(v[k]/(1-math.Pow(0.999, float64(step)))) + 1e-9)
		}
	}
	return w
}

// TestChainsOfRealSSH judges chains that the model was not learnt from.
func TestChainsOfRealSSH(t *testing.T) {
	testkit.Long(t)
	all := loadChains(t, "testdata/judge.jsonl.gz")
	c := DefaultConfiguration()
	onOff := func(a, b *Connection) (float64, bool) { return DefaultOnOff().Correlation(a, b), true }
	for _, d := range disturbances {
		ours, base := judgeAll(all, d, modelScore(c)), judgeAll(all, d, onOff)
		byKind := map[string][]float64{}
		for i, k := range ours.kinds {
			byKind[k] = append(byKind[k], ours.chains[i])
		}
		found, wrong := above(ours.chains, c.Score), above(ours.others, c.Score)
		t.Logf("%s: %d chains, %d other pairs (%d with too little data): %.3f found, %.5f wrong; at 1e-3: %.3f; ON/OFF: %.3f found, %.5f wrong; at 1e-3: %.3f; %s",
			d.name, len(ours.chains), len(ours.others), ours.skipped, found, wrong, above(ours.chains, thresholdFor(ours.others, 1e-3)),
			above(base.chains, 0.3), above(base.others, 0.3), above(base.chains, thresholdFor(base.others, 1e-3)), shares(byKind, c.Score))
		if d.name == "none" && (found < 0.9 || wrong > 0.004) {
			t.Errorf("%.3f of the chains found, %.5f of the others", found, wrong)
		}
	}
}

func shares(byKind map[string][]float64, score float64) string {
	var out []string
	for k, s := range byKind {
		out = append(out, fmt.Sprintf("%s %.3f of %d", k, above(s, score), len(s)))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
