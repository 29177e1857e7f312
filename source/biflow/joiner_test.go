package biflow

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"dragnet/flow"
)

const second = flow.Time(time.Second)

var (
	client   = netip.MustParseAddr("192.0.2.10")
	server   = netip.MustParseAddr("198.51.100.5")
	exporter = netip.MustParseAddr("203.0.113.1")
)

// record is one direction of TCP.
func record(src, dst netip.Addr, sport, dport uint16, flags flow.TCPFlags, start flow.Time, packets uint64) Record {
	return Record{Flow: flow.Flow{Start: start, Duration: time.Second, Orig: src, Resp: dst, OrigPort: sport, RespPort: dport, Proto: flow.TCP,
		OrigFlags: flags, OrigPkts: packets, OrigIPBytes: 60 * packets, Known: flow.Counts | flow.Flags | flow.Lasting, Exporter: exporter}}
}

// join runs records, which arrive a millisecond after one another.
func join(t *testing.T, records ...Record) (flows []flow.Flow, q Quality) {
	t.Helper()
	j := New(DefaultConfiguration(), func(f *flow.Flow) { flows = append(flows, *f) })
	for i := range records {
		j.Add(flow.Time(i)*1e6, &records[i])
	}
	j.Flush()
	if j.Held() != 0 {
		t.Errorf("%d conversations are still held", j.Held())
	}
	return flows, j.Qualities()[exporter]
}

const (
	s, a, f, r = flow.SYN, flow.ACK, flow.FIN, flow.RST
)

// TestOriginatorAndState: each case is run in both orders of its records, and
// mirrored in its addresses, so that nothing depends on which end is the lesser.
func TestOriginatorAndState(t *testing.T) {
	for name, c := range map[string]struct {
		forward, back flow.TCPFlags // 0: not seen
		sport, dport  uint16
		early         flow.Time // by how much forward starts before back
		sampling      uint32
		state         flow.State
		flipped       bool
		oneSided      uint64
	}{
		"whole":                       {s | a | f, s | a | f, 40000, 80, 1, 1, flow.SF, false, 0},
		"whole, high ports, by time":  {s | a | f, s | a | f, 5000, 6000, second, 1, flow.SF, false, 0},
		"ports against a millisecond": {s | a | f, s | a | f, 40000, 80, -1e6, 1, flow.SF, false, 0},
		"whole, ports against time":   {s | a | f, s | a | f, 80, 40000, second, 1, flow.SF, false, 0},
		"sampled, ports against time": {s | a | f, s | a | f, 80, 40000, second, 100, flow.SF, true, 0},
		"equal times, by ports":       {s | a, s | a, 50000, 3306, 0, 1, flow.S1, false, 0},
		"equal times, by lower port":  {s | a, s | a, 5001, 5000, 0, 1, flow.S1, false, 0},
		"refused":                     {s, r | a, 40000, 22, 0, 1, flow.REJ, false, 0},
		"refused at a high port":      {s, r | a, 22, 40000, -second, 1, flow.REJ, false, 0},
		"unanswered":                  {s, 0, 40000, 22, 0, 1, flow.S0, false, 0},
		"unanswered, unknown rate":    {s, 0, 40000, 22, 0, 0, flow.S0, false, 0},
		"unanswered, sampled":         {s, 0, 40000, 22, 0, 10, flow.StateUnknown, false, 0},
		"given up":                    {s | r, 0, 40000, 22, 0, 1, flow.RSTOS0, false, 0},
		"half-open scan":              {s | r, s | a, 40000, 22, 0, 1, flow.RSTO, false, 0},
		"reset by responder":          {s | a, s | a | r, 40000, 22, 0, 1, flow.RSTR, false, 0},
		"closed by originator only":   {s | a | f, s | a, 40000, 22, 0, 1, flow.S2, false, 0},
		"closed by responder only":    {s | a, s | a | f, 40000, 22, 0, 1, flow.S3, false, 0},
		"only the client is seen":     {s | a | f, 0, 40000, 22, 0, 1, flow.OTH, false, 1},
		"only the server is seen":     {s | a | f, 0, 22, 40000, 0, 1, flow.SHR, true, 1},
		"midstream":                   {a, a, 40000, 22, 0, 1, flow.OTH, false, 0},
	} {
		for _, swap := range []bool{false, true} {
			for _, mirror := range []bool{false, true} {
				src, dst := client, server
				if mirror {
					src, dst = server, client
				}
				records := []Record{record(src, dst, c.sport, c.dport, c.forward, 10*second, 5)}
				if c.back != 0 {
					records = append(records, record(dst, src, c.dport, c.sport, c.back, 10*second+c.early, 7))
				}
				for i := range records {
					records[i].Sampling = c.sampling
				}
				if swap {
					slices.Reverse(records)
				}
				flows, q := join(t, records...)
				if len(flows) != 1 {
					t.Fatalf("%s: %d flows", name, len(flows))
				}
				got := flows[0]
				if (got.Orig != src) != c.flipped || got.State != c.state || q.OneSided != c.oneSided || q.Flows != 1 {
					t.Errorf("%s (swapped %v, mirrored %v): %v from %s, %+v", name, swap, mirror, got.State, got.Orig, q)
				}
				if packets := got.OrigPkts + 100*got.RespPkts; !c.flipped && c.back != 0 && packets != 705 || c.flipped && c.back != 0 && packets != 507 {
					t.Errorf("%s: %d and %d packets", name, got.OrigPkts, got.RespPkts)
				}
			}
		}
	}
}

