package attackers

import (
	"fmt"

	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Service is a port of a protocol.
type Service struct {
	Port  uint16
	Proto flow.Proto
}

// CommonServices are what a reader tries who does not know which service a question
// is about: ports that are scanned or attacked often, in the order in which they come
// to mind. The questions that are attacked were not chosen after this list.
func CommonServices() (all []Service) {
	for _, p := range []uint16{
		80, 443, 22, 23, 445, 3389, 25, 53, 21, 110, 143, 139, 135, 1433, 3306, 5900, 8080, 8443, 2222, 5060,
		6379, 27017, 9200, 11211, 5432, 1521, 389, 636, 993, 995, 587, 465, 111, 2049, 873, 2375, 2376, 6443, 10250, 8888,
		8000, 8081, 81, 82, 88, 902, 1080, 1194, 1723, 1883, 1900, 2082, 2083, 2181, 2323, 3000, 3128, 3333, 4444, 4786,
		5000, 5001, 5038, 5222, 5357, 5555, 5601, 5672, 5800, 5901, 5985, 5986, 6000, 6666, 6667, 7001, 7547, 8009, 8083, 8086,
		8089, 8291, 8545, 8728, 9000, 9090, 9092, 9100, 9999, 10000, 37215, 37777, 52869, 60001,
	} {
		all = append(all, Service{p, flow.TCP})
	}
	for _, p := range []uint16{53, 123, 161, 137, 1900, 5060, 69, 500, 4500, 1194, 443, 5353, 389, 11211, 19, 111, 67, 68, 514, 520, 1434, 1701, 3478, 5683, 27015, 3702} {
		all = append(all, Service{p, flow.UDP})
	}
	return all
}

// Reading is an attack on the asker: somebody who reads a question, and saw none of
// the traffic, guesses which addresses it is about. It tries the common services, and
// takes all clues with an IPv4 address to be about one host.
type Reading struct {
	// Services are tried for each clue that fixes a service.
	Services []Service
	// Known, if not nil, is the service of each key, in the question's order: what
	// a reader knows who needs not guess it.
	Known []key.Tuple
	// Offsets, if not nil, is how far the address of each key is from that of the
	// first, for one who guesses them to be in one small network.
	Offsets []int64
}

// readKey is one key of the question as the reader sees it.
type readKey struct {
	mask key.Mask
	want key.K
	a    [11]uint64 // the salt's coefficients
	sums []uint64   // what each service tried adds to the address's sum
	off  int64
}

// prime is the modulus of the linear hash (flow/key).
const prime = 1<<31 - 1

// Addresses counts the IPv4 unicast addresses that remain possible for the first key
// given all others, and reports whether the true one is among them.
func (r *Reading) Addresses(question []byte, truth uint32) (n int, holdsTruth bool, err error) {
	var q dossier.Question
	if err := q.UnmarshalBinary(question); err != nil {
		return 0, false, err
	}
	if q.Hash.Kind != key.Linear {
		return 0, false, fmt.Errorf("hash %s: this reader knows linear keys only", q.Hash)
	}
	keys := r.readKeys(&q)
	if len(keys) == 0 {
		return 0, false, fmt.Errorf("no clue has an IPv4 address")
	}
	low := uint64(1)<<q.Hash.Bits - 1
	eachAddress(&keys[0], low, func(a uint32) {
		for i := 1; i < len(keys); i++ {
			if !keys[i].fits(uint32(int64(a)+keys[i].off), low) {
				return
			}
		}
		n++
		holdsTruth = holdsTruth || a == truth
	})
	return n, holdsTruth, nil
}

func (r *Reading) readKeys(q *dossier.Question) (keys []readKey) {
	at := 0
	for i := range q.Clues {
		c := &q.Clues[i]
		for _, k := range c.Keys {
			if c.Mask.Family == key.IPv4 {
				a := key.Coefficients(c.Salt)
				rk := readKey{mask: c.Mask, want: k.K, a: a}
				if r.Known != nil {
					rk.sums = []uint64{serviceSum(&a, c.Mask, r.Known[at])}
				} else {
					rk.sums = r.guessSums(&a, c.Mask)
				}
				if r.Offsets != nil {
					rk.off = r.Offsets[at]
				}
				keys = append(keys, rk)
			}
			at++
		}
	}
	return keys
}

// guessSums are the different sums of the services tried.
func (r *Reading) guessSums(a *[11]uint64, m key.Mask) (sums []uint64) {
	seen := map[uint64]bool{}
	for _, s := range r.Services {
		sum := serviceSum(a, m, key.Tuple{DPort: s.Port, Proto: s.Proto})
		if !seen[sum] {
			seen[sum] = true
			sums = append(sums, sum)
		}
	}
	return sums
}

// serviceSum is what the components after an IPv4 address add to the hash.
func serviceSum(a *[11]uint64, m key.Mask, t key.Tuple) (sum uint64) {
	i := 2
	for _, c := range []struct {
		in    bool
		value uint64
	}{{m.SPort, uint64(t.SPort)}, {m.DPort, uint64(t.DPort)}, {m.Proto, uint64(t.Proto)}} {
		if c.in {
			sum += a[i] * c.value
			i++
		}
	}
	return sum % prime
}

func (k *readKey) addressSum(a uint32) uint64 {
	return (k.a[0]*uint64(a>>16) + k.a[1]*uint64(a&0xffff)) % prime
}

// fits reports whether the key can be about a. Who asks about a prefix and a host in it
// is taken to have said, by asking both, where in the prefix the host is.
func (k *readKey) fits(a uint32, low uint64) bool {
	if a&^(^uint32(0)<<(32-k.mask.Prefix)) != 0 {
		return false
	}
	u := k.addressSum(a)
	for _, s := range k.sums {
		if (u+s)%prime&low == uint64(k.want) {
			return true
		}
	}
	return false
}

// eachAddress calls use once for each unicast address (or prefix) that gives the key
// with some service. The low bits of a sum modulo the prime are those of the sum, or
// one more where it passed the prime: so the lower halves are found by their bits,
// and not tried one by one.
func eachAddress(k *readKey, low uint64, use func(uint32)) {
	c := k.a
	mask := ^uint32(0) << (32 - k.mask.Prefix)
	byBits := make(map[uint64][]uint32, 1<<16)
	lowSum := make([]uint64, 1<<16)
	for half := range uint32(1 << 16) {
		if half&mask != half {
			continue
		}
		lowSum[half] = c[1] * uint64(half) % prime
		byBits[lowSum[half]&low] = append(byBits[lowSum[half]&low], half)
	}
	used := map[uint32]bool{}
	for high := range uint32(224 << 8) {
		if (high<<16)&mask != high<<16 {
			continue
		}
		clear(used)
		highSum := c[0] * uint64(high) % prime
		for _, s := range k.sums {
			base := (highSum + s) % prime
			want := uint64(k.want) - base
			for _, bits := range []uint64{want & low, (want - 1) & low} {
				for _, half := range byBits[bits] {
					if (base+lowSum[half])%prime&low != uint64(k.want) || used[half] {
						continue
					}
					if len(k.sums) > 1 { // with one, none comes twice
						used[half] = true
					}
					use(high<<16 | half)
				}
			}
		}
	}
}
