package streamsearch

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
)

// Record is one row of the witness's log: its entry of the dictionary, and 96
// bits of payload, such as an address, a second and a fingerprint of the tuple.
type Record struct {
	Entry   int
	Payload [12]byte
}

// Query asks for the records of one dictionary entry without showing which: an
// encryption of one for it, of zero for every other.
type Query struct {
	key     *publicKey
	entries []*big.Int
}

// Searcher is the asker: it keeps the private key.
type Searcher struct {
	key   *privateKey
	Query Query
}

// NewSearcher prepares to ask for entry wanted of a dictionary.
func NewSearcher(keyBits, dictionary, wanted int) (*Searcher, error) {
	if wanted < 0 || wanted >= dictionary || keyBits < 256 {
		return nil, fmt.Errorf("entry %d of %d, key of %d bits", wanted, dictionary, keyBits)
	}
	key, err := newKey(keyBits)
	if err != nil {
		return nil, err
	}
	s := &Searcher{key: key, Query: Query{key: &key.publicKey, entries: make([]*big.Int, dictionary)}}
	for i := range s.Query.entries {
		m := big.NewInt(0)
		if i == wanted {
			m = one
		}
		if s.Query.entries[i], err = key.encrypt(m); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// Bytes is the query's size on the wire, without the public key.
func (q *Query) Bytes() int { return len(q.entries) * q.key.ciphertextSize() }

// slot is the sum of the records put into it: the number of matches and their
// payloads, both encrypted.
type slot struct{ matches, payloads *big.Int }

// Answer is the output of the filter.
type Answer struct {
	key   *publicKey
	slots []slot
	rng   *rand.Rand
}

// copies is the number of slots each record is put into, so that some copy is
// likely to be alone.
const copies = 3

// NewAnswer is an empty answer with that many slots, placed by seed. With
// 24 slots for each match expected, about one match in 500 is lost.
func (q *Query) NewAnswer(slots int, seed uint64) *Answer {
	a := &Answer{key: q.key, slots: make([]slot, slots), rng: rand.New(rand.NewPCG(seed, 0))}
	for i := range a.slots {
		// One encrypts zero, without hiding it; the first record hides it.
		a.slots[i] = slot{big.NewInt(1), big.NewInt(1)}
	}
	return a
}

// Bytes is the answer's size on the wire.
func (a *Answer) Bytes() int { return 2 * len(a.slots) * a.key.ciphertextSize() }

// Filter adds one record. The witness cannot tell whether it matched.
func (a *Answer) Filter(q *Query, r Record) {
	c := q.entries[r.Entry]
	payload := a.key.scaleBy(c, new(big.Int).SetBytes(r.Payload[:]))
	for range copies {
		s := &a.slots[a.rng.IntN(len(a.slots))]
		a.key.addTo(s.matches, c)
		a.key.addTo(s.payloads, payload)
	}
}

// Open lists the payloads that are alone in some slot, each once, in order.
func (s *Searcher) Open(a *Answer) [][12]byte {
	var found [][12]byte
	for _, slot := range a.slots {
		if s.key.decrypt(slot.matches).Cmp(one) != 0 {
			continue
		}
		var p [12]byte
		s.key.decrypt(slot.payloads).FillBytes(p[:])
		found = append(found, p)
	}
	slices.SortFunc(found, func(a, b [12]byte) int { return slices.Compare(a[:], b[:]) })
	return slices.Compact(found)
}
