package pattern

import (
	"errors"
	"fmt"
	"slices"
)

// MaxBranches bounds the alternatives of one pattern.
const MaxBranches = 64

// MaxThenNots bounds, in one branch, the negated clues beside a Then: an answer for
// each choice of them is sealed.
const MaxThenNots = 4

// Branches rewrites n as alternatives without Or: a host matches n if it
// matches one of them. Below Not there is one leaf, each of several is one Not;
// below AtLeast the Or stays. substitute may replace a leaf by alternatives (nil keeps
// leaves), which is how a clue becomes one leaf per mask.
func Branches(n *Node, substitute func(clue int) *Node) ([]*Node, error) {
	if substitute == nil {
		substitute = func(clue int) *Node { return &Node{Op: Leaf, Clue: clue} }
	}
	return expansion{substitute}.expand(n)
}

type expansion struct{ substitute func(clue int) *Node }

func (e expansion) expand(n *Node) ([]*Node, error) {
	switch n.Op {
	case Leaf:
		return orLeaves(e.substitute(n.Clue)), nil
	case AtLeast:
		leaves := e.leaves(n.Left)
		in := leaves[0]
		for _, l := range leaves[1:] {
			in = &Node{Op: Or, Left: in, Right: l}
		}
		return []*Node{{Op: AtLeast, Count: n.Count, Left: in}}, nil
	}
	if n.Right.Op == Not {
		left, err := e.expand(n.Left)
		for _, leaf := range e.leaves(n.Right.Left) {
			for i := range left {
				left[i] = &Node{Op: n.Op, Within: n.Within, Left: left[i], Right: &Node{Op: Not, Left: leaf}}
			}
		}
		return left, err
	}
	if n.Left.Op == Not {
		right, err := e.expand(n.Right)
		for _, leaf := range e.leaves(n.Left.Left) {
			for i := range right {
				right[i] = &Node{Op: n.Op, Within: n.Within, Left: &Node{Op: Not, Left: leaf}, Right: right[i]}
			}
		}
		return right, err
	}
	left, err := e.expand(n.Left)
	if err != nil {
		return nil, err
	}
	right, err := e.expand(n.Right)
	if err != nil {
		return nil, err
	}
	if n.Op == Or {
		left = append(left, right...)
		if len(left) > MaxBranches {
			return nil, tooMany()
		}
		return left, nil
	}
	if len(left)*len(right) > MaxBranches {
		return nil, tooMany()
	}
	var out []*Node
	for _, l := range left {
		for _, r := range right {
			out = append(out, &Node{Op: n.Op, Within: n.Within, Left: l, Right: r})
		}
	}
	return out, nil
}

// leaves are those of alternatives, each substituted.
func (e expansion) leaves(n *Node) (out []*Node) {
	for _, leaf := range orLeaves(n) {
		out = append(out, orLeaves(e.substitute(leaf.Clue))...)
	}
	return out
}

// orLeaves lists the operands of a tree of Or.
func orLeaves(n *Node) []*Node {
	if n.Op != Or {
		return []*Node{n}
	}
	return append(orLeaves(n.Left), orLeaves(n.Right)...)
}

// onlyClues reports whether n is a clue or alternatives of clues.
func onlyClues(n *Node) bool {
	return !slices.ContainsFunc(orLeaves(n), func(leaf *Node) bool { return leaf.Op != Leaf })
}

func tooMany() error {
	return fmt.Errorf("pattern has more than %d alternatives; ask its parts one by one", MaxBranches)
}

// Leaves lists the clue numbers below n from left to right, without those below Not
// and AtLeast, unless n is alternatives of clues itself.
func (n *Node) Leaves() []int {
	switch n.Op {
	case Leaf:
		return []int{n.Clue}
	case Not, AtLeast:
		return nil
	}
	return append(n.Left.Leaves(), n.Right.Leaves()...)
}

// Negated is a negated clue of a branch.
type Negated struct {
	Clue int
	// Timed says that it is beside a Then.
	Timed bool
}

// Negations lists the negated clues of a branch from left to right.
func (n *Node) Negations() (out []Negated) {
	n.EachNegated(func(clue int, timed bool) { out = append(out, Negated{clue, timed}) })
	return out
}

// EachNegated calls use with every clue below a Not of a pattern.
func (n *Node) EachNegated(use func(clue int, timed bool)) {
	if n.Op == Leaf || n.Op == Not || n.Op == AtLeast {
		return
	}
	for _, side := range []*Node{n.Left, n.Right} {
		if side.Op == Not {
			for _, clue := range side.Left.Leaves() {
				use(clue, n.Op == Then)
			}
		} else {
			side.EachNegated(use)
		}
	}
}

// Clues lists all clue numbers of a branch: its leaves, those it counts, those it
// negates.
func (n *Node) Clues() []int {
	out := n.Leaves()
	_, counted := n.Quorum()
	out = append(out, counted...)
	n.EachNegated(func(clue int, _ bool) { out = append(out, clue) })
	return out
}

// Quorum is the AtLeast of a branch: how many values it requires, of which clues. K
// is 0 if it has none.
func (n *Node) Quorum() (k int, clues []int) {
	switch n.Op {
	case Leaf, Not:
		return 0, nil
	case AtLeast:
		return n.Count, n.Left.Leaves()
	}
	if k, clues = n.Left.Quorum(); k == 0 {
		k, clues = n.Right.Quorum()
	}
	return k, clues
}

// checkForm says what is wrong with the places of Not and AtLeast, empty if nothing.
func checkForm(n *Node) string {
	const alone = "not stands beside what it restricts: A and not B, A then[1h] not B, not B then[1h] A"
	switch n.Op {
	case Leaf, AtLeast:
		return ""
	case Not:
		return alone
	}
	for _, side := range []*Node{n.Left, n.Right} {
		if side.Op == Not && (n.Op == Or || n.Left.Op == Not && n.Right.Op == Not) {
			return alone
		}
		if side.Op != Not {
			if message := checkForm(side); message != "" {
				return message
			}
		}
		if n.Op == Then {
			if k, _ := side.Quorum(); k > 0 {
				return "a count of clues, such as 2 of (A or B), has no place in time: join it with and"
			}
		}
	}
	if n.Op == Then && n.Left.Op == Not && !onlyClues(withoutNotBefore(n.Right)) {
		return "not before something needs a single clue after it: not B then[1h] A"
	}
	left, _ := n.Left.Quorum()
	if n.Op == And && n.Right.Op != Not && left > 0 {
		if right, _ := n.Right.Quorum(); right > 0 {
			return "an alternative has at most one count of clues"
		}
	}
	return ""
}

// withoutNotBefore is what follows "not B then".
func withoutNotBefore(n *Node) *Node {
	for n.Op == Then && n.Left.Op == Not {
		n = n.Right
	}
	return n
}

// CheckBranch reports what no branch of Branches has, and a witness cannot match.
func CheckBranch(n *Node) error {
	if message := checkForm(n); message != "" {
		return errors.New(message)
	}
	timed := 0
	for _, v := range n.Negations() {
		if v.Timed {
			timed++
		}
	}
	if timed > MaxThenNots {
		return fmt.Errorf("a pattern has at most %d values negated in time", MaxThenNots)
	}
	return nil
}
