package cluster

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
)

// DBSCAN finds clusters by density (Ester et al. 1996): a point with at least
// least points within radius, itself included, is a core; cores within radius of
// each other share a cluster; any other point within radius of a core is in the
// cluster of its nearest core, and the rest is Noise. The paper leaves a border
// point between two clusters to chance; the nearest core decides here, and of
// equals the lowest index. Clusters are numbered by their first core.
//
// Pairs of boxes of a k-d tree are compared rather than points: farther apart than
// radius they have no neighbours, and once all cores in both are known to share a
// cluster nothing more is to be learnt from them (as in the dual-tree minimum
// spanning trees of March, Ram and Gray 2010). All processors are used.
func DBSCAN(points [][]float64, radius float64, least int) (labels []int, cores []bool, err error) {
	if err := checkPoints(points); err != nil {
		return nil, nil, err
	}
	if !(radius > 0) || math.IsInf(radius, 0) || least < 1 {
		return nil, nil, fmt.Errorf("DBSCAN needs a positive radius and at least one point, not %v and %d", radius, least)
	}
	cores = findCores(points, radius*radius, least)
	j := newJoin(points, cores, radius*radius)
	if len(j.index) > 0 {
		j.joinWithin(0)
	}
	return j.labelPoints(points, cores), cores, nil
}

// SingleLinkage cuts the dendrogram of single linkage (Sibson 1973) at height.
// The clusters are the connected components of the points that are at most height
// apart, which DBSCAN finds when one point is enough for a core.
func SingleLinkage(points [][]float64, height float64) ([]int, error) {
	labels, _, err := DBSCAN(points, height, 1)
	return labels, err
}

