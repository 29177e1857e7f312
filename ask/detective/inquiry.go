// Package detective asks witnesses about a pattern and opens what they answer:
// the part of Allman et al. 2006 that knows what it is looking for. It sees
// sealed answers only, and can read those whose tuples it already knows.
package detective

import (
	"cmp"
	"fmt"
	"slices"

	"dragnet/ask/seal"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Style is how a question names its components (section 3.3).
type Style string

// Hybrid uses a standard question where the catalogue has one and a mask
// elsewhere; the others insist on one kind.
const (
	Hybrid         Style = "hybrid"
	Standard       Style = "standard"
	SelfDescribing Style = "self-describing"
)

// Configuration of one inquiry.
type Configuration struct {
	Mode dossier.Mode
	Hash key.Hash
	// JoinHere asks each clue alone and joins the answers, over all witnesses,
	// on our side. Otherwise each witness joins, and testifies only about hosts
	// that fit the whole pattern.
	JoinHere bool
	Style    Style
	Window   flow.Window
	// Epoch names the salts. A pattern asked again must keep the epoch of its
	// first time: under another salt, the false matches of the two could be
	// told from the true one.
	Epoch string
	// KDFMemory is the cost of one guess in Paper mode, in KiB.
	KDFMemory uint32
	// Quorum is how many independent witnesses must name a host.
	Quorum int
	// Fraction, 0 to 1, raises the quorum to this share of the independent
	// witnesses that were asked.
	Fraction float64
	// OwnWord believes a verified witness about hosts of its own networks
	// without a second one: a witness gains nothing by accusing its own hosts falsely.
	OwnWord bool
}

// Inquiry is one pattern being asked. It is not safe for concurrent use.
type Inquiry struct {
	config   Configuration
	pattern  *pattern.Pattern
	reply    *seal.ReplyKey
	clues    []clue
	branches []*pattern.Node
	kinds    []answerKind // of answers that can come
	question []byte
	id       dossier.QuestionID
	metered  []MeteredKey // once Meter was called
	hidden   []key.Hidden // of the addresses in metered

	sources   map[string]KnownWitness // by name, of those asked or heard
	witnesses []TestimonySummary
	sprayed   map[string]bool // witnesses whose answers count for nothing, by markSprays
	hosts     map[flow.Host]*suspect
}

// clue is one asked clue with what only we know of it: per key, in the order
// asked, the tuple and its blinding.
type clue struct {
	of      int // index into the pattern's clues
	asked   dossier.AskedClue
	tuples  []key.Tuple
	blinded []*seal.Blinded
}

// maxCombinations bounds the keys that may open an answer, about 200 bytes each.
const maxCombinations = 1 << 20

// New prepares the question for a pattern.
func New(config Configuration, p *pattern.Pattern) (*Inquiry, error) {
	if config.Quorum < 1 {
		return nil, fmt.Errorf("quorum is %d; want at least 1 witness", config.Quorum)
	}
	if config.Fraction < 0 || config.Fraction > 1 {
		return nil, fmt.Errorf("fraction is %g; want a share between 0 and 1 of the witnesses asked", config.Fraction)
	}
	reply, err := seal.NewReplyKey()
	if err != nil {
		return nil, err
	}
	q := &Inquiry{config: config, pattern: p, reply: reply, sources: map[string]KnownWitness{}, hosts: map[flow.Host]*suspect{}}
	if err := q.askClues(); err != nil {
		return nil, err
	}
	if q.branches, err = pattern.Branches(p.Root, q.leavesOf); err != nil {
		return nil, err
	}
	if err := q.checkCombinations(); err != nil {
		return nil, err
	}
	return q, q.encodeQuestion()
}

// askClues makes one asked clue per clue and mask.
func (q *Inquiry) askClues() error {
	timed := map[int]bool{}
	q.pattern.Root.EachNegated(func(clue int, inTime bool) { timed[clue] = inTime })
	for i := range q.pattern.Clues {
		c := &q.pattern.Clues[i]
		byMask := map[key.Mask][]key.Tuple{}
		var masks []key.Mask
		for _, t := range c.Tuples() {
			if _, seen := byMask[t.Mask]; !seen {
				masks = append(masks, t.Mask)
			}
			byMask[t.Mask] = append(byMask[t.Mask], t)
		}
		for _, m := range masks {
			each := len(byMask[m])
			if timed[i] {
				each = 1 // a witness says what is left for each of them
			}
			for tuples := range slices.Chunk(byMask[m], each) {
				if err := q.askClue(i, m, tuples); err != nil {
					return fmt.Errorf("clue %q: %w", c.Text, err)
				}
			}
		}
	}
	if len(q.clues) > dossier.MaxAskedClues {
		return fmt.Errorf("the pattern's lists need %d masks; at most %d in one question", len(q.clues), dossier.MaxAskedClues)
	}
	return nil
}

func (q *Inquiry) askClue(of int, m key.Mask, tuples []key.Tuple) error {
	end := q.pattern.Clues[of].End
	salt := key.OneShotSalt(m, q.config.Epoch)
	keyer, err := key.NewKeyer(m, end, q.config.Hash, salt)
	if err != nil {
		return err
	}
	slices.SortStableFunc(tuples, func(a, b key.Tuple) int { return cmp.Compare(keyer.Tuple(a), keyer.Tuple(b)) })
	c := clue{of: of, tuples: tuples, asked: dossier.AskedClue{End: end, Mask: m, State: q.pattern.Clues[of].State, Bounds: q.pattern.Clues[of].Bounds, Salt: salt}}
	if c.asked.Standard, err = q.chooseSalt(end, m); err != nil {
		return err
	}
	for _, t := range tuples {
		asked := dossier.AskedKey{K: keyer.Tuple(t)}
		if q.config.Mode == dossier.OPRF {
			b, err := seal.Blind(t)
			if err != nil {
				return err
			}
			c.blinded = append(c.blinded, b)
			asked.Blinded = b.Element
		}
		c.asked.Keys = append(c.asked.Keys, asked)
	}
	q.clues = append(q.clues, c)
	return nil
}

func (q *Inquiry) chooseSalt(end key.End, m key.Mask) (uint16, error) {
	id := key.StandardID(end, m)
	switch {
	case q.config.Style == SelfDescribing:
		return 0, nil
	case q.config.Style == Standard && id == 0:
		return 0, fmt.Errorf("no standard question has X at %q and the components %s; ask it self-describing", end, m)
	}
	return id, nil
}

// leavesOf is the subtree of asked clues that replaces a pattern's clue.
func (q *Inquiry) leavesOf(of int) *pattern.Node {
	var n *pattern.Node
	for i := range q.clues {
		if q.clues[i].of != of {
			continue
		}
		leaf := &pattern.Node{Op: pattern.Leaf, Clue: i}
		if n == nil {
			n = leaf
		} else {
			n = &pattern.Node{Op: pattern.Or, Left: n, Right: leaf}
		}
	}
	return n
}

func (q *Inquiry) checkCombinations() error {
	for _, b := range q.branches {
		if err := pattern.CheckBranch(b); err != nil {
			return err
		}
	}
	all := 0
	q.kinds = q.answerKinds()
	for i := range q.kinds {
		if all += q.combinations(&q.kinds[i]); all > maxCombinations {
			return fmt.Errorf("the pattern's lists multiply to more than %d combinations; join at the detective, or ask in parts", maxCombinations)
		}
	}
	return nil
}

func (q *Inquiry) encodeQuestion() error {
	out := dossier.Question{Mode: q.config.Mode, Hash: q.config.Hash, Epoch: q.config.Epoch, Window: q.config.Window, Reply: q.reply.Public()}
	if q.config.Mode == dossier.Paper {
		out.KDFMemory = q.config.KDFMemory
	}
	for i := range q.clues {
		out.Clues = append(out.Clues, q.clues[i].asked)
	}
	if !q.config.JoinHere {
		out.Branches = q.branches
	}
	b, err := out.MarshalBinary()
	if err != nil {
		return fmt.Errorf("write the question: %w", err)
	}
	// A witness will check the same: better to fail here, with our words.
	if err := new(dossier.Question).UnmarshalBinary(b); err != nil {
		return err
	}
	q.question, q.id = b, dossier.IDOf(b)
	return nil
}

// Question is what every witness is sent.
func (q *Inquiry) Question() []byte { return q.question }

// ID names the question.
func (q *Inquiry) ID() dossier.QuestionID { return q.id }