func TestSinglePackets(t *testing.T) {
	// As sFlow samples them: one SYN-ACK suffices to know who is who.
	answer := record(client, server, 5000, 6000, s|a, 0, 1)
	answer.Sampling = 64
	if flows, _ := join(t, answer); flows[0].Orig != server || flows[0].RespPkts != 1 {
		t.Errorf("%+v", flows)
	}
}

func TestPartsOfOneConversation(t *testing.T) {
	var records []Record
	for i := range flow.Time(4) {
		records = append(records, record(client, server, 40000, 22, a, i*60*second, 10), record(server, client, 22, 40000, a, i*60*second, 10))
	}
	records[0].OrigFlags, records[1].OrigFlags = s|a, s|a
	records[6].OrigFlags, records[7].OrigFlags = a|f, a|f
	flows, q := join(t, records...)
	if len(flows) != 1 || flows[0].OrigPkts != 40 || flows[0].RespPkts != 40 || flows[0].State != flow.SF || flows[0].Duration != 181*time.Second || q.Joined != 1 {
		t.Errorf("%+v %+v", flows, q)
	}
}

func TestOtherObservationPointsAddNothing(t *testing.T) {
	in, out := record(client, server, 40000, 22, s|a, 0, 10), record(client, server, 40000, 22, s|a, 0, 10)
	out.Egress = true
	other := in
	other.Domain = 7
	back := record(server, client, 22, 40000, s|a, 0, 8)
	back.Domain = 7 // another line card
	flows, q := join(t, in, out, other, back)
	if len(flows) != 1 || flows[0].OrigPkts != 10 || flows[0].RespPkts != 8 || q.Duplicates != 2 {
		t.Errorf("%+v %+v", flows, q)
	}
}

