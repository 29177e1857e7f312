package cluster

import (
	"math"
	"slices"
)

// leafSize is the number of points below which a node is not split.
const leafSize = 12

// Tree is a k-d tree (Bentley 1975) whose nodes hold the box around their
// points, so that flat data is pruned as well as full data. It is read by any
// number of goroutines.
type Tree struct {
	points [][]float64
	order  []int32
	nodes  []node
	boxes  []float64 // for each node the low and then the high corner
	flat   []float64 // the points in order, one after the other
}

type node struct {
	from, to    int32 // in order
	left, right int32 // 0 for a leaf
}

// NewTree indexes points, which must have equal lengths and be finite; it keeps
// a reference to them.
func NewTree(points [][]float64) *Tree {
	t := &Tree{points: points, order: make([]int32, len(points))}
	for i := range t.order {
		t.order[i] = int32(i)
	}
	if len(points) > 0 {
		t.buildNode(0, int32(len(points)))
	}
	for _, i := range t.order {
		t.flat = append(t.flat, points[i]...)
	}
	return t
}

func (t *Tree) buildNode(from, to int32) int32 {
	at := int32(len(t.nodes))
	t.nodes = append(t.nodes, node{from: from, to: to})
	low := slices.Clone(t.points[t.order[from]])
	high := slices.Clone(low)
	for _, i := range t.order[from:to] {
		for d, v := range t.points[i] {
			low[d], high[d] = min(low[d], v), max(high[d], v)
		}
	}
	t.boxes = append(append(t.boxes, low...), high...)
	widest := 0
	for d := range low {
		if high[d]-low[d] > high[widest]-low[widest] {
			widest = d
		}
	}
	if to-from <= leafSize || high[widest] == low[widest] {
		return at
	}
	middle := t.splitPoints(from, to, widest, low[widest]+(high[widest]-low[widest])/2)
	left := t.buildNode(from, middle)
	right := t.buildNode(middle, to)
	t.nodes[at].left, t.nodes[at].right = left, right
	return at
}

// splitPoints puts points at or below value before the others, and returns the place
// of the first of those. Neither side is empty, as value lies between the
// extremes; depth is bounded because a box halves, and floating point has few
// halvings.
func (t *Tree) splitPoints(from, to int32, d int, value float64) int32 {
	middle := from
	for i := from; i < to; i++ {
		if t.points[t.order[i]][d] <= value {
			t.order[i], t.order[middle] = t.order[middle], t.order[i]
			middle++
		}
	}
	return middle
}

// pointAt returns the point at a place in order.
func (t *Tree) pointAt(place int32) []float64 {
	d := len(t.points[0])
	return t.flat[int(place)*d : (int(place)+1)*d : (int(place)+1)*d]
}

// listLeaves returns the nodes without children.
func (t *Tree) listLeaves() (all []int32) {
	for n := range t.nodes {
		if t.nodes[n].left == 0 {
			all = append(all, int32(n))
		}
	}
	return all
}

// boxGap is the squared distance between the boxes of two nodes.
func (t *Tree) boxGap(m, n int32) float64 {
	d := len(t.points[0])
	a, b := t.boxes[int(m)*2*d:int(m+1)*2*d], t.boxes[int(n)*2*d:int(n+1)*2*d]
	sum := 0.0
	for c := range d {
		if g := max(a[c]-b[d+c], b[c]-a[d+c]); g > 0 {
			sum += g * g
		}
	}
	return sum
}

// gapTo returns the squared distance from q to the box of node n.
func (t *Tree) gapTo(n int32, q []float64) float64 {
	d := len(q)
	box := t.boxes[int(n)*2*d : int(n+1)*2*d]
	sum := 0.0
	for c, v := range q {
		if g := max(box[c]-v, v-box[d+c]); g > 0 {
			sum += g * g
		}
	}
	return sum
}

// Nearest is the point nearest to q and its distance; index is -1 if the tree
// is empty. Of equals the one with the lowest index is taken.
func (t *Tree) Nearest(q []float64) (index int, distance float64) {
	index, squared := t.findNearest(q, math.Inf(1))
	return index, math.Sqrt(squared)
}

// findNearest looks up to a squared distance only; index is -1 if there is nothing.
func (t *Tree) findNearest(q []float64, limit float64) (index int, best float64) {
	index, best = -1, limit
	if len(t.nodes) == 0 {
		return index, best
	}
	var room [64]int32
	stack := append(room[:0], 0)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if t.gapTo(n, q) > best {
			continue
		}
		at := t.nodes[n]
		if at.left == 0 {
			for p := at.from; p < at.to; p++ {
				d, i := squaredDistance(t.pointAt(p), q), int(t.order[p])
				if d < best || d == best && (index < 0 || i < index) {
					index, best = i, d
				}
			}
			continue
		}
		if t.gapTo(at.left, q) <= t.gapTo(at.right, q) {
			stack = append(stack, at.right, at.left)
		} else {
			stack = append(stack, at.left, at.right)
		}
	}
	return index, best
}
