package seal

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/cloudflare/circl/oprf"
	"pgregory.net/rapid"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors checks both sides against RFC 9497, appendix A.1.1
// (ristretto255-SHA512, mode OPRF).
func TestVectors(t *testing.T) {
	var private oprf.PrivateKey
	if err := private.UnmarshalBinary(suite, unhex(t, "5ebcea5ee37023ccb9fc2d2019f9d7737be85591ae8652ffa9ef0f4d37063b0e")); err != nil {
		t.Fatal(err)
	}
	witness := &WitnessKey{oprf.NewServer(suite, &private)}
	const blind = "64d37aed22a27f5191de1c1d69fadb899d8862b58eb4220029e036ec4c1f6706"
	for _, v := range []struct{ input, blinded, evaluated, output string }{
		{
			"00", "609a0ae68c15a3cf6903766461307e5c8bb2f95e7e6550e1ffa2dc99e412803c", "7ec6578ae5120958eb2db1745758ff379e77cb64fe77b0b2d8cc917ea0869c7e",
			"527759c3d9366f277d8c6020418d96bb393ba2afb20ff90df23fb7708264e2f3ab9135e3bd69955851de4b1f9fe8a0973396719b7912ba9ee8aa7d0b5e24bcf6",
		},
		{
			"5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a", "da27ef466870f5f15296299850aa088629945a17d1f5b7f5ff043f76b3c06418", "b4cbf5a4f1eeda5a63ce7b77c7d23f461db3fcab0dd28e4e17cecb5c90d02c25",
			"f4a74c9c592497375e796aa837e907b1a045d34306a749db9f34221f7e750cb4f2a6413a6bf6fa5e19ba6348eb673934a722a7ede2e7621306d18951e7cf2c73",
		},
	} {
		scalar := suite.Group().NewScalar()
		if err := scalar.UnmarshalBinary(unhex(t, blind)); err != nil {
			t.Fatal(err)
		}
		state, req, err := oprf.NewClient(suite).DeterministicBlind([][]byte{unhex(t, v.input)}, []oprf.Blind{scalar})
		if err != nil {
			t.Fatal(err)
		}
		element, err := req.Elements[0].MarshalBinaryCompress()
		if err != nil || hex.EncodeToString(element) != v.blinded {
			t.Fatalf("blinded element %x (%v), want %s", element, err, v.blinded)
		}
		evaluated, err := witness.Evaluate(element)
		if err != nil || hex.EncodeToString(evaluated) != v.evaluated {
			t.Fatalf("evaluation %x (%v), want %s", evaluated, err, v.evaluated)
		}
		b := Blinded{state: state, Element: element}
		secret, err := b.Secret(evaluated)
		if err != nil || hex.EncodeToString(secret) != v.output {
			t.Fatalf("output %x (%v), want %s", secret, err, v.output)
		}
	}
}

func drawTuple(t *rapid.T, label string) key.Tuple {
	m := key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}
	a := rapid.Uint32Range(1, 3).Draw(t, label+" addr")
	return key.Tuple{Mask: m, Addr: netip.AddrFrom4([4]byte{192, 0, 2, byte(a)}), DPort: rapid.Uint16Range(1, 3).Draw(t, label+" port"), Proto: flow.TCP}
}

