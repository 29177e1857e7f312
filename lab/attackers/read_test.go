package attackers_test

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"os"
	"strings"
	"testing"

	"dragnet/ask/detective"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/lab/attackers"
)

func address(a uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, a)))
}

func ask(t *testing.T, text string, bits int) *detective.Inquiry {
	t.Helper()
	p, err := pattern.Parse(text, pattern.FromDisk)
	if err != nil {
		t.Fatal(err)
	}
	if bits == 0 {
		bits = key.FitBits(100, "2026-11-22", detective.Tuples(p))
	}
	q, err := detective.New(detective.Configuration{
		Mode: dossier.Paper, KDFMemory: dossier.MinKDFMemory, Hash: key.Hash{Kind: key.Linear, Bits: uint8(bits)},
		Style: detective.SelfDescribing, Window: flow.AllTime, Epoch: "2026-11-22", Quorum: 1,
	}, p)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

// published is the question of the published attack: with a salt for each mask, its
// bytes left two candidates, where 10^13 had been promised.
const published = "in src=203.0.113.5 proto=tcp dport=445 state=established then[1h] out dst=203.0.113.5"

// TestReadingUnrelatedSalts shows that the attack works: under two salts the keys'
// bits add up, and the address is all that is left.
func TestReadingUnrelatedSalts(t *testing.T) {
	var q dossier.Question
	if err := q.UnmarshalBinary(ask(t, published, 19).Question()); err != nil {
		t.Fatal(err)
	}
	truth := uint32(203<<24 | 113<<8 | 5)
	for i := range q.Clues {
		c := &q.Clues[i]
		c.Salt[0] += byte(i)
		k, err := key.NewKeyer(c.Mask, c.End, q.Hash, c.Salt)
		if err != nil {
			t.Fatal(err)
		}
		tuple := key.Tuple{Mask: c.Mask, Addr: address(truth)}
		if c.Mask.DPort {
			tuple.DPort, tuple.Proto = 445, flow.TCP
		}
		c.Keys[0].K = k.Tuple(tuple)
	}
	question, err := q.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	r := attackers.Reading{Services: attackers.CommonServices()}
	n, found, err := r.Addresses(question, truth)
	if err != nil || !found {
		t.Fatalf("found %v, %v", found, err)
	}
	t.Logf("a salt for each mask: %d addresses", n)
	if n > 10 {
		t.Errorf("%d addresses remain under two salts; the attack should work, or this test shows nothing", n)
	}
}

// TestReading is the same attack on the question as it is asked now.
func TestReading(t *testing.T) {
	q := ask(t, published, 0)
	r := attackers.Reading{Services: attackers.CommonServices()}
	n, found, err := r.Addresses(q.Question(), 203<<24|113<<8|5)
	if err != nil || !found {
		t.Fatalf("found %v, %v", found, err)
	}
	metered := q.Meter()[0].Jointly
	t.Logf("one salt: %d addresses, metered %.0f", n, metered)
	if float64(n) < 0.8*metered || n < 100 {
		t.Errorf("%d addresses remain, and the meter says %.0f", n, metered)
	}
}

// drawQuestion is a random question about one host, or some of one /24.
func drawQuestion(random *rand.Rand) (text string, first uint32) {
	first = random.Uint32N(224<<24-1<<24) + 1<<24
	network := first &^ 0xff
	var clues []string
	for i := range 1 + random.IntN(4) {
		a := first
		if i > 0 && random.IntN(2) == 0 {
			a = network | random.Uint32N(256)
		}
		other := []string{"in src=", "out dst="}[random.IntN(2)] + address(a).String()
		if i > 0 && random.IntN(4) == 0 {
			other = "out dst=" + netip.PrefixFrom(address(network), 24).String()
		}
		if random.IntN(3) > 0 {
			other += fmt.Sprintf(" dport=%d", 1+random.IntN(65535))
		}
		if random.IntN(2) > 0 {
			other += " proto=" + []string{"tcp", "udp"}[random.IntN(2)]
		}
		if random.IntN(4) == 0 {
			other += fmt.Sprintf(" sport=%d", 1+random.IntN(65535))
		}
		clues = append(clues, other)
	}
	return strings.Join(clues, " and "), first
}

// TestMeterAgainstReading compares the meter with what the attack leaves, for a reader
// who knows the services and how the addresses differ, over random questions that
// nothing was tuned on. DRAGNET_FULL=1 takes a new seed and many.
func TestMeterAgainstReading(t *testing.T) {
	seed, questions := uint64(17), 25
	if testkit.Short(t) {
		questions = 5
	}
	if os.Getenv("DRAGNET_FULL") != "" {
		seed, questions = rand.Uint64(), 400
	}
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 5))
	worst := 1.0
	for range questions {
		text, _ := drawQuestion(random)
		q := ask(t, text, []int{0, 0, 12, 16, 21}[random.IntN(5)])
		metered := q.Meter()
		r := attackers.Reading{}
		base := binary.BigEndian.Uint32(metered[0].Tuple().Addr.AsSlice())
		for i := range metered {
			tuple := metered[i].Tuple()
			r.Known = append(r.Known, tuple)
			r.Offsets = append(r.Offsets, int64(binary.BigEndian.Uint32(tuple.Addr.AsSlice()))-int64(base))
		}
		n, found, err := r.Addresses(q.Question(), base)
		if err != nil || !found {
			t.Fatalf("%s: found %v, %v", text, found, err)
		}
		// What remains is a random number about the metered one.
		slack := 6*math.Sqrt(metered[0].Jointly) + 6
		if metered[0].Jointly > float64(n)+slack || metered[0].Jointly < float64(n)-slack {
			t.Errorf("%s (%d bits): the meter says %.0f, the attack leaves %d", text, q.Result().Bits, metered[0].Jointly, n)
		}
		worst = min(worst, float64(n)/metered[0].Jointly)
	}
	t.Logf("of %d questions, the least that remained was %.2f of the metered number", questions, worst)
}