// TestSamplesBesideFlows: a switch that exports every flow and samples packets
// besides, such as Open vSwitch with NetFlow and sFlow, says both. A sampled
// packet must neither be counted in the flow nor take away that it failed.
func TestSamplesBesideFlows(t *testing.T) {
	syn, rst := record(client, server, 40000, 81, s, 0, 1), record(server, client, 81, 40000, r|a, 0, 1)
	syn.Sampling, rst.Sampling = 1, 1
	sample := syn
	sample.Packet, sample.Sampling = true, 64
	for _, order := range [][]Record{{syn, sample, rst}, {sample, syn, rst}, {rst, syn, sample}} {
		flows, _ := join(t, order...)
		slices.SortFunc(flows, func(a, b flow.Flow) int { return int(a.Sampling) - int(b.Sampling) })
		if len(flows) != 2 || flows[0].State != flow.REJ || flows[0].OrigPkts != 1 || flows[0].Sampling != 1 || flows[1].State == flow.REJ || flows[1].Sampling != 64 {
			t.Errorf("%+v", flows)
		}
	}
}

func TestBiflow(t *testing.T) {
	both := record(client, server, 22, 40000, s|a|f, 0, 10)
	both.Biflow, both.RespPkts, both.RespFlags, both.Over = true, 8, s|a|f, true
	flows, q := join(t, both)
	if len(flows) != 1 || flows[0].Orig != client || flows[0].OrigPkts != 10 || flows[0].RespPkts != 8 || flows[0].State != flow.SF || q.Joined != 1 {
		t.Errorf("%+v %+v", flows, q)
	}
	both.Arbitrary = true
	if flows, _ = join(t, both); flows[0].Orig != server || flows[0].OrigPkts != 8 {
		t.Errorf("%+v", flows)
	}
}

func TestICMP(t *testing.T) {
	ping := func(src, dst netip.Addr, kind uint8) Record {
		r := Record{Flow: flow.Flow{Orig: src, Resp: dst, Proto: flow.ICMP, OrigPkts: 1, Known: flow.Counts, Exporter: exporter}}
		r.SetICMP(kind, 0)
		return r
	}
	flows, _ := join(t, ping(server, client, 0), ping(client, server, 8))
	if len(flows) != 1 || flows[0].Orig != client || flows[0].OrigPort != 8 || flows[0].RespPort != 0 || flows[0].State != flow.OTH {
		t.Errorf("%+v", flows)
	}
	if flows, _ = join(t, ping(server, client, 3), ping(client, server, 3)); len(flows) != 2 {
		t.Errorf("%d flows of two errors", len(flows))
	}
}

func TestTimeBringsFlows(t *testing.T) {
	var flows []flow.Flow
	c := DefaultConfiguration()
	c.MaxSkew = 0
	j := New(c, func(f *flow.Flow) { flows = append(flows, *f) })
	whole, open := record(client, server, 40000, 22, s|a|f, 0, 1), record(client, server, 40001, 22, s, 0, 1)
	back := record(server, client, 22, 40000, s|a|f, 0, 1)
	for _, r := range []*Record{&whole, &back, &open} {
		j.Add(0, r)
	}
	for _, c := range []struct {
		at   time.Duration
		want int
	}{{4 * time.Second, 0}, {6 * time.Second, 1}, {89 * time.Second, 1}, {91 * time.Second, 2}} {
		if j.Advance(flow.Time(c.at)); len(flows) != c.want {
			t.Errorf("%d flows after %v, want %d", len(flows), c.at, c.want)
		}
	}
	// A clock that jumps by years begins another flow.
	later := record(client, server, 40001, 22, s, 5*365*24*3600*second, 1)
	j.Add(100*second, &open)
	j.Add(101*second, &later)
	if len(flows) != 3 {
		t.Errorf("%d flows", len(flows))
	}
}

func TestMemoryIsBounded(t *testing.T) {
	n := 0
	c := DefaultConfiguration()
	c.MaxFlows, c.MaxExporters = 100, 3
	j := New(c, func(*flow.Flow) { n++ })
	for i := range 5000 {
		r := record(client, server, uint16(i), 22, s, 0, 1)
		r.Exporter = netip.AddrFrom4([4]byte{203, 0, 113, byte(i)})
		j.Add(0, &r)
		if j.Held() > 100 {
			t.Fatalf("%d held", j.Held())
		}
	}
	if n != 4900 {
		t.Errorf("%d flows were reported early", n)
	}
	var records, early uint64
	q := j.Qualities()
	for _, one := range q {
		records += one.Records
		early += one.Early
	}
	if len(q) != 4 || records != 5000 || early != 4900 {
		t.Errorf("%d exporters, %d records, %d early", len(q), records, early)
	}
}

