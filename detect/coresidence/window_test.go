package coresidence

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"dragnet/flow"
)

// A window that moved along has the same in it as one that was always there.
func TestWindowAgainstAFreshOne(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 4))
		vms := machines(6)
		var flows []flow.Flow
		for range 400 {
			f := transfer(address(1+rng.IntN(9)), address(1+rng.IntN(9)), rng.Float64()*220-10, rng.ExpFloat64()*3)
			f.Domain = uint32(rng.IntN(3))
			flows = append(flows, f)
		}
		slices.SortFunc(flows, func(a, b flow.Flow) int { return int(a.Start - b.Start) })
		moved, err := NewWindow(vms, 0, time.Second, 50, 30)
		if err != nil {
			t.Fatal(err)
		}
		const last = 137
		for at := 0; at <= last; at += 1 + rng.IntN(20) {
			moved.Advance(second(float64(at)))
			// What lies beyond the window and what is ahead of it is not there yet.
			n := 0
			for n < len(flows) && flows[n].End() < moved.Start+second(75) {
				n++
			}
			moved.Add(flows[:n])
			flows = flows[n:]
		}
		moved.Advance(second(last + 0.7))
		all := rand.New(rand.NewPCG(seed, 4))
		fresh, _ := NewActivity(vms, second(last), time.Second, 50)
		for range 400 {
			f := transfer(address(1+all.IntN(9)), address(1+all.IntN(9)), all.Float64()*220-10, all.ExpFloat64()*3)
			f.Domain = uint32(all.IntN(3))
			if slices.ContainsFunc(flows, func(left flow.Flow) bool { return left == f }) {
				continue
			}
			fresh.Add([]flow.Flow{f})
		}
		if moved.Start != fresh.Start {
			t.Fatalf("seed %d: it begins at %d, want %d", seed, moved.Start, fresh.Start)
		}
		for i := range vms {
			if !slices.Equal(moved.Share(i), fresh.Share(i)) {
				t.Fatalf("seed %d, machine %d: %v, want %v", seed, i, moved.Share(i), fresh.Share(i))
			}
		}
		for o, seen := range fresh.watched {
			if !slices.Equal(seen, moved.watchedWithin(o)) && anyOf(seen) {
				t.Errorf("seed %d: observer %v differs", seed, o)
			}
		}
		if !slices.Equal(fresh.seen, moved.seen[:50]) {
			t.Errorf("seed %d: %v, want %v", seed, moved.seen[:50], fresh.seen)
		}
	}
}

// An address that is given to another tenant does not bring its past along, and
// what an idle machine did is forgotten.
func TestMachinesAppearAndVanish(t *testing.T) {
	vms := machines(4)
	a, _ := NewWindow(vms, 0, time.Second, 20, 5)
	a.Add([]flow.Flow{transfer(address(1), address(200), 3, 2), transfer(address(2), address(200), 4, 1)})
	moved := vms[1]
	moved.Tenant = "another"
	if err := a.SetMachines([]VM{moved, vms[0], {Address: address(9), Tenant: "new"}}); err != nil {
		t.Fatal(err)
	}
	if a.Share(0)[4] != 0 || a.Share(1)[4] != 1 || a.Share(2)[4] != 0 {
		t.Errorf("shares %v, %v, %v", a.Share(0), a.Share(1), a.Share(2))
	}
	a.Add([]flow.Flow{transfer(address(3), address(200), 6, 1), transfer(address(9), address(200), 6, 1)})
	if a.Share(2)[6] != 1 || a.Flows != 3 {
		t.Errorf("%v of a new machine, %d flows", a.Share(2), a.Flows)
	}
	if s := a.Silent(); len(s) != 1 || !s[address(2)] {
		t.Errorf("silent are %v", s)
	}
	a.Advance(second(1000))
	if s := a.Silent(); len(s) != 3 || len(a.watched) != 0 || len(a.links[1]) != 0 {
		t.Errorf("after everything has left the window: %v silent, %d observers", s, len(a.watched))
	}
	if a.SetMachines(nil) == nil {
		t.Error("no machines are accepted")
	}
}
