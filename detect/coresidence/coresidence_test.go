package coresidence

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
)

func address(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}) }

func machines(n int) (vms []VM) {
	for i := range n {
		vms = append(vms, VM{Address: address(1 + i), Tenant: fmt.Sprintf("t%d", i/2)})
	}
	return vms
}

func second(s float64) flow.Time { return flow.Time(s * float64(time.Second)) }

func transfer(from, to netip.Addr, start, length float64) flow.Flow {
	return flow.Flow{
		Start: second(start), Duration: time.Duration(second(length)), Orig: from, Resp: to, RespPort: 80, Proto: flow.TCP,
		Known: flow.Lasting | flow.Counts, OrigPkts: 5, OrigIPBytes: 500, RespPkts: 5, RespIPBytes: 5000,
	}
}

func activity(t testing.TB, vms []VM, intervals int, flows ...flow.Flow) *Activity {
	t.Helper()
	a, err := NewActivity(vms, 0, time.Second, intervals)
	if err != nil {
		t.Fatal(err)
	}
	a.Add(flows)
	return a
}

// TestShareAgainstSampling asks at many instants whether any flow runs.
func TestShareAgainstSampling(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var flows []flow.Flow
	for range 40 {
		flows = append(flows, transfer(address(1), address(200), rng.Float64()*34-2, rng.ExpFloat64()*2))
	}
	for k := range flows { // shorter ones count as one slot: see below
		flows[k].Duration = max(flows[k].Duration, time.Second/slots)
	}
	r := activity(t, machines(1), 30, flows...).Share(0)
	for at, got := range r {
		busy := 0
		for k := range slots {
			from := second(float64(at) + float64(k)/slots)
			to := second(float64(at) + float64(k+1)/slots)
			for _, f := range flows {
				if f.Start < to && f.End() >= from {
					busy++
					break
				}
			}
		}
		if want := float64(busy) / slots; got != want {
			t.Errorf("interval %d: %v, want %v", at, got, want)
		}
	}
}

// A keep-alive is one slot long, also where it crosses into the next: else it is
// activity on those machines whose timers happen to be at that time.
func TestAKeepAliveIsQuiet(t *testing.T) {
	for k := range 4 * slots {
		a := activity(t, machines(1), 30, transfer(address(1), address(200), 3+float64(k)/(4*slots), 0.004))
		if r := a.Share(0); r[3]+r[4] != 1.0/slots {
			t.Errorf("at %d: %v", k, r[3:5])
		}
	}
}

func TestWhoTransmits(t *testing.T) {
	silent := transfer(address(1), address(2), 3, 1)
	silent.RespPkts = 0
	a := activity(t, machines(2), 10, silent, transfer(address(200), address(201), 5, 1))
	if a.Share(0)[3] != 1 || a.Share(1)[3] != 0 {
		t.Errorf("shares %v and %v", a.Share(0), a.Share(1))
	}
	if a.Flows != 1 {
		t.Errorf("%d flows concern the machines, want 1", a.Flows)
	}
}

func TestFlowsOutsideTheIntervals(t *testing.T) {
	backwards := transfer(address(1), address(200), 5, 0)
	backwards.Duration = -time.Hour
	a := activity(t, machines(1), 10, backwards,
		transfer(address(1), address(200), -5, 3), transfer(address(1), address(200), 12, 3), transfer(address(1), address(200), -5, 100),
		flow.Flow{Start: flow.MaxTime, Orig: address(1), Duration: time.Hour}, flow.Flow{Start: flow.MinTime, Orig: address(1)})
	for at, r := range a.Share(0) {
		if r != 1 {
			t.Errorf("interval %d: %v, want 1 from the flow that covers all", at, r)
		}
	}
	if a.Outside < 4 {
		t.Errorf("%d flows lie outside", a.Outside)
	}
}

func TestManyPeersAreKeptTogether(t *testing.T) {
	a := activity(t, machines(1), 10)
	for i := range 5000 {
		a.Add([]flow.Flow{transfer(address(1), netip.AddrFrom4([4]byte{8, 8, byte(i >> 8), byte(i)}), 4, 0.9)})
	}
	if n := len(a.links[0]); n > maxLinks+2 {
		t.Errorf("%d links are kept", n)
	}
	if a.Share(0)[4] == 0 {
		t.Error("the share was lost")
	}
}

