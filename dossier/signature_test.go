package dossier_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/dossier"
)

func example() *dossier.Signature {
	var counts [256]uint64
	counts['a'] = 1000
	s := &dossier.Signature{Name: "worm-1", Background: *dossier.NewBackground(&counts)}
	block := func(gap dossier.Gap) dossier.Block {
		return dossier.Block{Gap: gap, Pseudo: 0.01, Columns: []dossier.Column{{0x41: 37, 0xff: 2.5}, {0x00: 1}}}
	}
	s.Parts = []dossier.Part{
		{Blocks: []dossier.Block{block(dossier.Gap{}), block(dossier.Gap{Min: 3, Max: 9})}, Threshold: 1.5, FalseAlarms: 0.001},
		{Blocks: []dossier.Block{block(dossier.Gap{})}, FalseAlarms: -1},
	}
	s.Family = &dossier.Family{Prior: []float64{0.1, 0.2}, Mean: []float64{5, 4}, Covariance: [][]float64{{1, 0.1}, {0.1, 2}}, Distance: 20}
	s.Exact = []dossier.Exact{{Bytes: []byte("copy")}}
	return s
}

func testKey(fill byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{fill}, ed25519.SeedSize))
}

func TestSignatureFileRoundTrip(t *testing.T) {
	for name, key := range map[string]ed25519.PrivateKey{"plain": nil, "sealed": testKey(1)} {
		file, err := dossier.EncodeSignature(example(), key)
		if err != nil {
			t.Fatal(err)
		}
		got, by, err := dossier.OpenSignature(file)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if d := cmp.Diff(example(), got); d != "" {
			t.Errorf("%s (-written +read):\n%s", name, d)
		}
		if (key != nil) != (by != nil) {
			t.Errorf("%s: sealed by %x", name, by)
		}
	}
}

func TestSealBindsTheBody(t *testing.T) {
	file, _ := dossier.EncodeSignature(example(), testKey(1))
	trusted, other := testKey(1).Public().(ed25519.PublicKey), testKey(2).Public().(ed25519.PublicKey)
	if _, _, err := dossier.OpenSignature(file, other, trusted); err != nil {
		t.Errorf("trusted key: %v", err)
	}
	if _, _, err := dossier.OpenSignature(file, other); err == nil {
		t.Error("a key that is not trusted was accepted")
	}
	if _, _, err := dossier.OpenSignature(bytes.Replace(file, []byte(`"41":37`), []byte(`"41":38`), 1)); err == nil {
		t.Error("a changed count was accepted")
	}
	var indented bytes.Buffer
	json.Indent(&indented, file, "", "  ")
	if _, _, err := dossier.OpenSignature(indented.Bytes(), trusted); err != nil {
		t.Errorf("white space broke the seal: %v", err)
	}
	plain, _ := dossier.EncodeSignature(example(), nil)
	if _, _, err := dossier.OpenSignature(plain, trusted); err == nil {
		t.Error("an unsealed file was accepted although a key is required")
	}
}

func TestCheckRefuses(t *testing.T) {
	for want, spoil := range map[string]func(*dossier.Signature){
		"no bytes were counted": func(s *dossier.Signature) { s.Parts[0].Blocks[1].Columns[1] = dossier.Column{} },
		"not usable":            func(s *dossier.Signature) { s.Parts[0].Blocks[0].Columns[0][1] = math.NaN() },
		"not finite":            func(s *dossier.Signature) { s.Parts[1].Threshold = math.Inf(1) },
		"pseudo-count":          func(s *dossier.Signature) { s.Parts[1].Blocks[0].Pseudo = 0 },
		"background":            func(s *dossier.Signature) { s.Background[7] = 0 },
		"must not have a gap":   func(s *dossier.Signature) { s.Parts[1].Blocks[0].Gap.Max = 1 },
		"quorum":                func(s *dossier.Signature) { s.Quorum = 3 },
		"name":                  func(s *dossier.Signature) { s.Name = "a b\"; drop" },
		"neither parts":         func(s *dossier.Signature) { s.Parts, s.Exact = nil, nil },
		"row":                   func(s *dossier.Signature) { s.Family.Covariance[1] = nil },
		"symmetric":             func(s *dossier.Signature) { s.Family.Covariance[0][1] = 9 },
		"exact string":          func(s *dossier.Signature) { s.Exact[0].Bytes = nil },
	} {
		s := example()
		spoil(s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error about %q, got %v", want, err)
		}
	}
}

func TestBlockNumbers(t *testing.T) {
	s := example()
	b := &s.Parts[0].Blocks[0]
	f := b.Probabilities(0)
	sum := 0.0
	for _, p := range f {
		sum += p
	}
	if math.Abs(sum-1) > 1e-12 || math.Abs(f[0x41]-37.01/(39.5+2.56)) > 1e-12 {
		t.Errorf("f_1 sums to %v, f_1(41) = %v; equation 3-3 gives %v", sum, f[0x41], 37.01/(39.5+2.56))
	}
	w := b.Weights(&s.Background)
	if got := math.Log(f[0x41] / s.Background[0x41]); w[0][0x41] != got {
		t.Errorf("weight %v, want %v", w[0][0x41], got)
	}
	if info := b.Information(&s.Background); info[0] <= 0 || info[0] > 16 {
		t.Errorf("information %v bits", info[0])
	}
}

func FuzzOpenSignature(f *testing.F) {
	plain, _ := dossier.EncodeSignature(example(), nil)
	sealed, _ := dossier.EncodeSignature(example(), testKey(1))
	f.Add(plain)
	f.Add(sealed)
	f.Add([]byte(`{"format":"dragnet-signature","version":1,"body":{"name":"x","background":[1],"parts":[{"blocks":[{"columns":[{"zz":1e999}]}]}]}}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, _, err := dossier.OpenSignature(file)
		if err != nil {
			return
		}
		again, err := dossier.EncodeSignature(s, nil)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		got, _, err := dossier.OpenSignature(again)
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if d := cmp.Diff(s, got); d != "" {
			t.Fatalf("differs after a round trip:\n%s", d)
		}
	})
}
