package survey

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/big"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
)

// drawLog is a small log whose few values collide often.
func drawLog(t *rapid.T) excerpt {
	octet := rapid.SampledFrom([]byte{0, 1, 2, 3, 4, 6, 12, 200})
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		b := [4]byte{octet.Draw(t, "a"), octet.Draw(t, "b"), 7, octet.Draw(t, "d")}
		if rapid.IntRange(0, 9).Draw(t, "family") == 0 {
			return netip.AddrFrom16([16]byte{0x20, 1, b[0], b[1], 15: b[3]})
		}
		return netip.AddrFrom4(b)
	})
	port := rapid.SampledFrom([]uint16{0, 1, 22, 53, 443, 512, 65535})
	one := rapid.Custom(func(t *rapid.T) flow.Flow {
		return flow.Flow{
			Start: flow.Time(rapid.Int64Range(0, 1e15).Draw(t, "start")), Orig: addr.Draw(t, "orig"), Resp: addr.Draw(t, "resp"),
			OrigPort: port.Draw(t, "sport"), RespPort: port.Draw(t, "dport"), Proto: rapid.SampledFrom([]flow.Proto{0, flow.TCP, flow.UDP}).Draw(t, "proto"),
		}
	})
	return rapid.SliceOfN(one, 1, 120).Draw(t, "log")
}

func drawMask(t *rapid.T) key.Mask {
	m := key.Mask{SPort: rapid.Bool().Draw(t, "sport"), DPort: rapid.Bool().Draw(t, "dport"), Proto: rapid.Bool().Draw(t, "proto")}
	switch rapid.IntRange(0, 3).Draw(t, "family") {
	case 0:
	case 1:
		m.Family, m.Prefix = key.IPv6, uint8(rapid.IntRange(1, 128).Draw(t, "prefix"))
	default:
		m.Family, m.Prefix = key.IPv4, uint8(rapid.IntRange(1, 32).Draw(t, "prefix"))
	}
	if (m == key.Mask{}) {
		m.DPort = true
	}
	return m
}

// twin computes a survey's numbers the obvious way: maps of maps, and for the
// products whole numbers from the tuples' bytes.
type twin struct {
	byKey  map[string]map[key.Tuple]int
	flows  int
	tuples int
}

func newTwin(t *rapid.T, log excerpt, m key.Mask, end key.End, h key.Hash) twin {
	w := twin{byKey: map[string]map[key.Tuple]int{}}
	keyer, err := key.NewKeyer(m, end, h, key.OneShotSalt(m, "survey"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range log {
		tuple, ok := m.Tuple(&log[i], end)
		if !ok {
			continue
		}
		w.flows++
		name := keyer.Tuple(tuple).String()
		if h.Kind != key.Linear {
			name = bigKey(tuple, h)
		}
		if w.byKey[name] == nil {
			w.byKey[name] = map[key.Tuple]int{}
		}
		if w.byKey[name][tuple]++; w.byKey[name][tuple] == 1 {
			w.tuples++
		}
	}
	return w
}

func bigKey(tuple key.Tuple, h key.Hash) string {
	b, _ := tuple.AppendBinary(nil)
	p := big.NewInt(1)
	for _, v := range b[3:] { // after the mask's code
		p.Mul(p, big.NewInt(max(int64(v), 1)))
	}
	m := new(big.Int).Lsh(big.NewInt(1), 64)
	if h.Kind == key.ProductMod {
		m.SetUint64(h.Modulus)
	}
	return p.Mod(p, m).String()
}

// check compares a row with the twin.
func (w twin) check(t *rapid.T, row Row) {
	var uniqueFlows, uniqueKeys int
	var perTuple []float64 // answers to a question about each tuple
	upTo := map[uint64]int{}
	for _, tuples := range w.byKey {
		for _, flows := range tuples {
			perTuple = append(perTuple, float64(len(tuples)))
			if len(tuples) == 1 {
				uniqueFlows += flows
				uniqueKeys++
			}
		}
		for _, step := range Steps() {
			if uint64(len(tuples)) <= step {
				upTo[step]++
			}
		}
	}
	slices.Sort(perTuple)
	at := func(q float64) float64 { return perTuple[max(0, int(math.Ceil(q*float64(len(perTuple))))-1)] }
	want := Row{
		Hash: row.Hash, Keys: uint64(len(w.byKey)), UniqueConnections: float64(uniqueFlows) / float64(w.flows),
		UniqueKeys: float64(uniqueKeys) / float64(len(w.byKey)), Answers: Spread{at(0.5), at(0.95), at(0.99), at(1)},
	}
	for _, step := range Steps() {
		want.PerKey = append(want.PerKey, Share{step, float64(upTo[step]) / float64(len(w.byKey))})
	}
	ignore := cmpopts.IgnoreFields(Row{}, "Candidates", "Bytes", "Milliseconds", "Function", "Sizes")
	if d := cmp.Diff(want, row, ignore); d != "" {
		t.Fatalf("%s (-twin +survey):\n%s", row.Hash, d)
	}
}

func TestSurveyAgainstMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log, c := drawLog(t), DefaultConfiguration()
		c.Mask, c.End = drawMask(t), key.End(rapid.IntRange(0, 1).Draw(t, "end"))
		c.Hashes, c.Bits = []string{"product", "product-mod", "product-mod:64", "linear"}, []int{3, 7}
		c.Asked, c.Sealed = 0, 0
		r, err := Run(context.Background(), c, log)
		if w := newTwin(t, log, c.Mask, c.End, key.Hash{Kind: key.Product}); w.flows == 0 {
			if err == nil {
				t.Fatal("a log without flows of the mask's family was surveyed")
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Hashes) != 6 {
			t.Fatalf("%d hashes; want product, two of product-mod, 64, two of linear", len(r.Hashes))
		}
		for _, row := range r.Hashes {
			w := newTwin(t, log, c.Mask, c.End, row.Function)
			if r.Connections != uint64(w.flows) || r.Tuples != w.tuples || r.Without != uint64(len(log)-w.flows) {
				t.Fatalf("%d connections, %d tuples, %d without; want %d, %d, %d", r.Connections, r.Tuples, r.Without, w.flows, w.tuples, len(log)-w.flows)
			}
			w.check(t, row)
		}
	})
}

