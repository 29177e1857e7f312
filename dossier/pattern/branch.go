package pattern

import "fmt"

// MaxBranches bounds the alternatives of one pattern.
const MaxBranches = 64

// Branches rewrites n as alternatives without Or: a host matches n if it
// matches one of them. substitute may replace a leaf by any subtree (nil keeps
// leaves), which is how a clue becomes one leaf per mask.
func Branches(n *Node, substitute func(clue int) *Node) ([]*Node, error) {
	var expand func(n *Node) ([]*Node, error)
	expand = func(n *Node) ([]*Node, error) {
		if n.Op == Leaf {
			if substitute == nil {
				return []*Node{n}, nil
			}
			return orLeaves(substitute(n.Clue)), nil
		}
		left, err := expand(n.Left)
		if err != nil {
			return nil, err
		}
		right, err := expand(n.Right)
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
	return expand(n)
}

// orLeaves lists the operands of a tree of Or.
func orLeaves(n *Node) []*Node {
	if n.Op != Or {
		return []*Node{n}
	}
	return append(orLeaves(n.Left), orLeaves(n.Right)...)
}

func tooMany() error {
	return fmt.Errorf("pattern has more than %d alternatives; ask its parts one by one", MaxBranches)
}

// Leaves lists the clue numbers below n from left to right.
func (n *Node) Leaves() []int {
	if n.Op == Leaf {
		return []int{n.Clue}
	}
	return append(n.Left.Leaves(), n.Right.Leaves()...)
}
