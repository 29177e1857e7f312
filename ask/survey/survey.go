// Package survey measures hash functions on a log: how ambiguous their keys
// are for who reads a question, and what that ambiguity costs who answers it.
// It is the evaluation of Allman et al. 2006, section 3.2, for any log, mask
// and hash, and the survey of hash functions that section asks for.
package survey

import (
	"context"
	"errors"
	"net/netip"
	"sync"

	"dragnet/flow"
	"dragnet/flow/key"
)

// maxTuples bounds memory: about 5 GB at the most, 0.6 GB for 10^7 tuples.
const maxTuples = 1 << 27

// Configuration of a survey.
type Configuration struct {
	Mask key.Mask
	// End of X: the address in the mask is that of the other end.
	End key.End
	// Hashes and Bits restrict what is surveyed; see Hashes.
	Hashes []string
	Bits   []int
	// Epoch names the salts of linear.
	Epoch string
	// Near, if valid, is a prefix that a reader may know the address to lie
	// in, such as the network of the site that is asked.
	Near netip.Prefix
	// Asked is how many tuples are drawn to measure candidates, Sealed how many
	// questions per hash are really answered to measure bytes. Sealing reads
	// the log a second time; 0 leaves either out.
	Asked, Sealed int
	// Seed draws those tuples.
	Seed uint64
	// Progress, if set, is called with the current step and the work done since.
	Progress func(what string, n int)
}

// DefaultConfiguration is the paper's: the originators of connections to one
// (destination, protocol, destination port).
func DefaultConfiguration() Configuration {
	return Configuration{
		Mask: key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}, End: key.Out,
		Epoch: "survey", Asked: 64, Sealed: 24, Seed: 1,
	}
}

// Result is what a survey found.
type Result struct {
	Version int    `json:"version"`
	Mask    string `json:"mask"`
	End     string `json:"end"`
	// Connections are the flows that have the mask's components, Without those
	// that lack an address of its family.
	Connections uint64 `json:"connections"`
	Without     uint64 `json:"without"`
	Skipped     uint64 `json:"skipped"`
	// Tuples is the number of distinct ones.
	Tuples      int    `json:"tuples"`
	Recommended int    `json:"recommended_bits"`
	Near        string `json:"near,omitempty"`
	Hashes      []Row  `json:"hashes"`

	// Coverage says what was read, with its first problems.
	Coverage flow.Coverage `json:"-"`
}

// Row is what one hash does on the log. Shares are between 0 and 1.
type Row struct {
	Hash string `json:"hash"`
	Keys uint64 `json:"keys"`
	// UniqueConnections is the share of connections whose key represents one
	// tuple only; UniqueKeys the share of such keys.
	UniqueConnections float64 `json:"unique_connections"`
	UniqueKeys        float64 `json:"unique_keys"`
	// PerKey is the distribution of tuples per key at round numbers.
	PerKey []Share `json:"tuples_per_key"`
	// Candidates is empty if none were measured.
	Candidates []Candidates `json:"candidates,omitempty"`
	// Answers to one question, over all tuples of the log; Bytes of one
	// testimony, over a sample; nil if none was sealed.
	Answers Spread `json:"answers"`
	Bytes   *Bytes `json:"bytes,omitempty"`
	// Milliseconds to compute the keys of a million flows, on one core.
	Milliseconds float64 `json:"ms_per_million"`

	Function key.Hash `json:"-"`
	Sizes    Sizes    `json:"-"`
}

// Share is the share of keys that represent at most this number of tuples.
type Share struct {
	Tuples uint64  `json:"tuples"`
	Keys   float64 `json:"keys"`
}

// Steps are the numbers of tuples per key at which a distribution is printed.
func Steps() []uint64 {
	return []uint64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10000}
}

// surveyor holds one survey under way. Its stages, in order: countTuples counts
// the tuples of the log; surveyHash takes one hash after another over them;
// measureBytes reads the log again and seals answers to sampled questions.
type surveyor struct {
	Configuration
	hashes []key.Hash

	mu      sync.Mutex // guards the rest while the log is read
	tuples  *table
	without uint64
	pace    []flow.Flow

	asked     []packed // sampled tuples
	askedNear []packed // sampled tuples inside Near
	sealing   *sealing
}

