package detective

import (
	"cmp"
	"maps"
	"slices"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Result is what an inquiry found so far. Its JSON form is the command line's:
// fields are added, never changed.
type Result struct {
	Version   int                `json:"version"`
	Pattern   string             `json:"pattern"`
	Hash      string             `json:"hash"`
	Bits      int                `json:"bits"`
	Mode      string             `json:"mode"`
	Join      string             `json:"join"`
	Epoch     string             `json:"epoch"`
	Quorum    int                `json:"quorum"`
	Questions []MeteredKey       `json:"questions"`
	Witnesses []TestimonySummary `json:"witnesses"`
	Hosts     []Match            `json:"hosts"`
	// Collisions is the sum over witnesses.
	Collisions int `json:"collisions"`
}

// Match is a host that fits the pattern.
type Match struct {
	flow.Host
	Witnesses []string `json:"witnesses"`
	// Independent counts the classes among the witnesses (see Witness).
	Independent int `json:"independent"`
	// Believed is why the host is believed.
	Believed  Reason    `json:"believed"`
	FirstSeen flow.Time `json:"first_seen"`
	LastSeen  flow.Time `json:"last_seen"`
	// Flows sums, over clues and witnesses, the host's flows that fit: a flow
	// that two witnesses saw, or that fits two clues, counts twice.
	Flows uint64      `json:"flows"`
	Clues []MatchClue `json:"clues"`
}

// Reason is why a host is believed.
type Reason string

// Reasons to believe a host. ByQuorum takes precedence.
const (
	// ByQuorum is a host that enough independent witnesses named.
	ByQuorum Reason = "quorum"
	// ByOwnWord is a host that too few witnesses named, but among them one in
	// whose networks the host is (Configuration.OwnWord).
	ByOwnWord Reason = "own-word"
)

// MatchClue is one event of the earliest match.
type MatchClue struct {
	Clue  string    `json:"clue"`
	Time  flow.Time `json:"time"`
	State string    `json:"state"`
}

// suspect gathers what all witnesses said about one host.
type suspect struct {
	// said holds each statement once: branches that share a clue repeat it.
	said map[statement]dossier.StatedClue
	// matches are those that witnesses joined.
	matches []joined
}

type statement struct {
	witness string
	clue    int
	tuple   key.Tuple
}

type joined struct {
	witness string
	branch  int
	clues   []int               // asked clues
	events  []dossier.FlowEvent // of each, one
	// tuples name the values of the clues, and negated how many that restrict them were
	// seen: with excluded, nothing is left.
	tuples   string
	negated  int
	excluded bool
}

func (q *Inquiry) addStatement(witness string, o *opener, h *dossier.StatedHost) {
	for _, c := range o.clues {
		if !q.pattern.Clues[q.clues[c].of].AcceptsX(h.Addr) {
			return
		}
	}
	host := flow.HostAt(h.Addr, witness)
	s := q.hosts[host]
	if s == nil {
		s = &suspect{said: map[statement]dossier.StatedClue{}}
		q.hosts[host] = s
	}
	n := o.kind.positions()
	m := joined{witness: witness, branch: o.kind.branch, clues: o.clues[:n], negated: len(o.kind.negated), excluded: len(h.Clues) == 0}
	for i := range n {
		b, _ := o.tuples[i].AppendBinary([]byte{byte(o.clues[i])}) // cannot fail
		m.tuples += string(b)
	}
	for i, c := range h.Clues {
		k := statement{witness, o.clues[i], o.tuples[i]}
		if old, again := s.said[k]; !again || len(c.Events) > len(old.Events) {
			s.said[k] = c
		}
		m.events = append(m.events, c.Events[0])
	}
	if !q.config.JoinHere {
		s.matches = append(s.matches, m)
	}
}

// Result is the current state of the inquiry: more answers may still come. What a
// witness said that sprayed counts for nothing (Sprays).
func (q *Inquiry) Result() Result {
	q.markSprays()
	r := Result{
		Version: 1, Pattern: q.pattern.String(), Hash: q.config.Hash.String(), Bits: int(q.config.Hash.Bits),
		Mode: q.config.Mode.String(), Join: "witness", Epoch: q.config.Epoch, Quorum: q.config.Quorum,
		Questions: q.Meter(), Witnesses: slices.Clone(q.witnesses), Hosts: []Match{},
	}
	if q.config.JoinHere {
		r.Join = "detective"
	}
	if r.Witnesses == nil {
		r.Witnesses = []TestimonySummary{}
	}
	for _, w := range r.Witnesses {
		r.Collisions += w.Collisions
	}
	for host, s := range q.hosts {
		if f, ok := q.judgeSuspect(host, q.believable(s)); ok {
			r.Hosts = append(r.Hosts, f)
		}
	}
	slices.SortFunc(r.Hosts, func(a, b Match) int {
		return cmp.Or(cmp.Compare(len(b.Witnesses), len(a.Witnesses)), a.Host.Compare(b.Host))
	})
	return r
}

// judgeSuspect decides whether a host fits and is believed, and why.
func (q *Inquiry) judgeSuspect(host flow.Host, s *suspect) (Match, bool) {
	matches, names := s.matches, map[string]bool{}
	for _, m := range matches {
		names[m.witness] = true
	}
	var quorum, ownWord bool
	if q.config.JoinHere {
		e := q.poolStatements(s)
		matches, names = q.joinEvents(e)
		quorum = q.survivesLiars(e, nil, q.neededClasses()-1)
		ownWord = !quorum && q.isOwnJoin(host, e, names)
	} else {
		quorum = len(q.classesOf(names)) >= q.neededClasses()
		ownWord = !quorum && q.isOwnStatement(host, names)
	}
	if len(matches) == 0 || !quorum && !ownWord {
		return Match{}, false
	}
	f := Match{Host: host, Witnesses: slices.Sorted(maps.Keys(names)), Independent: len(q.classesOf(names)), Believed: ByQuorum}
	if ownWord {
		f.Believed = ByOwnWord
	}
	q.setSpan(&f, s, matches)
	best := slices.MinFunc(matches, func(a, b joined) int { return cmp.Compare(a.last(), b.last()) })
	for i, leaf := range best.clues {
		text := q.pattern.Clues[q.clues[leaf].of].Text
		f.Clues = append(f.Clues, MatchClue{Clue: text, Time: best.events[i].Time, State: best.events[i].State.String()})
	}
	return f, true
}

// settle keeps, of what a witness said of a host under the same values, what is true
// given all that we know to be negated: what takes most of that into account. Whatever
// excludes the host stays true when more is known.
func settle(matches []joined) (out []joined) {
	type place struct {
		witness, tuples string
		branch          int
	}
	at := map[place]int{}
	for _, m := range matches {
		p := place{m.witness, m.tuples, m.branch}
		i, known := at[p]
		switch {
		case !known:
			at[p] = len(out)
			out = append(out, m)
		case out[i].excluded:
		case m.excluded || m.negated > out[i].negated:
			out[i] = m
		}
	}
	return slices.DeleteFunc(out, func(m joined) bool { return m.excluded })
}

func (m *joined) last() flow.Time {
	t := flow.MinTime
	for _, e := range m.events {
		t = max(t, e.Time)
	}
	return t
}

// setSpan sums flows and times over what was said about the clues of a match.
func (q *Inquiry) setSpan(f *Match, s *suspect, matches []joined) {
	used := map[int]bool{}
	for _, m := range matches {
		for _, clue := range m.clues {
			used[clue] = true
		}
	}
	first := true
	for k, c := range s.said {
		if !used[k.clue] {
			continue
		}
		f.Flows += c.Flows
		if first || c.First < f.FirstSeen {
			f.FirstSeen = c.First
		}
		if first || c.Last > f.LastSeen {
			f.LastSeen = c.Last
		}
		first = false
	}
}
