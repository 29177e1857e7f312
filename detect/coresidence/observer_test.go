package coresidence

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"dragnet/flow"
)

// busy are machines that transmit most of the time, half at each of two switches,
// and share no cause; flaps are intervals in which the second switch exports
// nothing.
func busy(rng *rand.Rand, seconds, vms int, flaps map[int]bool) (flows []flow.Flow) {
	for i := range vms {
		for now := rng.Float64(); now < float64(seconds); {
			on := 1 + rng.ExpFloat64()*6
			for t := now; t < min(now+on, float64(seconds)); t++ {
				f := transfer(address(1+i), netip.AddrFrom4([4]byte{9, 9, 9, byte(i)}), t, 0.99)
				f.Exporter, f.Domain = address(240), uint32(i%2)
				if i%2 == 0 || !flaps[int(t)] && !flaps[int(t+0.99)] {
					flows = append(flows, f)
				}
			}
			now += on + rng.ExpFloat64()*4
		}
	}
	return flows
}

// An exporter that restarts again and again makes its machines seem to begin
// together, which is not an alarm.
func TestRestartsOfAnExporterAreNoSynchrony(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	const seconds = 1200
	flaps := map[int]bool{}
	for at := 20; at < seconds; at += 15 + rng.IntN(30) {
		flaps[at], flaps[at+1] = true, true
	}
	a := activity(t, machines(16), seconds, busy(rng, seconds, 16, flaps)...)
	found, err := Detect(context.Background(), a, DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	if len(found.Alarms) > 0 || found.Interrupted != 8 {
		t.Errorf("%d alarms, and %d machines at a switch that stopped, want 0 and 8", len(found.Alarms), found.Interrupted)
	}
	// Without the switch's name the same flows do alarm: the test can fail.
	blind := busy(rand.New(rand.NewPCG(5, 5)), seconds, 16, flaps)
	for i := range blind {
		blind[i].Domain = 0
	}
	if found, err = Detect(context.Background(), activity(t, machines(16), seconds, blind...), DefaultConfiguration()); err != nil || len(found.Alarms) == 0 {
		t.Errorf("%d alarms, %v: the restarts do not matter here", len(found.Alarms), err)
	}
}

// An attacker alone at a switch is silent between tests; that is not a restart.
func TestAnAttackerAloneAtASwitchIsSeen(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	flows, seconds := rounds(rng, 25)
	for i := range flows {
		flows[i].Exporter, flows[i].Domain = address(240), 7
	}
	flows = append(flows, clients(rng, seconds, 8)...)
	found, err := Detect(context.Background(), activity(t, machines(8), seconds, flows...), DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	if unexplained := slices.IndexFunc(found.Alarms, func(x Alarm) bool { return x.ExplainedBy == nil }); unexplained < 0 || found.Interrupted > 0 {
		t.Errorf("%d alarms, %d interrupted", len(found.Alarms), found.Interrupted)
	}
}

func TestUniqueKeepsOneObserver(t *testing.T) {
	seen := func(at float64, orig, resp int, port uint16, domain uint32, packets uint64) flow.Flow {
		f := transfer(address(orig), address(resp), at, 1)
		f.OrigPort, f.RespPort, f.Domain, f.OrigPkts = port, 80, domain, packets
		return f
	}
	turned := seen(1, 2, 1, 80, 2, 4) // the other switch took the ends the other way
	turned.RespPort = 1000
	turned.RespPkts = 0
	flows := []flow.Flow{
		seen(1, 1, 2, 1000, 1, 5), turned, seen(2, 1, 2, 1000, 1, 5), seen(2, 1, 2, 1001, 2, 9), seen(2, 1, 2, 1001, 1, 8), seen(3, 1, 3, 1000, 2, 1),
	}
	got := Unique(flows)
	if len(got) != 4 {
		t.Fatalf("%d flows left, want 4: %+v", len(got), got)
	}
	for i, want := range []int{0, 2, 3, 5} {
		if got[i] != flows[want] {
			t.Errorf("flow %d is not flow %d", i, want)
		}
	}
}

func TestSpoofedObserversAreBounded(t *testing.T) {
	a := activity(t, machines(2), 10)
	f := transfer(address(1), address(9), 1, 1)
	for i := range 2 * maxObservers {
		f.Domain = uint32(i)
		a.Add([]flow.Flow{f})
	}
	if len(a.watched) > maxObservers || len(a.reports[0]) > maxObservers {
		t.Errorf("%d and %d observers are kept", len(a.watched), len(a.reports[0]))
	}
}