// TestSampleIsTheFirstByRank, whatever the order of arrival.
func TestSampleIsTheFirstByRank(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, k := rapid.IntRange(1, 3000).Draw(t, "tuples"), rapid.IntRange(0, 40).Draw(t, "k")
		table := newTable()
		var all []packed
		for i := range n {
			p := packed{byte(i), byte(i >> 8), 20: byte(i % 3)}
			all = append(all, p)
			for range i%3 + 1 {
				if err := table.add(&p); err != nil {
					t.Fatal(err)
				}
			}
		}
		if table.n != n {
			t.Fatalf("%d tuples kept of %d", table.n, n)
		}
		for i, p := range all {
			if c := table.at(i); c.packed != p || c.flows != uint32(i%3+1) {
				t.Fatalf("tuple %d is %v, want %v %d times", i, *c, p, i%3+1)
			}
		}
		fits := func(p *packed) bool { return p[20] != 1 }
		all = slices.DeleteFunc(all, func(p packed) bool { return !fits(&p) })
		slices.SortFunc(all, func(a, b packed) int { return new(big.Int).SetUint64(a.rank(5)).Cmp(new(big.Int).SetUint64(b.rank(5))) })
		if d := cmp.Diff(all[:min(k, len(all))], table.sample(k, 5, fits), cmpopts.EquateEmpty()); d != "" {
			t.Fatal(d)
		}
	})
}

func TestPackingIsReversible(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMask(t)
		for _, f := range drawLog(t) {
			if tuple, ok := m.Tuple(&f, key.Out); ok {
				p := pack(tuple)
				if got := p.tuple(m); got != tuple {
					t.Fatalf("%v became %v", tuple, got)
				}
			}
		}
	})
}

// awkProduct prints, of Zeek TSV logs with a node name in front (so that 6 is
// id.resp_h, 7 id.resp_p, 8 proto), the connections, the distinct tuples and
// keys of the byte product, and how many connections and keys are unique. Its
// numbers are doubles: products of seven bytes below 2^53 are exact.
const awkProduct = `
function f(v) { return v == 0 ? 1 : v }
/^#/ { next }
$6 ~ /:/ { next }
{
	split($6, a, ".")
	p = $8 == "tcp" ? 6 : $8 == "udp" ? 17 : $8 == "icmp" ? 1 : 0
	if (p == 0) { print "unknown protocol " $8; exit 1 }
	k = sprintf("%.0f", f(a[1]) * f(a[2]) * f(a[3]) * f(a[4]) * p * f(int($7 / 256)) * f($7 % 256))
	n++
	t = $6 " " $7 " " p
	if (!(t in flows)) { tuples++; per[k]++ }
	flows[t]++
	key[t] = k
}
END {
	for (k in per) { keys++; if (per[k] == 1) uk++; if (per[k] <= 2) two++ }
	for (t in flows) if (per[key[t]] == 1) uc += flows[t]
	print n, tuples, keys, uc, uk, two
}`