// rounds are the flows of an attack: the master, which is machine 0, downloads
// from the victim, machine 4, while machine 1 sends to a sink elsewhere.
func rounds(rng *rand.Rand, n int) (flows []flow.Flow, seconds int) {
	now := 30.0
	for range n {
		now += 20 + rng.Float64()*12
		flows = append(flows, transfer(address(1), address(5), now, 2), transfer(address(2), address(250), now, 2))
	}
	return flows, int(now) + 60
}

func clients(rng *rand.Rand, seconds, vms int) (flows []flow.Flow) {
	for i := 2; i < vms; i++ {
		for now := rng.ExpFloat64() * 20; now < float64(seconds); now += 3 + rng.ExpFloat64()*25 {
			flows = append(flows, transfer(netip.AddrFrom4([4]byte{9, 9, 9, byte(rng.IntN(20))}), address(1+i), now, rng.ExpFloat64()))
		}
	}
	return flows
}

func TestTheVictimIsExplained(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 2))
	flows, seconds := rounds(rng, 25)
	a := activity(t, machines(8), seconds, append(flows, clients(rng, seconds, 8)...)...)
	found, err := Detect(context.Background(), a, DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	accused, explained := false, false
	for _, x := range found.Alarms {
		pair := [2]netip.Addr{x.VM.Address, x.Others[0].Address}
		victim := pair[0] == address(5) || pair[1] == address(5)
		switch {
		case x.ExplainedBy == nil && victim:
			t.Errorf("the victim is accused: %+v", x)
		case x.ExplainedBy == nil && x.SameTenant:
			accused = true
			if len(x.Intervals) != x.Hits {
				t.Errorf("%d intervals are listed, and %d hits counted", len(x.Intervals), x.Hits)
			}
		case victim && *x.ExplainedBy == address(1):
			explained = true
		}
	}
	if !accused || !explained {
		t.Errorf("accused %v, explained %v: %+v", accused, explained, found.Alarms)
	}
}

// TestASinkOutsideDoesNotExcuse has the flooder answer requests that come from
// outside the cloud.
func TestASinkOutsideDoesNotExcuse(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	flows, seconds := rounds(rng, 25)
	for i := range flows {
		if flows[i].Orig == address(2) {
			flows[i].Orig, flows[i].Resp = flows[i].Resp, flows[i].Orig
		}
	}
	a := activity(t, machines(8), seconds, append(flows, clients(rng, seconds, 8)...)...)
	found, err := Detect(context.Background(), a, DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range found.Alarms {
		if x.SameTenant && x.ExplainedBy == nil {
			return
		}
	}
	t.Errorf("no machine is accused: %+v", found.Alarms)
}

func TestClientAndServerAreNotSynchronised(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	var flows []flow.Flow
	for now := 10.0; now < 900; now += 5 + rng.ExpFloat64()*20 {
		flows = append(flows, transfer(address(1), address(3), now, 1.5))
	}
	found, err := Detect(context.Background(), activity(t, machines(4), 1000, flows...), DefaultConfiguration())
	if err != nil || len(found.Alarms) != 0 {
		t.Errorf("%+v, %v", found.Alarms, err)
	}
}

func TestNothingSeenIsSaid(t *testing.T) {
	found, err := Detect(context.Background(), activity(t, machines(6), 300), DefaultConfiguration())
	if err != nil || len(found.Alarms) != 0 || found.Active != 0 || found.Observed != 0 || found.VMs != 6 || found.Intervals != 300 {
		t.Errorf("%+v, %v", found, err)
	}
	one := activity(t, machines(1), 300, transfer(address(1), address(9), 5, 2))
	if found, err := Detect(context.Background(), one, DefaultConfiguration()); err != nil || len(found.Alarms) != 0 || found.Active != 1 {
		t.Errorf("one tenant with one machine: %+v, %v", found, err)
	}
}

// TestMissingIntervalsAndLateSwitches takes a fifth of the exports away and has
// the clock of one switch two seconds wrong.
func TestMissingIntervalsAndLateSwitches(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	flows, seconds := rounds(rng, 50)
	flows = append(flows, clients(rng, seconds, 8)...)
	var kept []flow.Flow
	for _, f := range flows {
		if f.Orig == address(2) {
			f.Start += second(2)
		}
		if int(f.Start/second(60))%5 != 3 {
			kept = append(kept, f)
		}
	}
	found, err := Detect(context.Background(), activity(t, machines(8), seconds, kept...), DefaultConfiguration())
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range found.Alarms {
		if x.SameTenant && x.ExplainedBy == nil && math.Abs(float64(x.Lag)) == 2 {
			return
		}
	}
	t.Errorf("no machine is accused at a lag of 2: %+v", found.Alarms)
}

func TestManyMachinesAreScreened(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	var vms []VM
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }
	for i := range allPairs + 20 {
		vms = append(vms, VM{Address: at(i), Tenant: fmt.Sprint(i)})
	}
	a := activity(t, vms, 1000)
	for i := range vms {
		for now := rng.ExpFloat64() * 30; now < 1000; now += 3 + rng.ExpFloat64()*40 {
			if i != 1 {
				a.Add([]flow.Flow{transfer(at(i), address(250), now, 1)})
			}
			if i == 0 {
				a.Add([]flow.Flow{transfer(at(1), address(251), now, 1)})
			}
		}
	}
	found, err := Detect(context.Background(), a, DefaultConfiguration())
	if err != nil || len(found.Alarms) != 1 || found.CrossPairs != len(vms)*(len(vms)-1)/2 {
		t.Errorf("%d alarms, %d pairs, %v", len(found.Alarms), found.CrossPairs, err)
	}
}

