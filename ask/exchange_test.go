package ask_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// memory is a log in memory, handed out in small batches by two goroutines.
type memory []flow.Flow

func (m memory) Scan(_ context.Context, _ flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	cov.Saw(m)
	done := make(chan error, 2)
	for part := range 2 {
		go func() {
			for i := part; i < len(m); i += 2 {
				if err := fn(m[i : i+1]); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	err := <-done
	if err2 := <-done; err == nil {
		err = err2
	}
	return cov, err
}

// indexed keeps standard keys of every flow, as a store does, and refuses to
// be scanned.
type indexed struct {
	memory
	t *testing.T
}

func (x indexed) Scan(context.Context, flow.Window, flow.Columns, func([]flow.Flow) error) (flow.Coverage, error) {
	x.t.Error("a standard question was answered by a scan")
	return flow.Coverage{}, nil
}

func (x indexed) Lookup(_ context.Context, c *dossier.AskedClue, h key.Hash, _ flow.Window, fn func([]flow.Flow) error) (flow.Coverage, bool, error) {
	keyer, err := key.NewKeyer(c.Mask, c.End, h, c.Salt)
	if err != nil {
		return flow.Coverage{}, false, err
	}
	for i := range x.memory {
		k, ok := keyer.Flow(&x.memory[i])
		if ok && slices.ContainsFunc(c.Keys, func(a dossier.AskedKey) bool { return a.K == k }) {
			if err := fn(x.memory[i : i+1]); err != nil {
				return flow.Coverage{}, true, err
			}
		}
	}
	return flow.Coverage{Flows: uint64(len(x.memory))}, true, nil
}

// indexedByHost leaves out whatever it may.
type indexedByHost struct{ indexed }

func (x indexedByHost) LookupAmong(ctx context.Context, c *dossier.AskedClue, h key.Hash, w flow.Window, hosts map[netip.Addr]bool, fn func([]flow.Flow) error) (flow.Coverage, bool, error) {
	return x.Lookup(ctx, c, h, w, func(batch []flow.Flow) error {
		if hosts[c.End.X(&batch[0])] {
			return fn(batch)
		}
		return nil
	})
}

func config(change func(*detective.Configuration)) detective.Configuration {
	c := detective.Configuration{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: 19}, Style: detective.Hybrid,
		Window: flow.AllTime, Epoch: "2026-11-22", KDFMemory: 8, Quorum: 1,
	}
	if change != nil {
		change(&c)
	}
	return c
}

func parse(t testing.TB, text string) *pattern.Pattern {
	p, err := pattern.Parse(text, pattern.NoFiles)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newWitness(t testing.TB, name string, log flow.Log, change func(*witness.Configuration)) *witness.Witness {
	c := witness.DefaultConfiguration()
	if change != nil {
		change(&c)
	}
	w, err := witness.New(c, name, log, []netip.Prefix{netip.MustParsePrefix("203.0.113.128/25")})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// hunt runs the whole exchange.
func hunt(t testing.TB, c detective.Configuration, text string, witnesses ...*witness.Witness) detective.Result {
	q, err := detective.New(c, parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range witnesses {
		sealed, _, err := w.Answer(context.Background(), q.Question())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := q.OpenTestimony(context.Background(), w.Name(), sealed); err != nil {
			t.Fatal(err)
		}
	}
	return q.Result()
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(n)}) }

// drawFlows makes traffic among few hosts and ports, so that everything meets.
func drawFlows(t *rapid.T) memory {
	out := make(memory, rapid.IntRange(0, 60).Draw(t, "flows"))
	for i := range out {
		out[i] = flow.Flow{
			Start: flow.Time(rapid.IntRange(0, 40).Draw(t, "time")), Orig: addr(rapid.IntRange(1, 4).Draw(t, "orig")),
			Resp: addr(rapid.IntRange(1, 4).Draw(t, "resp")), OrigPort: rapid.Uint16Range(1, 2).Draw(t, "sport"),
			RespPort: rapid.Uint16Range(1, 3).Draw(t, "dport"), Proto: rapid.SampledFrom([]flow.Proto{flow.TCP, flow.UDP}).Draw(t, "proto"),
			State: rapid.SampledFrom([]flow.State{flow.SF, flow.REJ, flow.S0}).Draw(t, "state"),
			Known: rapid.SampledFrom([]flow.Columns{0, flow.Counts, flow.Counts | flow.Lasting}).Draw(t, "known"),
		}
		if out[i].Known.Has(flow.Counts) {
			out[i].OrigIPBytes, out[i].RespIPBytes = rapid.Uint64Range(0, 3).Draw(t, "sent"), rapid.Uint64Range(0, 3).Draw(t, "received")
		}
		if out[i].Known.Has(flow.Lasting) {
			out[i].Duration = time.Duration(rapid.IntRange(0, 3).Draw(t, "seconds")) * time.Second
		}
	}
	return out
}

func drawClue(t *rapid.T) string {
	end := rapid.SampledFrom([]string{"in", "out"}).Draw(t, "end")
	other, own := "src", "dst"
	if end == "out" {
		other, own = own, other
	}
	text := fmt.Sprintf("%s %s=%s", end, other, rapid.SampledFrom([]string{"198.51.100.1", "198.51.100.2", "198.51.100.2/31", "198.51.100.1,198.51.100.3"}).Draw(t, "other"))
	if rapid.IntRange(0, 5).Draw(t, "own?") == 0 {
		text += fmt.Sprintf(" %s=198.51.100.%d", own, rapid.IntRange(1, 4).Draw(t, "own"))
	}
	if rapid.Bool().Draw(t, "port?") {
		text += fmt.Sprintf(" dport=%d", rapid.IntRange(1, 3).Draw(t, "port"))
	}
	if rapid.Bool().Draw(t, "sport?") {
		text += " sport=1"
	}
	text += rapid.SampledFrom([]string{"", " state=failed", " state=established", " proto=tcp", " state=S0", " state=SF,REJ"}).Draw(t, "more")
	bounds := []string{"", "", "", " bytes>=2", " bytes<=1", " sent>=1 sent<=2", " received<=2 duration>=1s", " duration<=2s", " flows>=2", " ports>=2 flows>=5"}
	if strings.Contains(text, "/31") {
		bounds = append(bounds, " peers>=2", " peers>=2 flows>=5") // one address has one peer
	}
	return text + rapid.SampledFrom(bounds).Draw(t, "bounds")
}

func drawPattern(t *rapid.T, depth int) string {
	if depth == 0 || rapid.IntRange(0, 2).Draw(t, "leaf") == 0 {
		return drawClue(t)
	}
	switch rapid.IntRange(0, 6).Draw(t, "form") {
	case 0:
		return "(" + drawPattern(t, depth-1) + " and not " + drawClue(t) + ")"
	case 1:
		return "(" + drawPattern(t, depth-1) + " and not (" + drawClue(t) + " or " + drawClue(t) + "))"
	case 2:
		return "(" + drawPattern(t, depth-1) + " then[5ns] not " + drawClue(t) + ")"
	case 3:
		return "(not " + drawClue(t) + " then[3ns] " + drawClue(t) + ")"
	}
	op := rapid.SampledFrom([]string{"and", "or", "then[5ns]", "then"}).Draw(t, "op")
	return "(" + drawPattern(t, depth-1) + " " + op + " " + drawPattern(t, depth-1) + ")"
}

// drawQuestion is a pattern, or one with a count of clues, which has no place in time.
func drawQuestion(t *rapid.T) string {
	if rapid.IntRange(0, 3).Draw(t, "count?") > 0 {
		return drawPattern(t, 2)
	}
	text := fmt.Sprintf("%d of (in src=198.51.100.1,198.51.100.3 or %s or %s)", rapid.IntRange(2, 4).Draw(t, "count"), drawClue(t), drawClue(t))
	switch rapid.IntRange(0, 3).Draw(t, "beside") {
	case 0:
		return text + " and " + drawPattern(t, 1)
	case 1:
		return text + " and not " + drawClue(t)
	case 2:
		return text + " or " + drawPattern(t, 1)
	}
	return text
}

// plain finds the hosts by reading the log in clear, without keys or seals. It shares
// the parser with the real thing, and nothing else: it tries all choices of events.
func plain(p *pattern.Pattern, w flow.Window, logs ...memory) []string {
	found := map[string]bool{}
	for _, log := range logs {
		for x := 1; x <= 4; x++ {
			l := plainLog{p, w, log, addr(x)}
			if len(l.spans(p.Root)) > 0 {
				found[addr(x).String()] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

type plainLog struct {
	p   *pattern.Pattern
	w   flow.Window
	log memory
	x   netip.Addr
}

// spans are the first and last events of all ways to satisfy a node.
func (l *plainLog) spans(n *pattern.Node) map[[2]flow.Time]bool {
	out := map[[2]flow.Time]bool{}
	switch n.Op {
	case pattern.Leaf:
		for _, v := range values(l.p.Clues[n.Clue].Text) {
			for _, t := range l.times(v) {
				out[[2]flow.Time{t, t}] = true
			}
		}
		return out
	case pattern.AtLeast:
		met := 0
		for _, clue := range plainLeaves(n.Left) {
			for _, v := range values(l.p.Clues[clue].Text) {
				if len(l.times(v)) > 0 {
					met++
				}
			}
		}
		if met >= n.Count {
			out[[2]flow.Time{flow.MaxTime, flow.MinTime}] = true // at no time
		}
		return out
	case pattern.Or:
		maps.Copy(out, l.spans(n.Left))
		maps.Copy(out, l.spans(n.Right))
		return out
	}
	if n.Left.Op == pattern.Not || n.Right.Op == pattern.Not {
		side, denied := n.Left, n.Right
		if n.Left.Op == pattern.Not {
			side, denied = n.Right, n.Left
		}
		var times []flow.Time
		for _, clue := range plainLeaves(denied.Left) {
			for _, v := range values(l.p.Clues[clue].Text) {
				times = append(times, l.times(v)...)
			}
		}
		for s := range l.spans(side) {
			if !slices.ContainsFunc(times, func(t flow.Time) bool {
				switch {
				case n.Op == pattern.And:
					return true
				case denied == n.Left:
					return t < s[0] && s[0]-t <= flow.Time(n.Within)
				}
				return t > s[1] && t-s[1] <= flow.Time(n.Within)
			}) {
				out[s] = true
			}
		}
		return out
	}
	for a := range l.spans(n.Left) {
		for b := range l.spans(n.Right) {
			if n.Op == pattern.And || b[0] > a[1] && b[1]-a[1] <= flow.Time(n.Within) {
				out[[2]flow.Time{min(a[0], b[0]), max(a[1], b[1])}] = true
			}
		}
	}
	return out
}

func plainLeaves(n *pattern.Node) []int {
	if n.Op == pattern.Leaf {
		return []int{n.Clue}
	}
	return append(plainLeaves(n.Left), plainLeaves(n.Right)...)
}

// values are the texts of a clue with one value of its list each.
func values(text string) []string {
	const list = "198.51.100.1,198.51.100.3"
	if !strings.Contains(text, list) {
		return []string{text}
	}
	return []string{strings.Replace(text, list, "198.51.100.1", 1), strings.Replace(text, list, "198.51.100.3", 1)}
}

// times reads the conditions off a text, and the log once for each flow.
func (l *plainLog) times(text string) (times []flow.Time) {
	in := strings.HasPrefix(text, "in")
	var all memory
	for _, f := range l.log {
		x := f.Orig
		if in {
			x = f.Resp
		}
		if l.w.Contains(f.Start) && x == l.x && plainFits(text, in, &f) {
			all = append(all, f)
		}
	}
	for _, f := range all {
		flows, peers, ports := 0, map[netip.Addr]bool{}, map[uint16]bool{}
		for _, g := range all {
			if g.Start <= f.Start {
				flows++
				ports[g.RespPort] = true
				peers[g.Orig], peers[g.Resp] = true, true
			}
		}
		delete(peers, l.x)
		if slices.ContainsFunc(all, func(g flow.Flow) bool { return g.Start <= f.Start && g.Orig == g.Resp }) {
			peers[l.x] = true // it talked to itself
		}
		if flows >= wanted(text, "flows>=") && len(peers) >= wanted(text, "peers>=") && len(ports) >= wanted(text, "ports>=") {
			times = append(times, f.Start)
		}
	}
	return times
}

// wanted is the number after a word of a text, 0 without it.
func wanted(text, word string) (n int) {
	if _, after, ok := strings.Cut(text, word); ok {
		fmt.Sscan(after, &n)
	}
	return n
}

func plainFits(text string, in bool, f *flow.Flow) bool {
	sent, received := f.OrigIPBytes, f.RespIPBytes
	if in {
		sent, received = received, sent
	}
	counted, lasted := f.Known&flow.Counts != 0, f.Known&flow.Lasting != 0
	for _, word := range strings.Fields(text)[1:] {
		name, value, _ := strings.Cut(word, "=")
		ok := true
		switch name {
		case "src", "dst":
			a := f.Orig
			if name == "dst" {
				a = f.Resp
			}
			ok = a.String() == value || value == "198.51.100.2/31" && (a == addr(2) || a == addr(3))
		case "dport":
			ok = fmt.Sprint(f.RespPort) == value
		case "sport":
			ok = fmt.Sprint(f.OrigPort) == value
		case "proto":
			ok = f.Proto == flow.TCP
		default:
			ok = map[string]bool{
				"state=S0": f.State == flow.S0, "state=SF,REJ": f.State == flow.SF || f.State == flow.REJ,
				"state=failed": f.Proto == flow.TCP && f.State != flow.SF, "state=established": f.State == flow.SF,
				"bytes>=2": counted && sent+received >= 2, "bytes<=1": counted && sent+received <= 1, "sent>=1": counted && sent >= 1, "sent<=2": counted && sent <= 2,
				"received<=2": counted && received <= 2, "duration>=1s": lasted && f.Duration >= time.Second, "duration<=2s": lasted && f.Duration <= 2*time.Second,
			}[word] || name == "flows>" || name == "peers>" || name == "ports>"
		}
		if !ok {
			return false
		}
	}
	return true
}

func hosts(r detective.Result) []string {
	var out []string
	for _, h := range r.Hosts {
		out = append(out, h.Addr.String())
	}
	slices.Sort(out)
	return out
}

// TestExchangeFindsWhatPlainReadingFinds is the main oracle: any pattern, any
// hash, mode, style and side of the join, with many collisions and with none.
func TestExchangeFindsWhatPlainReadingFinds(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		log := drawFlows(rt)
		text := drawQuestion(rt)
		c := config(func(c *detective.Configuration) {
			c.Mode = rapid.SampledFrom([]dossier.Mode{dossier.OPRF, dossier.Paper}).Draw(rt, "mode")
			c.Hash = rapid.SampledFrom([]key.Hash{{Kind: key.Linear, Bits: 1}, {Kind: key.Linear, Bits: 19}, {Kind: key.Product}, {Kind: key.ProductMod, Modulus: 3}}).Draw(rt, "hash")
			c.JoinHere = rapid.Bool().Draw(rt, "join")
			c.Style = rapid.SampledFrom([]detective.Style{detective.Hybrid, detective.SelfDescribing}).Draw(rt, "style")
			c.Window.From = flow.Time(rapid.IntRange(0, 10).Draw(rt, "from"))
			c.Window.To = flow.Time(rapid.IntRange(20, 50).Draw(rt, "to"))
		})
		source := rapid.SampledFrom([]flow.Log{log, indexed{log, t}, indexedByHost{indexed{log, t}}}).Draw(rt, "source")
		got := hunt(t, c, text, newWitness(t, "w", source, nil))
		want := plain(parse(t, text), c.Window, log)
		if diff := cmp.Diff(want, hosts(got)); diff != "" {
			rt.Fatalf("%+v %s with %+v over %d flows:\n%s", got.Witnesses, text, c, len(log), diff)
		}
		for _, h := range got.Hosts {
			if h.Flows == 0 || h.FirstSeen > h.LastSeen || len(h.Clues) == 0 || h.Scope != "" {
				rt.Fatalf("%s: incomplete host %+v", text, h)
			}
		}
	})
}

// TestTheRareClueComesFirst: a clue that fits nearly all flows is looked up among the
// hosts that fit the rare one, so that it does not exceed the witness's memory: in
// a file, by look-ups, and by look-ups that know of hosts.
func TestTheRareClueComesFirst(t *testing.T) {
	var log memory
	for i := range 5000 {
		x := netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)})
		log = append(log, flow.Flow{Start: flow.Time(2 * i), Orig: x, Resp: addr(9), RespPort: 80, Proto: flow.TCP})
		if i%1000 == 0 {
			log = append(log, flow.Flow{Start: flow.Time(2*i - 1), Orig: x, Resp: netip.MustParseAddr("203.0.113.5"), RespPort: 22, Proto: flow.TCP})
		}
	}
	small := func(c *witness.Configuration) { c.MaxEvents = 100 }
	const text = "out dst=203.0.113.5 dport=22 then[1h] out dport=80"
	for name, source := range map[string]flow.Log{"file": log, "index": indexed{log, t}, "index by host": indexedByHost{indexed{log, t}}} {
		if r := hunt(t, config(nil), text, newWitness(t, "w", source, small)); len(r.Hosts) != 5 {
			t.Errorf("%s: hosts %v, refused %q", name, hosts(r), r.Witnesses[0].Refused)
		}
		if r := hunt(t, config(nil), "out dport=80", newWitness(t, "w", source, small)); r.Witnesses[0].Refused != "too ambiguous" {
			t.Errorf("%s: 5000 flows in memory for 100: refused %q", name, r.Witnesses[0].Refused)
		}
		// What is negated is looked up among those hosts, too.
		if r := hunt(t, config(nil), "out dst=203.0.113.5 dport=22 and not out dport=80", newWitness(t, "w", source, small)); len(r.Hosts) != 0 || r.Witnesses[0].Refused != "" {
			t.Errorf("%s: hosts %v, refused %q", name, hosts(r), r.Witnesses[0].Refused)
		}
	}
}

// TestJoiningHerePoolsWitnesses: what only one witness saw of a host completes
// what another saw of it, if the detective joins.
func TestJoiningHerePoolsWitnesses(t *testing.T) {
	a := memory{{Start: 10, Orig: addr(9), Resp: addr(1), RespPort: 1433, Proto: flow.TCP, State: flow.SF}}
	b := memory{{Start: 20, Orig: addr(1), Resp: addr(8), RespPort: 69, Proto: flow.UDP, State: flow.SF}}
	const text = "in src=198.51.100.9 dport=1433 then out dst=198.51.100.8 dport=69"
	for _, here := range []bool{false, true} {
		c := config(func(c *detective.Configuration) { c.JoinHere = here })
		r := hunt(t, c, text, newWitness(t, "a", a, nil), newWitness(t, "b", b, nil))
		if found := len(r.Hosts) == 1; found != here {
			t.Errorf("joined at the detective: %v; hosts: %v", here, hosts(r))
		}
		if here && !slices.Equal(r.Hosts[0].Witnesses, []string{"a", "b"}) {
			t.Errorf("witnesses %v, want both", r.Hosts[0].Witnesses)
		}
	}
}

func TestQuorumAndScope(t *testing.T) {
	private := netip.MustParseAddr("10.0.0.5")
	log := memory{
		{Start: 1, Orig: addr(1), Resp: addr(8), RespPort: 69, Proto: flow.UDP},
		{Start: 2, Orig: private, Resp: addr(8), RespPort: 69, Proto: flow.UDP},
	}
	const text = "out dst=198.51.100.8 dport=69"
	ws := func() []*witness.Witness {
		return []*witness.Witness{newWitness(t, "a", log, nil), newWitness(t, "b", log, nil), newWitness(t, "c", log[1:], nil)}
	}
	all := hunt(t, config(nil), text, ws()...)
	if len(all.Hosts) != 4 || all.Hosts[0].Addr != addr(1) || all.Hosts[1].Scope != "a" || all.Hosts[3].Scope != "c" {
		t.Errorf("want the public host once, first, and the private one once per witness: %+v", all.Hosts)
	}
	two := hunt(t, config(func(c *detective.Configuration) { c.Quorum = 2 }), text, ws()...)
	if got := hosts(two); !slices.Equal(got, []string{addr(1).String()}) {
		t.Errorf("with a quorum of two: %v", got)
	}
}

// TestQuorumWhenJoiningHere: with a quorum of two, whatever one witness says may
// be a lie, so the host must fit without any one of them.
func TestQuorumWhenJoiningHere(t *testing.T) {
	contact := func(at flow.Time) flow.Flow {
		return flow.Flow{Start: at, Orig: addr(9), Resp: addr(1), RespPort: 1433, Proto: flow.TCP, State: flow.SF}
	}
	fetch := func(at flow.Time) flow.Flow {
		return flow.Flow{Start: at, Orig: addr(1), Resp: addr(8), RespPort: 69, Proto: flow.UDP, State: flow.SF}
	}
	const first, second = "in src=198.51.100.9 dport=1433", "out dst=198.51.100.8 dport=69"
	for name, c := range map[string]struct {
		text  string
		logs  []memory
		found bool
	}{
		"both saw both":               {first + " then " + second, []memory{{contact(1), fetch(2)}, {contact(1), fetch(2)}}, true},
		"each saw one alternative":    {first + " or " + second, []memory{{contact(1)}, {fetch(2)}}, true},
		"each saw one half":           {first + " then " + second, []memory{{contact(1)}, {fetch(2)}}, false},
		"one saw it, one the reverse": {first + " then " + second, []memory{{contact(1), fetch(2)}, {contact(9), fetch(8)}}, false},
		"three saw halves":            {first + " then " + second, []memory{{contact(1)}, {fetch(2)}, {contact(1), fetch(2)}}, true},
		"halves that do not overlap":  {first + " then[5ns] " + second, []memory{{contact(1), fetch(2)}, {contact(50)}, {fetch(90)}}, false},
	} {
		var witnesses []*witness.Witness
		for i, log := range c.logs {
			witnesses = append(witnesses, newWitness(t, fmt.Sprint("w", i), log, nil))
		}
		r := hunt(t, config(func(c *detective.Configuration) { c.JoinHere, c.Quorum = true, 2 }), c.text, witnesses...)
		if found := len(r.Hosts) == 1; found != c.found {
			t.Errorf("%s: hosts %v", name, hosts(r))
		}
	}
}

// TestTranscript: apart from the uniformly random blinded elements, a witness
// receives the same bytes for two patterns with the same keys.
func TestTranscript(t *testing.T) {
	// The byte product does not tell 12.34.56.78 from 12.56.34.78.
	c := config(func(c *detective.Configuration) { c.Hash = key.Hash{Kind: key.Product} })
	texts := []string{
		"in src=12.34.56.78 dport=1433 then[1h] out dst=10.20.30.40 dport=69 proto=udp",
		"in src=12.56.34.78 dport=1433 then[1h] out dst=10.30.20.40 dport=69 proto=udp",
		"in src=12.68.28.78 dport=1433 then[1h] out dst=40.20.30.10 dport=69 proto=udp",
	}
	var seen [][]byte
	elements := map[string]bool{}
	for _, text := range texts {
		q, err := detective.New(c, parse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		var sent dossier.Question
		if err := sent.UnmarshalBinary(q.Question()); err != nil {
			t.Fatal(err)
		}
		sent.Reply = nil // the asker's key: drawn afresh, whatever the pattern
		for i := range sent.Clues {
			for j := range sent.Clues[i].Keys {
				elements[string(sent.Clues[i].Keys[j].Blinded)] = true
				sent.Clues[i].Keys[j].Blinded = []byte{0}
			}
		}
		b, err := sent.MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, b)
	}
	for i := range seen {
		if !bytes.Equal(seen[0], seen[i]) {
			t.Errorf("%q and %q have the same keys, but the witness can tell them apart", texts[0], texts[i])
		}
	}
	if len(elements) != 2*len(texts) {
		t.Errorf("%d different blinded elements, want %d", len(elements), 2*len(texts))
	}
}

// TestCollisionsStayClosed looks for the foreign hosts in all that
// the detective holds after opening.
func TestCollisionsStayClosed(t *testing.T) {
	log := memory{
		{Start: 1, Orig: addr(1), Resp: netip.MustParseAddr("12.34.56.78"), RespPort: 80, Proto: flow.TCP, State: flow.SF},
		{Start: 2, Orig: addr(2), Resp: netip.MustParseAddr("12.56.34.78"), RespPort: 80, Proto: flow.TCP, State: flow.SF},
	}
	c := config(func(c *detective.Configuration) { c.Hash = key.Hash{Kind: key.Product} })
	r := hunt(t, c, "out dst=12.34.56.78 dport=80", newWitness(t, "w", log, nil))
	w := r.Witnesses[0]
	if w.Answers != 2 || w.Opened != 1 || w.Collisions != 1 || r.Collisions != 1 {
		t.Errorf("want one answer opened and one collision: %+v", w)
	}
	if got := hosts(r); !slices.Equal(got, []string{addr(1).String()}) {
		t.Errorf("hosts %v", got)
	}
}

func TestStandardQuestionsUseTheIndex(t *testing.T) {
	log := indexed{memory{{Start: 1, Orig: addr(1), Resp: addr(8), RespPort: 69, Proto: flow.UDP}}, t}
	w := newWitness(t, "w", log, nil)
	r := hunt(t, config(func(c *detective.Configuration) { c.Style = detective.Standard }), "out dst=198.51.100.8 dport=69 proto=udp", w)
	if len(r.Hosts) != 1 {
		t.Errorf("hosts %v, want one", hosts(r))
	}
	_, err := detective.New(config(func(c *detective.Configuration) { c.Style = detective.Standard }), parse(t, "out sport=7"))
	if err == nil {
		t.Error("a mask outside the catalogue passed as a standard question")
	}
}

func TestSilentNetworksAreNeverReported(t *testing.T) {
	silent := netip.MustParseAddr("203.0.113.200")
	log := memory{
		{Start: 1, Orig: silent, Resp: addr(8), RespPort: 69, Proto: flow.UDP},
		{Start: 1, Orig: addr(1), Resp: silent, RespPort: 69, Proto: flow.UDP},
		{Start: 1, Orig: addr(2), Resp: addr(8), RespPort: 69, Proto: flow.UDP},
	}
	r := hunt(t, config(nil), "out dst=198.51.100.8 dport=69 or out dst=203.0.113.200", newWitness(t, "w", log, nil))
	if got := hosts(r); !slices.Equal(got, []string{addr(2).String()}) {
		t.Errorf("hosts %v, want only %v", got, addr(2))
	}
}