func TestProductAgainstAwk(t *testing.T) {
	dir := testkit.Data(t, "zeek-logs", "missing_host")
	awk := testkit.Tool(t, "mawk")
	files, err := filepath.Glob(filepath.Join(dir, "*.log.gz"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no logs in %s: %v", dir, err)
	}
	cmd := exec.Command("sh", "-c", `zcat "$@" | `+awk+` -F '\t' "$SCRIPT"`, "sh")
	cmd.Args = append(cmd.Args, files...)
	cmd.Env = []string{"SCRIPT=" + awkProduct, "LC_ALL=C", "PATH=/usr/bin:/bin"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("awk: %v %s%s", err, out, stderr.String())
	}
	var n, tuples, keys, uniqueFlows, uniqueKeys, two float64
	if _, err := fmt.Sscan(string(out), &n, &tuples, &keys, &uniqueFlows, &uniqueKeys, &two); err != nil {
		t.Fatalf("awk printed %q: %v", out, err)
	}
	log, err := ingest.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	c := DefaultConfiguration()
	c.Hashes, c.Asked, c.Sealed = []string{"product"}, 0, 0
	r, err := Run(context.Background(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	h := r.Hashes[0]
	got := []float64{float64(r.Connections), float64(r.Tuples), float64(h.Keys), h.UniqueConnections, h.UniqueKeys, h.Sizes.UpTo(2)}
	want := []float64{n, tuples, keys, uniqueFlows / n, uniqueKeys / keys, two / keys}
	if d := cmp.Diff(want, got, cmpopts.EquateApprox(0, 1e-12)); d != "" {
		t.Errorf("connections, tuples, keys, unique connections, unique keys, keys of two (-awk +survey):\n%s", d)
	}
}

func TestCandidatesAndBytes(t *testing.T) {
	var log excerpt
	for i := range 4000 {
		log = append(log, flow.Flow{
			Start: flow.Time(i), Orig: netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 7)}),
			Resp: netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}), RespPort: 443, Proto: flow.TCP,
		})
	}
	c := DefaultConfiguration()
	c.Sealed = 8
	c.Hashes, c.Bits, c.Near = []string{"linear"}, []int{8, 1}, netip.MustParsePrefix("198.51.4.0/24")
	r, err := Run(context.Background(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	space := map[string]float64{
		"nothing": 224 * 256 * 256 * 256 * 65536 * 3, "service": 224 * 256 * 256 * 256, "near": 256 * 65536 * 3, "near+service": 256,
	}
	for _, h := range r.Hashes {
		if len(h.Candidates) != len(space) {
			t.Errorf("%s: %d readers, want %d", h.Hash, len(h.Candidates), len(space))
		}
		for _, got := range h.Candidates {
			want := space[got.Knowing] / math.Exp2(float64(h.Function.Bits))
			if got.Median != want || got.P5 != want {
				t.Errorf("%s knowing %s: %v and %v candidates, want %v", h.Hash, got.Knowing, got.Median, got.P5, want)
			}
		}
	}
	// An answer about one host is one padded block of 256 bytes with its tag,
	// salt, commitment, branch and length; the whole is padded to a power of
	// two and sealed.
	const answer = 256 + 16 + 16 + 32 + 2 + 4
	for _, h := range r.Hashes {
		if h.Bytes == nil || h.Bytes.Questions+h.Bytes.TooLarge != c.Sealed || h.Bytes.Questions == 0 {
			t.Fatalf("%s: bytes %+v, want %d questions", h.Hash, h.Bytes, c.Sealed)
		}
	}
	eight := r.Hashes[0]
	if low, high := answer*eight.Answers.Median/2, 4*answer*eight.Answers.Max; eight.Bytes.Median < low || eight.Bytes.Max > high {
		t.Errorf("%s: %+v for answers %+v", eight.Hash, eight.Bytes, eight.Answers)
	}
	one := r.Hashes[1]
	if one.Bytes.TooLarge < c.Sealed-6 || one.Bytes.Median <= eight.Bytes.Median {
		t.Errorf("one bit: %+v, eight bits: %+v; half the log is an answer of 2000, of which the bound of %d allows a few", one.Bytes, eight.Bytes, maxAnswers)
	}
}

func TestRecommendedBits(t *testing.T) {
	for n, want := range map[int]int{1: 1, 16: 1, 1000: 6, 10_000_000: 19, 1 << 27: 23} {
		if got := RecommendedBits(n); got != want {
			t.Errorf("%d tuples: %d bits, want %d", n, got, want)
		}
	}
}

func TestFigureEndsAtAllKeys(t *testing.T) {
	s := newSizes(map[uint64]uint64{1: 6, 3: 3, 10: 1})
	x, y := s.Curve()
	if d := cmp.Diff([][]float64{{1, 3, 10}, {0.6, 0.9, 1}}, [][]float64{x, y}, cmpopts.EquateApprox(0, 1e-12)); d != "" {
		t.Error(d)
	}
	if got := s.Answers(); got != (Spread{Median: 3, P95: 10, P99: 10, Max: 10}) {
		t.Errorf("answers %+v: of 25 tuples, 6 are alone, 9 share by three, 10 by ten", got)
	}
	r := Result{Mask: "dport", Hashes: []Row{{Hash: "a & b", Sizes: s}}}
	if err := r.Figure("t").WriteSVG(io.Discard); err != nil {
		t.Error(err)
	}
	for _, series := range r.Figure("t").Series {
		if series.Y[0] != 0 || series.Y[len(series.Y)-1] != 1 || series.Name != "a & b" {
			t.Errorf("curve %q runs from %v to %v", series.Name, series.Y[0], series.Y[len(series.Y)-1])
		}
	}
}