// TestNothingIsLost shuffles records of random conversations: whatever their
// order, packets are counted once.
func TestNothingIsLost(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	rng := rand.New(rand.NewPCG(seed, 0))
	var records []Record
	want := uint64(0)
	for range 2000 {
		n := uint64(rng.IntN(9) + 1)
		src, dst := client, server
		if rng.IntN(2) == 0 {
			src, dst = dst, src
		}
		records = append(records, record(src, dst, uint16(rng.IntN(40)), uint16(rng.IntN(40)), flow.TCPFlags(rng.IntN(32)), flow.Time(rng.IntN(1e9)), n))
		want += n
	}
	flows, q := join(t, records...)
	got := uint64(0)
	for _, f := range flows {
		got += f.OrigPkts + f.RespPkts
	}
	if got != want || q.Flows != uint64(len(flows)) || q.Records != 2000 {
		t.Errorf("seed %d: %d packets, want %d; %+v", seed, got, want, q)
	}
}

// Open vSwitch's NetFlow counts what was sent since its last record, and repeats
// the start of the whole flow. Reported in parts, each part has its own start.
func TestPartsOfALongConversationDoNotOverlap(t *testing.T) {
	var flows []flow.Flow
	c := DefaultConfiguration()
	c.Longest = 900 * time.Millisecond
	j := New(c, func(f *flow.Flow) { flows = append(flows, *f) })
	for i := range 5 {
		r := record(client, server, 40000, 80, a, 0, 10)
		r.Duration = time.Duration(i+1) * time.Second
		j.Add(flow.Time(i+1)*second, &r)
	}
	j.Flush()
	if len(flows) < 4 {
		t.Fatalf("%d parts", len(flows))
	}
	var packets uint64
	for i, f := range flows {
		packets += f.OrigPkts
		if i > 0 && f.Start < flows[i-1].End() {
			t.Errorf("part %d from %d to %d begins before the end of the one before, %d", i, f.Start, f.End(), flows[i-1].End())
		}
	}
	if packets != 50 || flows[len(flows)-1].End() != 5*second {
		t.Errorf("%d packets until %d", packets, flows[len(flows)-1].End())
	}
	// One that was taken as over goes on after a pause: it was silent meanwhile.
	r := record(client, server, 40000, 80, a, 0, 10)
	r.Duration = 500 * time.Second
	j.Add(500*second, &r)
	j.Flush()
	if f := flows[len(flows)-1]; f.Start != 5*second || f.End() != 500*second {
		t.Errorf("after a pause it lasts from %d to %d", f.Start, f.End())
	}
}

func TestWhatWasReportedIsForgotten(t *testing.T) {
	var m recent
	for i := range 100 {
		e := &entry{key: key{portA: uint16(i)}}
		e.sides[0] = side{seen: true, end: 5}
		m.addReported(e, 10)
		m.addReported(e, 10)
	}
	if len(m.ends) != 10 || len(m.ring) != 10 {
		t.Errorf("%d and %d are remembered", len(m.ends), len(m.ring))
	}
	r := record(client, server, 1, 2, a, 0, 1)
	if m.cutStart(key{portA: 5}, 0, &r); r.Start != 0 {
		t.Error("one that was forgotten has an effect")
	}
	if m.cutStart(key{portA: 99}, 1, &r); r.Start != 0 {
		t.Error("the end of the other side has an effect")
	}
	if m.cutStart(key{portA: 99}, 0, &r); r.Start != 5 || r.End() != second {
		t.Errorf("it begins at %d and ends at %d", r.Start, r.End())
	}
}
