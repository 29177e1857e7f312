// Package sharing simulates communities in which some members lie, and
// measures the result: how much of the attackers' group is found (recall), and
// how much of what is found belongs to it (precision).
//
// None of the deciding code is modelled: witnesses are ask/witness over logs
// that liars have falsified, the detective is ask/detective with the whole
// exchange between them, and reports of lying detectives go through
// clearinghouse/merge. Assumed are which witness sees what and how liars lie.
// The liars get more than they would have: they know the pattern, which
// questions hide from them.
package sharing

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Lie is how a witness lies.
type Lie string

// The lies. Withhold: it names no host. Frame: it names innocent hosts besides
// those it saw. Spray: it names every innocent host. Sybil: it frames under
// many names, none of them verified. Mixed: each liar draws one.
const (
	Withhold Lie = "withhold"
	Frame    Lie = "frame"
	Spray    Lie = "spray"
	Sybil    Lie = "sybil"
	Mixed    Lie = "mixed"
)

// Lies lists those that Mixed draws from.
func Lies() []Lie { return []Lie{Withhold, Frame, Spray, Sybil} }

// Configuration of one community.
type Configuration struct {
	// Organisations each run one witness, apart from Sybils.
	Organisations int
	// Liars is the share of organisations that lie.
	Liars float64
	Lie   Lie
	// Colluding liars name the same innocent hosts, otherwise each draws
	// separately.
	Colluding bool
	// Group is the number of attackers, of which each honest witness saw each
	// with probability Seen.
	Group int
	Seen  float64
	// Innocent is the number of hosts that could be framed, of which a liar
	// names Framed.
	Innocent, Framed int
	// Names is how many witnesses a Sybil runs.
	Names int
	// Fraction is that of ask/detective: at least this share of the independent
	// witnesses asked must agree.
	Fraction float64
	Seed     uint64
}

// DefaultConfiguration is a community of 40 organisations that sees each
// attacker about ten times.
func DefaultConfiguration() Configuration {
	return Configuration{Organisations: 40, Lie: Mixed, Group: 30, Seen: 0.25, Innocent: 100, Framed: 10, Names: 5, Seed: 1}
}

// Belief is the number of independent witnesses for each host named.
type Belief struct {
	Group int
	// Guilty and Innocent hold the number of classes for each host that was
	// named.
	Guilty, Innocent []int
}

// Score is precision and recall if k classes must agree. Precision is
// undefined, and ok false, if no host reaches k.
func (o *Belief) Score(k int) (precision, recall float64, ok bool) {
	guilty, innocent := atLeast(o.Guilty, k), atLeast(o.Innocent, k)
	recall = float64(guilty) / float64(o.Group)
	if guilty+innocent == 0 {
		return 0, recall, false
	}
	return float64(guilty) / float64(guilty+innocent), recall, true
}

func atLeast(counts []int, k int) (n int) {
	for _, v := range counts {
		if v >= k {
			n++
		}
	}
	return n
}

const text = "out dst=198.51.100.7 dport=69 proto=udp"

// player is one witness of the community.
type player struct {
	source detective.KnownWitness
	log    flowLog
}

// Run simulates one community: every witness is asked, and every answer opened.
func Run(ctx context.Context, c Configuration) (*Belief, error) {
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		return nil, err
	}
	q, err := detective.New(detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 19}, Style: detective.Hybrid,
		Window: flow.AllTime, Epoch: "2026-03-01", Quorum: 1, Fraction: c.Fraction,
	}, p)
	if err != nil {
		return nil, err
	}
	players := c.drawPlayers(rand.New(rand.NewPCG(c.Seed, 0)))
	for i := range players {
		q.AddSource(players[i].source)
	}
	for i := range players {
		if err := players[i].openTestimony(ctx, q); err != nil {
			return nil, fmt.Errorf("witness %s: %w", players[i].source.Name, err)
		}
	}
	out := &Belief{Group: c.Group}
	for _, h := range q.Result().Hosts {
		if isGuilty(h.Addr) {
			out.Guilty = append(out.Guilty, h.Independent)
		} else {
			out.Innocent = append(out.Innocent, h.Independent)
		}
	}
	return out, nil
}