// runParallel calls work with 0 to n-1 from all processors.
func runParallel(n int, work func(i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	const batch = 16
	for range runtime.GOMAXPROCS(0) {
		wait.Go(func() {
			for {
				from := int(next.Add(batch)) - batch
				if from >= n {
					return
				}
				for i := from; i < min(from+batch, n); i++ {
					work(i)
				}
			}
		})
	}
	wait.Wait()
}

// findCores counts neighbours, for all points of a leaf together, and stops when
// each has enough.
func findCores(points [][]float64, squared float64, least int) []bool {
	cores := make([]bool, len(points))
	if least == 1 {
		for i := range cores {
			cores[i] = true
		}
		return cores
	}
	t := NewTree(points)
	leaves := t.listLeaves()
	runParallel(len(leaves), func(k int) {
		c := counting{t: t, leaf: leaves[k], squared: squared, least: least}
		for p := t.nodes[c.leaf].from; p < t.nodes[c.leaf].to; p++ {
			c.open = append(c.open, p)
		}
		c.counts = make([]int, len(c.open))
		c.visitNode(0)
		for k, n := range c.counts {
			cores[t.order[t.nodes[c.leaf].from+int32(k)]] = n >= least
		}
	})
	return cores
}

// counting is the count of neighbours of the points of one leaf.
type counting struct {
	t       *Tree
	leaf    int32
	squared float64
	least   int
	counts  []int
	open    []int32 // places of points that have not enough yet
}

func (c *counting) visitNode(n int32) {
	if len(c.open) == 0 || c.t.boxGap(c.leaf, n) > c.squared {
		return
	}
	if at := &c.t.nodes[n]; at.left != 0 {
		near, far := at.left, at.right
		if c.t.boxGap(c.leaf, far) < c.t.boxGap(c.leaf, near) {
			near, far = far, near
		}
		c.visitNode(near)
		c.visitNode(far)
		return
	}
	from, to := c.t.nodes[n].from, c.t.nodes[n].to
	left := c.open[:0]
	for _, p := range c.open {
		count := &c.counts[p-c.t.nodes[c.leaf].from]
		mine := c.t.pointAt(p)
		if c.t.gapTo(n, mine) <= c.squared {
			for q := from; q < to && *count < c.least; q++ {
				if squaredDistance(mine, c.t.pointAt(q)) <= c.squared {
					*count++
				}
			}
		}
		if *count < c.least {
			left = append(left, p)
		}
	}
	c.open = left
}

// join makes clusters of cores.
type join struct {
	t       *Tree // over the cores
	index   []int // of each core among all points
	squared float64
	sets    *forest // by place in the tree
	// uniform says of nodes that all their cores are known to share a cluster.
	uniform []atomic.Bool
	running atomic.Int32 // goroutines beside the first
}

func newJoin(points [][]float64, cores []bool, squared float64) *join {
	j := &join{squared: squared}
	var of [][]float64
	for i, core := range cores {
		if core {
			j.index = append(j.index, i)
			of = append(of, points[i])
		}
	}
	j.t = NewTree(of)
	j.sets = newForest(len(of))
	j.uniform = make([]atomic.Bool, len(j.t.nodes))
	return j
}

// runBoth does two things, at once if a processor is free and they are worth it.
func (j *join) runBoth(size int32, a, b func()) {
	const worth = 4096
	if size < worth || int(j.running.Add(1)) >= runtime.GOMAXPROCS(0) {
		if size >= worth {
			j.running.Add(-1)
		}
		a()
		b()
		return
	}
	var wait sync.WaitGroup
	wait.Go(func() {
		defer j.running.Add(-1)
		a()
	})
	b()
	wait.Wait()
}

// joinWithin joins what is near within node n.
func (j *join) joinWithin(n int32) {
	at := &j.t.nodes[n]
	if at.left == 0 {
		for p := at.from; p < at.to; p++ {
			j.joinNear(p, p+1, at.to)
		}
	} else {
		j.runBoth(at.to-at.from, func() { j.joinWithin(at.left) }, func() { j.joinWithin(at.right) })
		j.joinBetween(at.left, at.right)
	}
	j.learnUniform(n)
}

// learnUniform finds out whether n is uniform; once it is, it stays so.
func (j *join) learnUniform(n int32) bool {
	if j.uniform[n].Load() {
		return true
	}
	at := &j.t.nodes[n]
	if at.left != 0 {
		if !j.uniform[at.left].Load() || !j.uniform[at.right].Load() || !j.sets.isSame(int(j.t.nodes[at.left].from), int(j.t.nodes[at.right].from)) {
			return false
		}
	} else {
		for p := at.from + 1; p < at.to; p++ {
			if !j.sets.isSame(int(at.from), int(p)) {
				return false
			}
		}
	}
	j.uniform[n].Store(true)
	return true
}

// isSettled reports whether all cores of a and of b are known to share a cluster.
func (j *join) isSettled(a, b int32) bool {
	return j.learnUniform(a) && j.learnUniform(b) && j.sets.isSame(int(j.t.nodes[a].from), int(j.t.nodes[b].from))
}

// joinBetween joins what is near between two nodes that do not overlap.
func (j *join) joinBetween(a, b int32) {
	if j.t.boxGap(a, b) > j.squared || j.isSettled(a, b) {
		return
	}
	x, y := &j.t.nodes[a], &j.t.nodes[b]
	switch {
	case x.left == 0 && y.left == 0:
		for p := x.from; p < x.to; p++ {
			if j.t.gapTo(b, j.t.pointAt(p)) <= j.squared {
				j.joinNear(p, y.from, y.to)
			}
		}
	case y.left == 0 || x.left != 0 && x.to-x.from >= y.to-y.from:
		j.nearerFirst(x.left, x.right, b, x.to-x.from)
	default:
		j.nearerFirst(y.left, y.right, a, y.to-y.from)
	}
}

func (j *join) nearerFirst(one, two, b, size int32) {
	if j.t.boxGap(two, b) < j.t.boxGap(one, b) {
		one, two = two, one
	}
	j.runBoth(size, func() { j.joinBetween(one, b) }, func() { j.joinBetween(two, b) })
}

// joinNear joins the core at place p with those from first to before end that are
// within radius.
func (j *join) joinNear(p, first, end int32) {
	mine := j.t.pointAt(p)
	for q := first; q < end; q++ {
		if !j.sets.isSame(int(p), int(q)) && squaredDistance(mine, j.t.pointAt(q)) <= j.squared {
			j.sets.joinSets(int(p), int(q))
		}
	}
}

func (j *join) labelPoints(points [][]float64, cores []bool) []int {
	labels := make([]int, len(points))
	for i := range labels {
		labels[i] = Noise
	}
	root := make([]int, len(j.index))
	for p, i := range j.t.order {
		root[i] = j.sets.findRoot(p)
	}
	numbers := map[int]int{}
	for k, i := range j.index {
		if _, ok := numbers[root[k]]; !ok {
			numbers[root[k]] = len(numbers)
		}
		labels[i] = numbers[root[k]]
	}
	runParallel(len(points), func(i int) {
		if cores[i] {
			return
		}
		// Cores are in the order of their indices, so that of equals the lowest
		// is nearest.
		if k, d := j.t.findNearest(points[i], j.squared); k >= 0 && d <= j.squared {
			labels[i] = labels[j.index[k]]
		}
	})
	return labels
}

// forest joins sets; it is safe for several goroutines.
type forest struct {
	mu     sync.Mutex // taken to join; to look needs none
	parent []atomic.Int32
}

func newForest(n int) *forest {
	f := &forest{parent: make([]atomic.Int32, n)}
	for i := range f.parent {
		f.parent[i].Store(int32(i))
	}
	return f
}

// findRoot follows parents, and shortens the path by half. A parent is never larger
// than its child, so that a path ends even while others join.
func (f *forest) findRoot(i int) int {
	for {
		p := f.parent[i].Load()
		if int(p) == i {
			return i
		}
		if above := f.parent[p].Load(); above != p {
			f.parent[i].CompareAndSwap(p, above)
		}
		i = int(p)
	}
}

// isSame may answer false for sets that another goroutine joins just then.
func (f *forest) isSame(a, b int) bool { return f.findRoot(a) == f.findRoot(b) }

func (f *forest) joinSets(a, b int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, b = f.findRoot(a), f.findRoot(b)
	f.parent[max(a, b)].Store(int32(min(a, b)))
}