// Run surveys one log.
func Run(ctx context.Context, c Configuration, log flow.Log) (*Result, error) {
	if err := c.Mask.Validate(); err != nil {
		return nil, err
	}
	if c.Progress == nil {
		c.Progress = func(string, int) {}
	}
	s := &surveyor{Configuration: c, tuples: newTable()}
	cov, err := s.countTuples(ctx, log)
	if err != nil {
		return nil, err
	}
	if s.tuples.n == 0 {
		return nil, errors.New("the log holds no flow with the mask's components; choose another --mask, such as addr6/128+dport+proto for IPv6")
	}
	if s.hashes, err = Hashes(c.Hashes, c.Bits, s.tuples.n); err != nil {
		return nil, err
	}
	r := &Result{
		Version: 1, Mask: c.Mask.String(), End: c.End.String(), Coverage: cov, Skipped: cov.Skipped,
		Without: s.without, Tuples: s.tuples.n, Recommended: RecommendedBits(s.tuples.n),
	}
	for t := range s.tuples.all {
		r.Connections += uint64(t.flows)
	}
	if c.Near.IsValid() {
		r.Near = c.Near.String()
	}
	s.drawSample()
	all := make([]keyed, s.tuples.n)
	for i, h := range s.hashes {
		row, err := s.surveyHash(ctx, i, h, all)
		if err != nil {
			return nil, err
		}
		r.Hashes = append(r.Hashes, row)
	}
	return r, s.measureBytes(ctx, log, r.Hashes)
}

// paceFlows is how many flows are kept to time the hashes over.
const paceFlows = 1 << 13

// countTuples counts the log's tuples.
func (s *surveyor) countTuples(ctx context.Context, log flow.Log) (flow.Coverage, error) {
	return log.Scan(ctx, flow.AllTime, 0, func(batch []flow.Flow) error {
		found := make([]packed, 0, len(batch))
		for i := range batch {
			if t, ok := s.Mask.Tuple(&batch[i], s.End); ok {
				found = append(found, pack(t))
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.Progress("reading", len(batch))
		s.without += uint64(len(batch) - len(found))
		s.keepForPace(batch)
		for i := range found {
			if err := s.tuples.add(&found[i]); err != nil {
				return err
			}
		}
		return nil
	})
}

// drawSample samples the tuples that questions will ask about.
func (s *surveyor) drawSample() {
	s.asked = s.tuples.sample(max(s.Asked, s.Sealed), s.Seed, func(*packed) bool { return true })
	if s.Near.IsValid() && s.Mask.Family != key.NoAddr {
		s.askedNear = s.tuples.sample(s.Asked, s.Seed, func(p *packed) bool { return s.Near.Contains(p.tuple(s.Mask).Addr) })
	}
	if s.Sealed > 0 {
		s.sealing = newSealing(len(s.hashes))
	}
}

// surveyHash surveys one hash; all is space for one entry per tuple.
func (s *surveyor) surveyHash(ctx context.Context, number int, h key.Hash, all []keyed) (Row, error) {
	s.Progress("hashing", 0)
	keyer, err := key.NewKeyer(s.Mask, s.End, h, key.OneShotSalt(s.Mask, s.Epoch))
	if err != nil {
		return Row{}, err
	}
	row := Row{Hash: Label(h), Function: h, Milliseconds: s.measurePace(keyer)}
	i := 0
	for t := range s.tuples.all {
		all[i] = keyed{keyer.Tuple(t.tuple(s.Mask)), t.flows}
		i++
	}
	if s.sealing != nil {
		s.chooseTuples(number, keyer, all)
	}
	count := map[uint64]uint64{}
	var unique, connections uint64
	groups(all, func(_ key.K, g group) {
		count[g.tuples]++
		connections += g.flows
		if g.tuples == 1 {
			unique += g.flows
		}
	})
	row.Sizes = newSizes(count)
	row.Keys, row.UniqueConnections = row.Sizes.Keys(), share(unique, connections)
	row.UniqueKeys, row.Answers = row.Sizes.UpTo(1), row.Sizes.Answers()
	for _, step := range Steps() {
		row.PerKey = append(row.PerKey, Share{step, row.Sizes.UpTo(step)})
	}
	row.Candidates, err = s.candidates(ctx, h, keyer)
	s.Progress("hashing", s.tuples.n)
	return row, err
}