func TestReadVMs(t *testing.T) {
	vms, err := ReadVMs(strings.NewReader("tenant, address, created, zone\nacme, ::ffff:192.0.2.1, 2026-01-01T00:00:00Z, x\nacme,192.0.2.2,2026-01-01T00:20:00Z,\nz,2001:db8::1,,\n"))
	if err != nil || len(vms) != 3 || vms[0].Address != netip.MustParseAddr("192.0.2.1") {
		t.Fatalf("%v, %v", vms, err)
	}
	if most := Creations(vms, time.Hour); most["acme"] != 2 || most["z"] != 0 {
		t.Errorf("creations %v", most)
	}
	for text, want := range map[string]string{
		"":                                    "empty",
		"address,name\n":                      `no column "tenant"`,
		"address,tenant\nx,y\n":               `line 2: "x" is not an address`,
		"address,tenant\n192.0.2.1,\n":        "no tenant",
		"address,tenant\n::1,a\n::1,b\n":      "line 3: ::1 is on line 2 already",
		"address,tenant\n::1\n":               "wrong number of fields",
		"address,tenant,created\n::1,a,now\n": "not RFC 3339",
	} {
		if _, err := ReadVMs(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func FuzzReadVMs(f *testing.F) {
	f.Add("address,tenant\n192.0.2.1,a\n")
	f.Add("\ufefftenant,address,created\n\"a\nb\",::1,2026-01-01T00:00:00Z\n")
	f.Fuzz(func(t *testing.T, text string) {
		vms, err := ReadVMs(strings.NewReader(text))
		if err != nil && vms != nil {
			t.Error("machines beside an error")
		}
		for _, vm := range vms {
			if !vm.Address.IsValid() || vm.Tenant == "" {
				t.Errorf("%+v", vm)
			}
		}
	})
}

// FuzzActivity adds flows with any times.
func FuzzActivity(f *testing.F) {
	f.Add(int64(5e9), int64(2e9), uint8(3))
	f.Add(int64(math.MaxInt64), int64(math.MaxInt64), uint8(3))
	f.Add(int64(math.MinInt64), int64(math.MinInt64), uint8(3))
	f.Fuzz(func(t *testing.T, start, length int64, sides uint8) {
		x := flow.Flow{Start: flow.Time(start), Duration: time.Duration(length), Orig: address(int(sides & 3)), Resp: address(int(sides >> 2 & 3))}
		marked := activity(t, []VM{{Address: x.Orig, Tenant: "a"}}, 20, x).Share(0)
		end := start + length
		lasts := length >= 0 && end >= start // else backwards, or beyond what Time holds
		for at, r := range marked {
			from := int64(at) * int64(time.Second)
			inside := lasts && start < from+int64(time.Second) && end >= from
			if (r > 0) != inside {
				t.Errorf("interval %d has share %v for a flow from %d to %d", at, r, start, end)
			}
		}
	})
}
