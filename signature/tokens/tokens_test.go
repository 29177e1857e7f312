package tokens_test

import (
	"errors"
	"math"
	"testing"

	"dragnet/dossier"
	"dragnet/signature/tokens"
)

// signature has certain bytes at all positions but every fourth, which is
// anything.
func signature(width int) *dossier.Signature {
	var counts [256]uint64
	for x := range counts {
		counts[x] = 100
	}
	b := dossier.Block{Pseudo: 0.01}
	for p := range width {
		c := dossier.Column{}
		if p%4 == 3 {
			for x := range 64 {
				c[byte(x*4)] = 2
			}
		} else {
			c[byte(0x80+p)] = 97
			c[byte(p)] = 3
		}
		b.Columns = append(b.Columns, c)
	}
	return &dossier.Signature{Name: "s", Background: *dossier.NewBackground(&counts), Parts: []dossier.Part{{Blocks: []dossier.Block{b}}}}
}

func TestLowerChoosesCertainPositions(t *testing.T) {
	a, err := tokens.Lower(signature(48), tokens.Options{FalseAlarms: 1})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range a.Contents {
		if !c.Fixed[0] || !c.Fixed[len(c.Fixed)-1] {
			t.Errorf("%v begins or ends with a wildcard", c)
		}
		surprise, fixed := 0.0, 0
		for i, f := range c.Fixed {
			if f {
				fixed++
				surprise += math.Log(256)
				if c.Bytes[i] < 0x80 {
					t.Errorf("byte %#x is fixed, which the signature does not make certain", c.Bytes[i])
				}
			}
		}
		if fixed < 4 || 1e9*math.Exp(-surprise) > 1 || c.FalseAlarms > 1.01 {
			t.Errorf("%d fixed bytes give %g false alarms per GB, asked for 1", fixed, c.FalseAlarms)
		}
	}
	// Four bytes at 94.6 % each (equation 3-3): one string is missed in 20 %,
	// several in far less.
	one, err := tokens.Lower(signature(48), tokens.Options{FalseAlarms: 1, Most: 1})
	if err != nil {
		t.Fatal(err)
	}
	if one.Loss < 0.16 || one.Loss > 0.24 || a.Loss > one.Loss/10 {
		t.Errorf("loss %.3f with one string, %.3f with %d", one.Loss, a.Loss, len(a.Contents))
	}
}

func TestAdjacentHasNoWildcards(t *testing.T) {
	// Runs of three certain bytes are too short: no adjacent string is worth it.
	if _, err := tokens.Lower(signature(48), tokens.Options{FalseAlarms: 1, Adjacent: true}); !errors.Is(err, tokens.ErrNoString) {
		t.Errorf("strings that bridge what may be anything: error %v", err)
	}
	certain := signature(48)
	for p := 3; p < 48; p += 4 {
		certain.Parts[0].Blocks[0].Columns[p] = dossier.Column{byte(p): 100}
	}
	a, err := tokens.Lower(certain, tokens.Options{FalseAlarms: 1, Adjacent: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range a.Contents {
		for _, f := range c.Fixed {
			if !f {
				t.Errorf("%v has a wildcard", c)
			}
		}
	}
}

func TestTooNarrowIsAnError(t *testing.T) {
	if _, err := tokens.Lower(signature(3), tokens.Options{}); !errors.Is(err, tokens.ErrNoString) {
		t.Errorf("three positions cannot be selective: error %v", err)
	}
}

func TestContains(t *testing.T) {
	c := dossier.Content{Bytes: []byte("a-b"), Fixed: []bool{true, false, true}}
	for text, want := range map[string]bool{"xxaZbxx": true, "ab": false, "a-b": true, "axxb": false, "": false} {
		if tokens.Contains([]byte(text), c) != want {
			t.Errorf("%q: want %v", text, want)
		}
	}
}

// TestJoints: up to Most other bytes may lie at a joint, and no more.
func TestJoints(t *testing.T) {
	c := dossier.Content{Bytes: []byte("ab.cd"), Fixed: []bool{true, true, false, true, true}, Joints: []dossier.Joint{{At: 1, Most: 2}, {At: 4, Most: 1}}}
	for data, want := range map[string]bool{
		"xab?cdx": true, "a12b?cd": true, "a123b?cd": false, "a1b?c2d": true, "a1b?c23d": false, "abcd": false, "ab?c": false,
		"aab?cd": true, "a1a1b?cd": true, "axb?cxxd axb?cxd": true, "": false,
	} {
		if tokens.Contains([]byte(data), c) != want {
			t.Errorf("%q: %v, want %v", data, !want, want)
		}
	}
}