// TestOpensUnderItsOwnTupleAndNoOther is the property the scheme rests on, in
// both modes, for one tuple and for a pair.
func TestOpensUnderItsOwnTupleAndNoOther(t *testing.T) {
	witness, err := NewWitnessKey()
	if err != nil {
		t.Fatal(err)
	}
	secretOf := func(t *rapid.T, tuple key.Tuple, paper bool, c Context) []byte {
		if paper {
			s, err := PaperSecret(tuple, c.Question, c.Witness, 8)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		b, err := Blind(tuple)
		if err != nil {
			t.Fatal(err)
		}
		evaluated, err := witness.Evaluate(b.Element)
		if err != nil {
			t.Fatal(err)
		}
		s, err := b.Secret(evaluated)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	rapid.Check(t, func(t *rapid.T) {
		paper := rapid.Bool().Draw(t, "paper")
		c := Context{Question: dossier.QuestionID{1}, Witness: "w", Detective: []byte("d"), Branch: 2}
		theirs := []key.Tuple{drawTuple(t, "theirs 1"), drawTuple(t, "theirs 2")}
		ours := []key.Tuple{drawTuple(t, "ours 1"), drawTuple(t, "ours 2")}
		var sealing, opening [][]byte
		for i := range theirs {
			s, err := witness.Secret(theirs[i])
			if paper {
				s, err = PaperSecret(theirs[i], c.Question, c.Witness, 8)
			}
			if err != nil {
				t.Fatal(err)
			}
			sealing = append(sealing, s)
			opening = append(opening, secretOf(t, ours[i], paper, c))
		}
		other := c
		switch rapid.IntRange(0, 4).Draw(t, "context") {
		case 1:
			other.Question[0]++
		case 2:
			other.Witness = "x"
		case 3:
			other.Detective = []byte("e")
		case 4:
			other.Branch++
		}
		sealKey, _ := NewKey(sealing, c)
		openKey, _ := NewKey(opening, other)
		text := rapid.SliceOfN(rapid.Byte(), 0, 1000).Draw(t, "text")
		answer, err := sealKey.Seal(text, c.Branch)
		if err != nil {
			t.Fatal(err)
		}
		got, ok, err := openKey.Open(&answer)
		same := theirs[0] == ours[0] && theirs[1] == ours[1] && fmt.Sprint(c) == fmt.Sprint(other)
		if err != nil || ok != same {
			t.Fatalf("sealed under %v %v, opened under %v %v: ok=%v err=%v", theirs, c, ours, other, ok, err)
		}
		if ok && (!bytes.HasPrefix(got, text) || len(got)%smallestClass != 0) {
			t.Fatalf("opened %d bytes, want %d bytes and padding", len(got), len(text))
		}
	})
}

func testKey(b byte) *AnswerKey {
	k, err := NewKey([][]byte{{b}}, Context{})
	if err != nil {
		panic(err)
	}
	return &k
}

func TestForgedCiphertextIsNoticed(t *testing.T) {
	k := testKey(1)
	a, err := k.Seal([]byte("host"), 0)
	if err != nil {
		t.Fatal(err)
	}
	a.Ciphertext[3] ^= 1
	if _, _, err := k.Open(&a); !errors.Is(err, ErrForged) {
		t.Errorf("changed ciphertext: %v, want ErrForged", err)
	}
	a.Ciphertext[3] ^= 1
	a.Commitment[0] ^= 1
	if _, ok, err := k.Open(&a); ok || err != nil {
		t.Errorf("changed commitment: ok=%v err=%v, want a collision", ok, err)
	}
}

func TestSizesFallIntoClasses(t *testing.T) {
	sizes := map[int]bool{}
	for n := range 5000 {
		a, err := testKey(1).Seal(make([]byte, n), 0)
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(a.Ciphertext)] = true
	}
	if len(sizes) != 6 { // 256, 512, ..., 8192
		t.Errorf("5000 lengths fall into %d classes: %v", len(sizes), sizes)
	}
}

func TestTestimonyOpensForItsAskerOnly(t *testing.T) {
	asker, err := NewReplyKey()
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := NewReplyKey()
	if err != nil {
		t.Fatal(err)
	}
	q := dossier.QuestionID{7}
	sealed, err := SealTestimony(&dossier.Testimony{Question: q, Witness: "w", Coverage: flow.Coverage{Flows: 3}}, asker.Public())
	if err != nil {
		t.Fatal(err)
	}
	if got, err := asker.Open(sealed, q, "w"); err != nil || got.Coverage.Flows != 3 {
		t.Errorf("asker: %+v, %v", got, err)
	}
	for name, open := range map[string]func() (*dossier.Testimony, error){
		"stranger":       func() (*dossier.Testimony, error) { return stranger.Open(sealed, q, "w") },
		"other question": func() (*dossier.Testimony, error) { return asker.Open(sealed, dossier.QuestionID{8}, "w") },
		"other witness":  func() (*dossier.Testimony, error) { return asker.Open(sealed, q, "v") },
		"changed bytes":  func() (*dossier.Testimony, error) { return asker.Open(append([]byte{1}, sealed...), q, "w") },
		"nothing":        func() (*dossier.Testimony, error) { return asker.Open(nil, q, "w") },
		"bad reply key": func() (*dossier.Testimony, error) {
			_, err := SealTestimony(&dossier.Testimony{}, []byte{1})
			return nil, err
		},
		"evaluate garbage": func() (*dossier.Testimony, error) {
			w, _ := NewWitnessKey()
			_, err := w.Evaluate(make([]byte, 32))
			return nil, err
		},
	} {
		if _, err := open(); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzOpen feeds hostile answers to an opener that owns the key.
func FuzzOpen(f *testing.F) {
	const sealed = "198.51.100.3"
	k := testKey(1)
	a, err := k.Seal([]byte(sealed), 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(a.Salt[:], a.Commitment[:], a.Ciphertext)
	f.Fuzz(func(t *testing.T, salt, commitment, ciphertext []byte) {
		var got dossier.SealedAnswer
		copy(got.Salt[:], salt)
		copy(got.Commitment[:], commitment)
		got.Ciphertext = ciphertext
		// Another process of the fuzzer seals the same text under another salt.
		if text, ok, _ := k.Open(&got); ok && !bytes.HasPrefix(text, []byte(sealed)) {
			t.Fatal("an answer we did not seal opened")
		}
	})
}

// BenchmarkOpen is what the detective pays per key it may open with, and per
// answer: a foreign one costs a look-up, a matching one a decryption.
func BenchmarkOpen(b *testing.B) {
	k := testKey(1)
	a, err := k.Seal(make([]byte, 200), 0)
	if err != nil {
		b.Fatal(err)
	}
	ring := map[[32]byte]*AnswerKey{}
	for i := range 4096 {
		other, err := NewKey([][]byte{binary.BigEndian.AppendUint32(nil, uint32(i))}, Context{})
		if err != nil {
			b.Fatal(err)
		}
		ring[other.Commitment()] = &other
	}
	for name, one := range map[string]func(){
		"key":     func() { _, err = NewKey([][]byte{a.Salt[:]}, Context{}) },
		"foreign": func() { _ = ring[a.Commitment] },
		"own":     func() { _, _, err = k.Open(&a) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				one()
			}
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "per_s")
		})
	}
}

// BenchmarkGuess is the price of one guess by somebody who holds an answer: in
// OPRF mode an evaluation by the witness, in Paper mode a run of Argon2id.
func BenchmarkGuess(b *testing.B) {
	witness, err := NewWitnessKey()
	if err != nil {
		b.Fatal(err)
	}
	tuple := key.Tuple{Mask: key.Mask{Proto: true}, Proto: flow.TCP}
	blinded, err := Blind(tuple)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("oprf-blind", func(b *testing.B) {
		for b.Loop() {
			if _, err := Blind(tuple); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("oprf-evaluate", func(b *testing.B) {
		for b.Loop() {
			if _, err := witness.Evaluate(blinded.Element); err != nil {
				b.Fatal(err)
			}
		}
	})
	for _, kib := range []uint32{64, 1 << 10, 8 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("paper-%dKiB", kib), func(b *testing.B) {
			for b.Loop() {
				if _, err := PaperSecret(tuple, dossier.QuestionID{}, "w", kib); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
