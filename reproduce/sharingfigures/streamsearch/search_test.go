package streamsearch

import (
	"encoding/binary"
	"math/big"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// smallKey is quick and worthless.
const smallKey = 256

func TestPaillierAddsAndScales(t *testing.T) {
	k, err := newKey(smallKey)
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, b := rapid.Int64Range(0, 1<<60).Draw(t, "a"), rapid.Int64Range(0, 1<<60).Draw(t, "b")
		x, err := k.encrypt(big.NewInt(a))
		if err != nil {
			t.Fatal(err)
		}
		y, err := k.encrypt(big.NewInt(b))
		if err != nil {
			t.Fatal(err)
		}
		if got := k.decrypt(k.scaleBy(x, big.NewInt(b))); got.Cmp(new(big.Int).Mul(big.NewInt(a), big.NewInt(b))) != 0 {
			t.Fatalf("%d times %d decrypts to %v", a, b, got)
		}
		again, err := k.encrypt(big.NewInt(a))
		if err != nil || again.Cmp(x) == 0 {
			t.Fatalf("two encryptions of %d are alike, or %v", a, err)
		}
		k.addTo(x, y)
		if got := k.decrypt(x); got.Cmp(big.NewInt(a+b)) != 0 {
			t.Fatalf("%d + %d decrypts to %v", a, b, got)
		}
	})
}

func TestSearchFindsItsEntryOnly(t *testing.T) {
	const wanted = 5
	s, err := NewSearcher(smallKey, 8, wanted)
	if err != nil {
		t.Fatal(err)
	}
	a := s.Query.NewAnswer(64, 1)
	var want [][12]byte
	for i := range 80 {
		r := Record{Entry: i % 16}
		if r.Entry >= 8 {
			r.Entry = 0
		}
		binary.BigEndian.PutUint32(r.Payload[8:], uint32(i+1))
		if r.Entry == wanted {
			want = append(want, r.Payload)
		}
		a.Filter(&s.Query, r)
	}
	if d := cmp.Diff(want, s.Open(a)); d != "" || len(want) != 5 {
		t.Errorf("payloads of %d matches (-want +opened):\n%s", len(want), d)
	}
	if got := s.Query.Bytes(); got != 8*2*smallKey/8 {
		t.Errorf("query of %d bytes, want 8 ciphertexts of %d", got, 2*smallKey/8)
	}
}
