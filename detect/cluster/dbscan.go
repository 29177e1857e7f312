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
// Points are put into cells whose diagonal is radius (Gan and Tao 2015), so that
// a crowded cell needs no distances at all, and cells near each other are found
// with a tree. All processors are used.
func DBSCAN(points [][]float64, radius float64, least int) (labels []int, cores []bool, err error) {
	if err := checkPoints(points); err != nil {
		return nil, nil, err
	}
	if !(radius > 0) || math.IsInf(radius, 0) || least < 1 {
		return nil, nil, fmt.Errorf("DBSCAN needs a positive radius and at least one point, not %v and %d", radius, least)
	}
	g, err := newGrid(points, radius)
	if err != nil {
		return nil, nil, err
	}
	g.findCores(least)
	roots := g.joinCells()
	return g.label(roots), g.cores, nil
}

// SingleLinkage cuts the dendrogram of single linkage (Sibson 1973) at height.
// The clusters are the connected components of the points that are at most height
// apart, which DBSCAN finds when one point is enough for a core.
func SingleLinkage(points [][]float64, height float64) ([]int, error) {
	labels, _, err := DBSCAN(points, height, 1)
	return labels, err
}

type grid struct {
	points  [][]float64
	squared float64
	cells   [][]int32 // members of each cell, by index
	cellOf  []int32
	places  [][]float64 // integer coordinates of each cell
	tree    *Tree       // over places
	cores   []bool
	inCell  [][]int32 // the cores of each cell
}

func newGrid(points [][]float64, radius float64) (*grid, error) {
	d := len(points[0])
	// A little less than the exact side, so that rounding cannot put two points
	// of one cell farther apart than radius.
	side := radius / math.Sqrt(float64(d)) * (1 - 1e-12)
	g := &grid{points: points, squared: radius * radius, cellOf: make([]int32, len(points)), cores: make([]bool, len(points))}
	known := map[string]int32{}
	key := make([]byte, 0, 8*d)
	for i, p := range points {
		place := make([]float64, d)
		key = key[:0]
		for c, v := range p {
			place[c] = math.Floor(v / side)
			if math.Abs(place[c]) > 1<<52 {
				return nil, fmt.Errorf("%w: radius %v is too small beside the value %v; standardise the points first", ErrPoints, radius, v)
			}
			b := uint64(int64(place[c]))
			key = append(key, byte(b), byte(b>>8), byte(b>>16), byte(b>>24), byte(b>>32), byte(b>>40), byte(b>>48), byte(b>>56))
		}
		cell, ok := known[string(key)]
		if !ok {
			cell = int32(len(g.cells))
			known[string(key)] = cell
			g.cells = append(g.cells, nil)
			g.places = append(g.places, place)
		}
		g.cells[cell] = append(g.cells[cell], int32(i))
		g.cellOf[i] = cell
	}
	g.tree = NewTree(g.places)
	return g, nil
}

// near visits the cells that may hold points within radius of those of cell,
// itself included. Between places that differ by n the gap is n-1 sides, and
// radius is the diagonal of one cell.
func (g *grid) near(cell int, visit func(other int) bool) {
	g.tree.within(g.places[cell], float64(len(g.places[cell])), 1, visit)
}

// parallel calls work with 0 to n-1 from all processors.
func parallel(n int, work func(i int)) {
	var next atomic.Int64
	var wait sync.WaitGroup
	const batch = 64
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

func (g *grid) findCores(least int) {
	g.inCell = make([][]int32, len(g.cells))
	parallel(len(g.cells), func(cell int) {
		members := g.cells[cell]
		if len(members) >= least {
			for _, i := range members {
				g.cores[i] = true
			}
			g.inCell[cell] = members
			return
		}
		var others []int
		g.near(cell, func(other int) bool {
			if other != cell {
				others = append(others, other)
			}
			return true
		})
		for _, i := range members {
			if g.crowded(int(i), others, least-len(members)) {
				g.cores[i] = true
				g.inCell[cell] = append(g.inCell[cell], i)
			}
		}
	})
}

// crowded reports whether at least missing points of other cells are within
// radius of point i.
func (g *grid) crowded(i int, others []int, missing int) bool {
	for _, other := range others {
		for _, j := range g.cells[other] {
			if squaredDistance(g.points[i], g.points[j]) <= g.squared {
				if missing--; missing <= 0 {
					return true
				}
			}
		}
	}
	return false
}

// joinCells returns for each cell with cores the cell that names its cluster.
func (g *grid) joinCells() []int32 {
	f := newForest(len(g.cells))
	parallel(len(g.cells), func(cell int) {
		if len(g.inCell[cell]) == 0 {
			return
		}
		g.near(cell, func(other int) bool {
			if other < cell && len(g.inCell[other]) > 0 && !f.same(cell, other) && g.touch(cell, other) {
				f.join(cell, other)
			}
			return true
		})
	})
	roots := make([]int32, len(g.cells))
	for c := range roots {
		roots[c] = int32(f.root(c))
	}
	return roots
}

// touch reports whether two cells have cores within radius of each other.
func (g *grid) touch(a, b int) bool {
	for _, i := range g.inCell[a] {
		for _, j := range g.inCell[b] {
			if squaredDistance(g.points[i], g.points[j]) <= g.squared {
				return true
			}
		}
	}
	return false
}

func (g *grid) label(roots []int32) []int {
	labels := make([]int, len(g.points))
	parallel(len(g.cells), func(cell int) {
		var others []int // found only if a point here is no core
		for _, i := range g.cells[cell] {
			if g.cores[i] {
				labels[i] = int(roots[cell])
				continue
			}
			if others == nil {
				g.near(cell, func(other int) bool { others = append(others, other); return true })
			}
			labels[i] = Noise
			if j := g.nearestCore(int(i), others); j >= 0 {
				labels[i] = int(roots[g.cellOf[j]])
			}
		}
	})
	numbers := map[int]int{}
	for i, core := range g.cores {
		if _, ok := numbers[labels[i]]; core && !ok {
			numbers[labels[i]] = len(numbers)
		}
	}
	for i, l := range labels {
		if l != Noise {
			labels[i] = numbers[l]
		}
	}
	return labels
}

func (g *grid) nearestCore(i int, cells []int) int {
	nearest, best := -1, g.squared
	for _, cell := range cells {
		for _, j := range g.inCell[cell] {
			d := squaredDistance(g.points[i], g.points[j])
			if d < best || d == best && (nearest < 0 || int(j) < nearest) {
				nearest, best = int(j), d
			}
		}
	}
	return nearest
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

// root follows parents, and shortens the path by half. A parent is never larger
// than its child, so that a path ends even while others join.
func (f *forest) root(i int) int {
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

// same may answer false for sets that another goroutine joins just then.
func (f *forest) same(a, b int) bool { return f.root(a) == f.root(b) }

func (f *forest) join(a, b int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a, b = f.root(a), f.root(b)
	f.parent[max(a, b)].Store(int32(min(a, b)))
}
