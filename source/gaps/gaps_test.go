package gaps

import "testing"

func TestSequenceNumbers(t *testing.T) {
	for name, c := range map[string]struct {
		steps    [][2]uint32 // number, count
		lost     uint64
		restarts uint64
	}{
		"none lost":          {[][2]uint32{{10, 3}, {13, 2}, {15, 1}}, 0, 0},
		"last of each":       {[][2]uint32{{10, 3}, {12, 2}, {13, 1}, {23, 10}}, 0, 0},
		"one lost":           {[][2]uint32{{10, 3}, {13, 2}, {20, 3}}, 5, 0},
		"out of order":       {[][2]uint32{{10, 3}, {16, 3}, {13, 3}, {19, 3}}, 0, 0},
		"wraps":              {[][2]uint32{{4294967290, 6}, {0, 2}, {2, 2}}, 0, 0},
		"exporter restarted": {[][2]uint32{{1 << 30, 3}, {0, 3}, {3, 3}}, 0, 1},
	} {
		var s Sequence
		for _, step := range c.steps {
			s.Follow(step[0], step[1])
		}
		if s.Lost() != c.lost || s.Restarts != c.restarts {
			t.Errorf("%s: %d lost, %d restarts", name, s.Lost(), s.Restarts)
		}
	}
}
