package variants_test

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"dragnet/simulate/variants"
)

func TestVariantsAreTheSameForASeed(t *testing.T) {
	for _, name := range variants.Names() {
		a, _ := variants.Family(name, 3)
		b, _ := variants.Family(name, 3)
		r := variants.Published()
		v, w := r.Make(a, 5, 7), r.Make(b, 5, 7)
		if !bytes.Equal(v.Bytes, w.Bytes) || v.Offset != w.Offset {
			t.Errorf("%s: two variants of the same numbers differ", name)
		}
		if x := r.Make(a, 5, 8); bytes.Equal(v.Bytes, x.Bytes) {
			t.Errorf("%s: variants 7 and 8 are the same", name)
		}
	}
	if _, err := variants.Family("none", 1); err == nil {
		t.Error("an unknown family was made")
	}
}

// TestRecipeIsKept measures one variant against the recipe of section 3.7.
func TestRecipeIsKept(t *testing.T) {
	template, _ := variants.Family("cedar", 1) // no stub, nothing keyed
	r := variants.Published()
	plain := r
	plain.Substitution, plain.Garbage = 0, 0
	substituted := r
	substituted.Garbage = 0
	changed, all := 0, 0
	for i := range uint64(50) {
		a, b := plain.Make(template, 1, i), substituted.Make(template, 1, i)
		original := a.Bytes[a.Offset : a.Offset+a.Length]
		for k, x := range b.Bytes[b.Offset : b.Offset+b.Length] {
			if x != original[k] {
				changed++
			}
			all++
		}
		full := r.Make(template, 1, i)
		if full.Length != 376+42 { // 376 malicious bytes and a ninth of garbage
			t.Fatalf("variant %d: the worm has %d bytes, want 418", i, full.Length)
		}
		if carrier := len(full.Bytes) - full.Length; carrier < 2<<10 || carrier > 20<<10 {
			t.Errorf("variant %d: carrier of %d bytes", i, carrier)
		}
	}
	// Bytes of a class vary besides, and a random byte may be the same.
	if share := float64(changed) / float64(all); share < 0.08 || share > 0.16 {
		t.Errorf("%.3f of the bytes differ from the template's", share)
	}
}

func TestAnyRecipeWorks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := variants.Recipe{
			Substitution: rapid.Float64Range(0, 1).Draw(t, "substitution"), Garbage: rapid.Float64Range(0, 2).Draw(t, "garbage"),
			GarbagePiece: rapid.IntRange(0, 40).Draw(t, "piece"), Transpose: rapid.Bool().Draw(t, "transpose"), MoveEntry: rapid.Bool().Draw(t, "entry"),
			Drop: rapid.Float64Range(0, 1).Draw(t, "drop"), CarrierMin: rapid.IntRange(0, 3000).Draw(t, "min"), CarrierMax: rapid.IntRange(0, 70000).Draw(t, "max"),
		}
		plan := variants.Plan{Malicious: rapid.IntRange(0, 500).Draw(t, "malicious"), Stubs: rapid.IntRange(0, 3).Draw(t, "stubs"), StubLen: rapid.IntRange(0, 60).Draw(t, "stub"),
			Keyed: rapid.Float64Range(0, 1).Draw(t, "keyed"), Choice: rapid.Float64Range(0, 1).Draw(t, "choice"), Blocks: rapid.IntRange(0, 6).Draw(t, "blocks")}
		v := r.Make(variants.NewTemplate("any", plan, 1), 2, rapid.Uint64().Draw(t, "i"))
		if v.Offset < 0 || v.Offset+v.Length > len(v.Bytes) {
			t.Fatalf("worm at %d+%d of %d bytes", v.Offset, v.Length, len(v.Bytes))
		}
	})
}

func TestCorpusCarrierUsesOnlyTheCorpus(t *testing.T) {
	carrier := variants.FromCorpus([][]byte{[]byte("aaaa"), {}, []byte("bb")})
	b := carrier(rand.New(rand.NewPCG(1, 1)), 1000)
	if len(b) != 1000 || len(bytes.Trim(b, "ab")) != 0 {
		t.Errorf("%d bytes, with others than the corpus holds", len(b))
	}
}
