// Package daw_test lets worms loose, in memory over days and in namespaces over
// seconds, and watches what guards, station and judge make of them. What scans
// here is inert: it opens connections and closes them.
package daw_test

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"dragnet/contain/guard"
	"dragnet/daw"
	"dragnet/daw/station"
	"dragnet/decide"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
	"dragnet/packet"
	"dragnet/packet/capture"
)

func everything() daw.Scope {
	s := daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}}
	for p := range 1 << 16 {
		s.Ports = append(s.Ports, uint16(p))
	}
	return s
}

func judge(t testing.TB, change func(*decide.Configuration)) *decide.Judge {
	t.Helper()
	c := decide.DefaultConfiguration()
	c.Enforce, c.Approval, c.Budget, c.Addresses = true, false, 0.1, 100
	if change != nil {
		change(&c)
	}
	j, err := decide.New(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// The guard's counts of a capture against the flows that the assembler makes of
// the same file by other means.
func TestCountsOfCapturesAgreeWithTheirFlows(t *testing.T) {
	paths := []string{"../incident/testdata/aurora.pcap.gz", "../incident/testdata/cygnus.pcap.gz"}
	if os.Getenv("DRAGNET_DATA") != "" {
		paths = append(paths, testkit.Data(t, "ndpi", "1kxun.pcap"))
	}
	for _, path := range paths {
		var requests, failures uint64
		log, err := ingest.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		_, err = log.Scan(context.Background(), flow.AllTime, flow.Failures|flow.History, func(flows []flow.Flow) error {
			for _, f := range flows {
				if f.Proto != flow.TCP || len(f.History) == 0 || f.History[0] != 'S' {
					continue
				}
				requests++
				if f.State == flow.REJ || f.ICMPError>>8 == 3 && f.State == flow.S0 {
					failures++
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		c := guard.DefaultConfiguration()
		c.Scope = everything()
		c.Limits.Phi, c.Limits.Grace = 0, 0
		var total daw.Counts
		replay(t, path, c, &total)
		seen := total.Outcomes[daw.Counted] + total.Outcomes[daw.Recent]
		t.Logf("%s: %d requests and %d failures as flows, %d and %d as packets", path, requests, failures, total.Requests, seen)
		if total.Requests < requests*97/100 || total.Requests > requests*103/100 || seen != failures {
			t.Errorf("%s: %d requests and %d failures as packets, %d and %d as flows", path, total.Requests, seen, requests, failures)
		}
	}
}

// replay runs a capture through a guard and sums up its days.
func replay(t *testing.T, path string, c guard.Configuration, total *daw.Counts) {
	t.Helper()
	f, err := capture.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var g *guard.Guard
	add := func(r daw.Counts) {
		total.Requests += r.Requests
		for i, n := range r.Outcomes {
			total.Outcomes[i] += n
		}
	}
	var last daw.EdgeReport
	for {
		rec, err := f.Next()
		if errors.Is(err, io.EOF) {
			add(last.Counts)
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if g == nil {
			if g, err = guard.New(c, rec.Time, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		var p packet.Packet
		if p.Decode(rec.Link, rec.Data, rec.Wire) != nil {
			continue
		}
		g.Packet(rec.Time, &p, guard.Path{})
		r := g.Edge().Report(rec.Time)
		if r.Day != last.Day && last.Day != 0 {
			add(last.Counts)
		}
		last = r
	}
}

var monday = flow.FromTime(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))

const day = flow.Time(24 * time.Hour)

// outbreak is two customer networks with worms in them, an agent each.
type outbreak struct {
	guards  []*guard.Guard
	judge   *decide.Judge
	station *station.Station
	n       uint32
	refused int
}

// eager is a station that has nothing to learn.
func eager() station.Configuration {
	c := station.DefaultConfiguration()
	c.Learn = 0
	return c
}

func newOutbreak(t *testing.T, change func(*decide.Configuration)) *outbreak {
	o := &outbreak{judge: judge(t, change), station: station.New(eager())}
	for i := range 2 {
		c := guard.DefaultConfiguration()
		c.Station = true // persistent scanners are told, not blocked
		c.Validation.By = "the test"
		c.Limits.Entries, c.Limits.Records, c.Limits.Requests, c.Limits.Days = 256, 1024, 1<<12, 2
		c.Scope = daw.Scope{Sources: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)}, Ports: []uint16{80}}
		g, err := guard.New(c, monday, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		o.guards = append(o.guards, g)
	}
	return o
}

// probe lets a host scan one address that refuses; it reports whether the SYN
// passed.
func (o *outbreak) probe(now flow.Time, network, host int) bool {
	o.n++
	syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: netip.AddrFrom4([4]byte{10, byte(network), 0, byte(host)}),
		Dst: netip.AddrFrom4([4]byte{byte(20 + o.n>>24), byte(o.n >> 16), byte(o.n >> 8), byte(o.n)}), SrcPort: uint16(o.n), DstPort: 80, Seq: o.n * 7}
	if !o.guards[network].Packet(now, &syn, guard.Path{Inside: true}) {
		return false
	}
	rst := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.RST | flow.ACK, Src: syn.Dst, Dst: syn.Src, SrcPort: 80, DstPort: syn.SrcPort, Ack: syn.Seq + 1}
	o.guards[network].Packet(now, &rst, guard.Path{Outside: true})
	return true
}

// apply does what the node does: proposals go to the judge, and its decisions
// to the guards.
func (o *outbreak) apply(t *testing.T, now flow.Time) {
	t.Helper()
	for _, g := range o.guards {
		b := g.MakeReport(now)
		for _, p := range b.Persistent {
			_, err := o.judge.Propose(now, dossier.Proposal{Target: netip.PrefixFrom(p.Addr, p.Addr.BitLen()), Who: "guard", Why: "persistent", TTL: p.Next})
			if err != nil {
				o.refused++
			}
		}
		if err := g.ApplyPolicy(now, b, daw.AgentPolicy{Version: daw.MessageVersion, Decisions: o.judge.Decisions(now)}); err != nil {
			t.Fatal(err)
		}
	}
}

// Two agents under an outbreak: limits first, blocks after n days, the ban
// budget holds, blocks end, and a stop ends them all.
func TestOutbreak(t *testing.T) {
	o := newOutbreak(t, nil) // at most 10 addresses
	blockedAt, most := flow.Time(0), 0
	for now := monday; now < monday+3*day; now += flow.Time(20 * time.Second) {
		for host := range 16 {
			o.probe(now, host%2, host)
		}
		if now%flow.Time(10*time.Minute) == 0 {
			o.apply(t, now)
			blocked := len(o.guards[0].Edge().Blocks(now)) + len(o.guards[1].Edge().Blocks(now))
			if most = max(most, blocked); blocked > 0 && blockedAt == 0 {
				blockedAt = now
			}
		}
	}
	if blockedAt < monday+2*day || blockedAt > monday+2*day+flow.Time(time.Hour) {
		t.Errorf("the first block came after %v, want just after 2 days", time.Duration(blockedAt-monday))
	}
	if most != 10 {
		t.Errorf("%d sources blocked at a time, want the budget of 10 and no more", most)
	}
	if o.refused == 0 {
		t.Error("the budget refused no host, so it was not tested")
	}
	end := monday + 3*day
	o.apply(t, end)
	if n := len(o.judge.Active(end)); n != 0 {
		t.Errorf("%d blocks of an hour are in force a day later", n)
	}
	if !o.probe(end+day, 1, 200) {
		t.Error("a host that never scanned is hindered")
	}
}

func TestStopUnblocks(t *testing.T) {
	o := newOutbreak(t, nil)
	target := netip.MustParsePrefix("10.0.0.5/32")
	if _, err := o.judge.Propose(monday, dossier.Proposal{Target: target, Who: "ada", Why: "test"}); err != nil {
		t.Fatal(err)
	}
	o.apply(t, monday)
	if o.probe(monday, 0, 5) {
		t.Fatal("not blocked")
	}
	o.judge.Stop(monday+1, "ada", "enough")
	o.apply(t, monday+1)
	if !o.probe(monday+2, 0, 5) {
		t.Error("still blocked after the stop")
	}
	if got := o.guards[0].Edge().NextBlock(target.Addr()); got != daw.DefaultParameters().FirstBlock {
		t.Errorf("a stopped block counts as an earlier one: the next lasts %v", got)
	}
}

func TestDryRunHindersNobody(t *testing.T) {
	o := newOutbreak(t, func(c *decide.Configuration) { c.Enforce = false })
	d, err := o.judge.Propose(monday, dossier.Proposal{Target: netip.MustParsePrefix("10.0.0.5/32"), Who: "ada", Why: "test"})
	if err != nil || d.Verdict != dossier.DryRun {
		t.Fatal(d.Verdict, err)
	}
	o.apply(t, monday)
	if !o.probe(monday, 0, 5) {
		t.Error("blocked in a dry run")
	}
}

// The station sees the offenders rise and proposes the worst, ever more.
func TestStationProposesDoublingShares(t *testing.T) {
	o := newOutbreak(t, nil)
	var proposed []int
	for minute := range 12 {
		now := monday + flow.Time(minute)*flow.Time(time.Minute)
		for host := range min(minute*8, 64) { // eight more infected a minute, until the eighth
			for range 200 {
				o.probe(now, 0, host)
			}
		}
		at := now + flow.Time(time.Minute) - 1
		e := o.guards[0].Edge()
		if !o.station.Report(at, "edge-1", e.Report(at), e.Offenders(at, 1000)) {
			t.Fatal("a true report is called nonsense")
		}
		proposed = append(proposed, len(o.station.Look(at)))
	}
	t.Log(proposed)
	peak := 0
	for i := 1; i < len(proposed); i++ {
		peak = max(peak, proposed[i])
		if proposed[i-1] > 0 && proposed[i] > 0 && proposed[i] < min(2*proposed[i-1], 56) { // nearly all there are
			t.Errorf("proposals %v do not double", proposed)
		}
	}
	if peak < 4 || proposed[0] != 0 || proposed[len(proposed)-1] != 0 {
		t.Errorf("proposals %v: want none at first, more while offenders rise, none once they stop", proposed)
	}
}

// A firewall that is silent to the scanner reports to us: its drops count.
func TestDropLogsCountAsFailures(t *testing.T) {
	o := newOutbreak(t, nil)
	passed := 0
	for n := range 86400 {
		now := monday + flow.Time(n)*flow.Time(time.Second)
		syn := packet.Packet{Decoded: true, Proto: flow.TCP, Flags: flow.SYN, Src: netip.MustParseAddr("10.0.0.7"),
			Dst: netip.AddrFrom4([4]byte{30, byte(n >> 16), byte(n >> 8), byte(n)}), SrcPort: uint16(n), DstPort: 80, Seq: uint32(n)}
		if !o.guards[0].Packet(now, &syn, guard.Path{Inside: true}) {
			continue
		}
		passed++
		l := daw.FailLog{Time: now, Src: syn.Src, Dst: syn.Dst, SrcPort: syn.SrcPort, DstPort: 80, Device: "fw"}
		if got := o.guards[0].FailLog(now, &l); got != daw.Counted {
			t.Fatalf("outcome %d, want counted", got)
		}
	}
	if omega := daw.DefaultParameters().Omega; passed > 2*omega || passed < omega {
		t.Errorf("%d scans passed, want between omega (%d) and twice that", passed, omega)
	}
}