func (p *player) openTestimony(ctx context.Context, q *detective.Inquiry) error {
	w, err := witness.New(witness.DefaultConfiguration(), p.source.Name, p.log, nil)
	if err != nil {
		return err
	}
	sealed, _, err := w.Answer(ctx, q.Question())
	if err != nil {
		return err
	}
	_, err = q.OpenTestimonyFrom(ctx, p.source, sealed)
	return err
}

// drawPlayers draws what each witness sees and how liars lie.
func (c *Configuration) drawPlayers(rng *rand.Rand) []player {
	var all []player
	together := c.drawFramed(rng)
	liars := int(c.Liars*float64(c.Organisations) + 0.5)
	for i := range c.Organisations {
		name := fmt.Sprint("w", i)
		own := player{source: detective.KnownWitness{Name: name, Class: fmt.Sprint("org", i), Verified: true}}
		for h := range c.Group {
			if rng.Float64() < c.Seen {
				own.log = append(own.log, attackFlow(attackerAddr(h)))
			}
		}
		if i >= liars {
			all = append(all, own)
			continue
		}
		lie, innocents := c.Lie, together
		if lie == Mixed {
			lie = Lies()[rng.IntN(len(Lies()))]
		}
		if !c.Colluding {
			innocents = c.drawFramed(rng)
		}
		all = append(all, c.makeLiars(own, lie, innocents)...)
	}
	return all
}

// makeLiars returns the witnesses of a liar, in place of the honest one.
func (c *Configuration) makeLiars(own player, lie Lie, innocents []netip.Addr) []player {
	switch lie {
	case Withhold:
		own.log = nil
	case Frame:
		own.log = append(own.log, attackFlows(innocents)...)
	case Spray:
		for h := range c.Innocent {
			own.log = append(own.log, attackFlow(innocentAddr(h)))
		}
	case Sybil:
		var all []player
		for n := range c.Names {
			all = append(all, player{
				source: detective.KnownWitness{Name: fmt.Sprint(own.source.Name, "-", n)}, log: slices.Concat(own.log, attackFlows(innocents)),
			})
		}
		return all
	}
	return []player{own}
}

// drawFramed draws the innocent hosts that a liar names.
func (c *Configuration) drawFramed(rng *rand.Rand) []netip.Addr {
	var out []netip.Addr
	for _, h := range rng.Perm(c.Innocent)[:min(c.Framed, c.Innocent)] {
		out = append(out, innocentAddr(h))
	}
	return out
}

func attackerAddr(h int) netip.Addr {
	return netip.AddrFrom4([4]byte{203, 0, byte(113 + h/250), byte(1 + h%250)})
}

func innocentAddr(h int) netip.Addr {
	return netip.AddrFrom4([4]byte{192, 0, byte(h / 250), byte(1 + h%250)})
}

func isGuilty(a netip.Addr) bool { return a.As4()[0] == 203 }

func attackFlows(hosts []netip.Addr) (out []flow.Flow) {
	for _, h := range hosts {
		out = append(out, attackFlow(h))
	}
	return out
}

// attackFlow is a flow that fits the pattern.
func attackFlow(from netip.Addr) flow.Flow {
	return flow.Flow{
		Start: flow.Time(1_772_323_200e9), Orig: from, Resp: netip.AddrFrom4([4]byte{198, 51, 100, 7}),
		OrigPort: 40_000, RespPort: 69, Proto: flow.UDP, State: flow.S0,
	}
}

// flowLog is the flows a witness has, or claims to have.
type flowLog []flow.Flow

// Scan implements flow.Log.
func (l flowLog) Scan(_ context.Context, _ flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	cov.Saw(l)
	return cov, fn(l)
}
