package dossier

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
)

// Background is f0: the frequency of each byte in normal traffic. All 256
// values are positive and sum to 1.
type Background [256]float64

// NewBackground smooths counts with one half per byte value (Krichevsky and
// Trofimov's estimator), so that no byte is impossible.
func NewBackground(counts *[256]uint64) *Background {
	var total float64
	for _, c := range counts {
		total += float64(c)
	}
	var bg Background
	for b, c := range counts {
		bg[b] = (float64(c) + 0.5) / (total + 128)
	}
	return &bg
}

func (bg *Background) checkSum() error {
	sum := 0.0
	for b, f := range bg {
		if !(f > 1e-12) || f > 1 {
			return fmt.Errorf("background gives byte %#02x the probability %g; every byte needs one above 0", b, f)
		}
		sum += f
	}
	if math.Abs(sum-1) > 1e-6 {
		return fmt.Errorf("background sums to %g, not 1", sum)
	}
	return nil
}

// UnmarshalJSON requires 256 values: Go would silently pad a shorter array.
func (bg *Background) UnmarshalJSON(b []byte) error {
	var v []float64
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	if len(v) != len(bg) {
		return fmt.Errorf("background has %d values, want 256", len(v))
	}
	copy(bg[:], v)
	return nil
}

// Block is f1..fW: one distribution over byte values per position.
type Block struct {
	// Gap is the distance from the end of the block before this one.
	Gap Gap `json:"gap,omitzero"`
	// Pseudo is d, added to every count (equation 3-3).
	Pseudo  float64  `json:"pseudo"`
	Columns []Column `json:"columns"`
}

// Gap is a range of distances in bytes.
type Gap struct {
	Min int `json:"min"`
	Max int `json:"max"`
}

// Column counts byte values at one position; mixture learning gives fractions.
type Column map[byte]float64

// Total is n of equation 3-3.
func (c Column) Total() float64 {
	n := 0.0
	for _, b := range c.sortedBytes() {
		n += c[b]
	}
	return n
}

// sortedBytes are the bytes seen, in order: floating-point sums must not depend on
// the order of a map.
func (c Column) sortedBytes() []byte {
	bs := make([]byte, 0, len(c))
	for b := range c {
		bs = append(bs, b)
	}
	slices.Sort(bs)
	return bs
}

// MarshalJSON writes {"41":37,"ff":2}: byte values in hexadecimal.
func (c Column) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, b := range c.sortedBytes() {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, `"%02x":`, b)
		out = strconv.AppendFloat(out, c[b], 'g', -1, 64)
	}
	return append(out, '}'), nil
}

// UnmarshalJSON reads what MarshalJSON writes.
func (c *Column) UnmarshalJSON(b []byte) error {
	var raw map[string]float64
	if err := json.Unmarshal(b, &raw); err != nil {
		return err
	}
	*c = make(Column, len(raw))
	for k, v := range raw {
		x, err := strconv.ParseUint(k, 16, 8)
		if err != nil || len(k) != 2 {
			return fmt.Errorf("column key %q is not a byte in two hexadecimal digits", k)
		}
		(*c)[byte(x)] = v
	}
	return nil
}

func (b *Block) checkColumns() error {
	if len(b.Columns) == 0 || len(b.Columns) > MaxWidth {
		return fmt.Errorf("width %d, want 1 to %d", len(b.Columns), MaxWidth)
	}
	if !(b.Pseudo >= 1e-9) || b.Pseudo > 1e3 {
		return fmt.Errorf("pseudo-count %g, want 1e-9 to 1000", b.Pseudo)
	}
	for p, c := range b.Columns {
		for x, n := range c {
			if !(n >= 0) || n > 1e12 {
				return fmt.Errorf("position %d: count %g of byte %#02x is not usable", p+1, n, x)
			}
		}
		if !(c.Total() > 0) {
			return fmt.Errorf("position %d: %w", p+1, errZeroColumn)
		}
	}
	return nil
}

var errZeroColumn = errors.New("no bytes were counted there")

// Probabilities is f_p for all byte values at position p (0-based).
func (b *Block) Probabilities(p int) (f [256]float64) {
	c := b.Columns[p]
	total := c.Total() + 256*b.Pseudo
	for x := range f {
		f[x] = (c[byte(x)] + b.Pseudo) / total
	}
	return f
}

// Weights is log(f_p(x)/f0(x)) in nats, one row per position. Their mean along
// a window is its score Omega (equation 3-2).
func (b *Block) Weights(bg *Background) [][256]float64 {
	w := make([][256]float64, len(b.Columns))
	for p := range w {
		f := b.Probabilities(p)
		for x := range f {
			w[p][x] = math.Log(f[x] / bg[x])
		}
	}
	return w
}

// Information is the relative entropy of each position against the background,
// in bits: the information of one observation there.
func (b *Block) Information(bg *Background) []float64 {
	info := make([]float64, len(b.Columns))
	for p := range info {
		for x, f := range b.Probabilities(p) {
			info[p] += f * math.Log2(f/bg[x])
		}
	}
	return info
}
