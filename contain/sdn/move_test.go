package sdn

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/flow"
)

// detour adds two further servers' bridges to a cloud, each with a link to br0 that
// floods nothing.
func (w *cloud) detour(t *testing.T) {
	t.Helper()
	w.c.Restraint = Move
	w.c.Detour.Within = []netip.Prefix{netip.MustParsePrefix("10.77.0.0/24"), netip.MustParsePrefix("fd77::/64")}
	for _, n := range []string{"1", "2"} {
		there, back := "to"+n, "back"+n
		if err := w.lab.Wire(w.host, there, w.host, back); err != nil {
			t.Fatal(err)
		}
		if err := w.v.AddBridge("br"+n, back); err != nil {
			t.Fatal(err)
		}
		if _, err := w.v.Set("add-port", "br0", there); err != nil {
			t.Fatal(err)
		}
		for _, port := range [][2]string{{"br0", there}, {"br" + n, back}} {
			if _, err := w.v.Flows("mod-port", w.v.Management(port[0]), port[1], "no-flood"); err != nil {
				t.Fatal(err)
			}
		}
		w.c.Detour.Via = append(w.c.Detour.Via, Via{Name: "br" + n, Address: w.v.Management("br" + n), Port: there, Back: back})
	}
}

// returned is how many packets of the first machine a bridge sent back.
func (w *cloud) returned(t *testing.T, bridge string) (n uint64) {
	t.Helper()
	c := w.c
	c.Restraint, c.Address = Drop, w.v.Management(bridge)
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	rules, err := s.Rules(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if r.Match.Source.Addr().String() == one {
			n += r.Packets
		}
	}
	return n
}

func (w *cloud) dumpAll(t *testing.T) (all string) {
	t.Helper()
	for _, b := range []string{"br0", "br1", "br2"} {
		v := *w
		v.c.Address = w.v.Management(b)
		all += b + "\n" + v.dump(t)
	}
	return all
}

func TestMoveSendsThroughOtherSwitches(t *testing.T) {
	w := newCloud(t)
	w.detour(t)
	w.c.Detour.Every = time.Hour
	s := w.open(t)
	before := w.dumpAll(t)
	if !reaches(t, w.one, two) || !reaches(t, w.one, "fd77::2") {
		t.Fatal("no path before")
	}
	at := now()
	decisions := []dossier.Decision{blocking(one+"/32", 3*time.Hour), blocking("fd77::1/128", 3*time.Hour)}
	used := map[string]bool{}
	for turn := range 2 {
		r, err := s.Apply(t.Context(), at, decisions)
		if err != nil || !r[0].Applied || !r[1].Applied || !strings.Contains(r[0].Proof, "br1 returned") {
			t.Fatalf("%+v, %v", r, err)
		}
		dump := w.dumpAll(t)
		if !strings.Contains(dump, "ip,nw_src="+one+",nw_dst=10.77.0.0/24 actions=set_field:02:64") || !strings.Contains(dump, "nw_dst=10.77.0.0/24 actions=IN_PORT") || !strings.Contains(dump, "ipv6_src=fd77::1,ipv6_dst=fd77::/64 actions=IN_PORT") {
			t.Errorf("ovs-ofctl lists\n%s", dump)
		}
		was := map[string]uint64{"br1": w.returned(t, "br1"), "br2": w.returned(t, "br2")}
		moved := ""
		for tries := 0; moved == ""; tries++ { // until the datapath forgets what it cached
			if tries == 50 {
				t.Fatalf("turn %d: no further switch returned a packet\n%s", turn, dump)
			}
			if !reaches(t, w.one, two) || !reaches(t, w.one, "fd77::2") || !reaches(t, w.two, one) {
				t.Fatalf("turn %d: packets are lost on the way\n%s", turn, w.dumpAll(t))
			}
			for b, n := range was {
				if !used[b] && w.returned(t, b) > n {
					moved = b
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		used[moved] = true
		// The same again changes nothing.
		again, err := s.Apply(t.Context(), at, decisions)
		if err != nil || !again[0].Applied || strings.Contains(again[0].Proof, "matched 0 packets") {
			t.Errorf("%+v, %v", again, err)
		}
		at += 3600e9 // the next turn
	}
	// Undone: no rule is left at any switch.
	if apply(t, s); w.dumpAll(t) != before {
		t.Errorf("without decisions ovs-ofctl lists\n%s\nand before\n%s", w.dumpAll(t), before)
	}
	if !reaches(t, w.one, two) {
		t.Error("no path afterwards")
	}
	// A dry run says what would be, and takes out what is there, at all switches; so
	// does removal by an operator who knows the switches only.
	apply(t, s, decisions...)
	w.c.Enforce = false
	if r := apply(t, w.open(t), decisions...); r[0].Applied || !strings.Contains(r[0].Problem, "dry run: packets from "+one+"/32 to 10.77.0.0/24 would get: output to port") || w.dumpAll(t) != before {
		t.Errorf("a dry run: %+v\n%s", r, w.dumpAll(t))
	}
	apply(t, s, decisions...)
	for _, b := range []string{"br0", "br1", "br2"} {
		c := DefaultConfiguration()
		c.Address = w.v.Management(b)
		plain, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := plain.Remove(t.Context()); err != nil || n < 2 {
			t.Errorf("%s: removed %d, %v", b, n, err)
		}
	}
	if w.dumpAll(t) != before {
		t.Errorf("after removal\n%s", w.dumpAll(t))
	}
}

// A switch that went away must not swallow what was moved through it; rules at the
// others are those of the paths that are left.
func TestMoveWithoutTheOtherSwitch(t *testing.T) {
	w := newCloud(t)
	w.detour(t)
	s := w.open(t)
	decision := []dossier.Decision{blocking(one+"/32", time.Hour)}
	apply(t, s, decision...)
	if _, err := w.v.Set("del-br", "br1"); err != nil {
		t.Fatal(err)
	}
	r, err := s.Apply(t.Context(), now(), decision)
	if !errors.Is(err, ErrUnreachable) || !r[0].Applied || strings.Contains(r[0].Proof, "br1") {
		t.Errorf("without one of two: %+v, %v", r, err)
	}
	if dump := w.dump(t); strings.Count(dump, "actions=NORMAL") != 2 { // one is the bridge's own
		t.Errorf("ovs-ofctl lists\n%s", dump)
	}
	// The link to the other is cut: at that end a port is missing, here one is down.
	if _, err := w.host.Run(t.Context(), "ip", "link", "set", "to2", "down"); err != nil {
		t.Fatal(err)
	}
	for tries := 0; ; tries++ { // until the switch has noticed
		if r, err = s.Apply(t.Context(), now(), decision); !r[0].Applied {
			break
		}
		if tries == 100 {
			t.Fatalf("by no path: %+v, %v", r, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err == nil || r[0].Problem == "" || strings.Contains(w.dump(t), one) {
		t.Errorf("by no path: %+v, %v\n%s", r, err, w.dump(t))
	}
	for tries := 0; !reaches(t, w.one, two); tries++ {
		if tries == 20 {
			t.Fatal("packets are lost although there is no path to move them to")
		}
	}
}

// Another switch that refuses or lies gets nothing to return.
func TestMoveThroughHostileSwitches(t *testing.T) {
	for name, other := range map[string]*table{"refuses": {refusesAll: true}, "forgets": {forgets: true}, "good": {}} {
		t.Run(name, func(t *testing.T) {
			home := &table{ports: []string{"there"}}
			other.ports = []string{"back"}
			c := start(t, home.answer)
			c.Restraint = Move
			c.Detour.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
			c.Detour.Via = []Via{{Name: "other", Address: start(t, other.answer).Address, Port: "there", Back: "back"}}
			s, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Apply(t.Context(), now(), []dossier.Decision{blocking("10.0.0.1/32", time.Hour)})
			if good := name == "good"; r[0].Applied != good || (err == nil) != good || (len(home.list()) > 0) != good {
				t.Errorf("%+v, %v; here are %+v", r, err, home.list())
			}
			if name != "good" {
				return
			}
			// The switch itself lies about taking rules out: the other keeps returning.
			home.set(func() { home.keeps = true })
			if _, err := s.Apply(t.Context(), now(), nil); !errors.Is(err, ErrContradiction) || len(other.list()) == 0 {
				t.Errorf("%v; the other has %+v", err, other.list())
			}
			home.set(func() { home.keeps = false })
			if apply(t, s); len(home.list())+len(other.list()) > 0 {
				t.Errorf("left are %+v and %+v", home.list(), other.list())
			}
		})
	}
}

// Rules that return packets for one switch are not those of another, nor decisions
// of the switch that holds them.
func TestTransitsOfTwoSwitchesStayApart(t *testing.T) {
	middle := &table{ports: []string{"one", "two"}}
	address := start(t, middle.answer).Address
	open := func(name, back string) *Switch {
		c := start(t, (&table{ports: []string{"there"}}).answer)
		c.Name, c.Restraint = name, Move
		c.Detour.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		c.Detour.Via = []Via{{Address: address, Port: "there", Back: back}}
		s, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	a, b := open("a", "one"), open("b", "two")
	apply(t, a, blocking("10.0.0.1/32", time.Hour))
	apply(t, b, blocking("10.0.0.3/32", time.Hour))
	c := DefaultConfiguration()
	c.Address, c.Enforce = address, true
	own, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	apply(t, own, blocking("10.0.0.4/32", time.Hour))
	if n := len(middle.list()); n != 3 {
		t.Fatalf("the switch in the middle has %d rules", n)
	}
	apply(t, own)
	apply(t, a)
	left := middle.list()
	// It outlasts the rules that send packets there.
	if left[0].Hard <= uint16(b.c.Lease/time.Second) {
		t.Errorf("it returns packets for %d s of a lease of %s", left[0].Hard, b.c.Lease)
	}
	if len(left) != 1 || left[0].Match.Source.Addr().String() != "10.0.0.3" || left[0].Match.InPort != 2 || left[0].Cookie&b.c.transitFamily().mask != b.c.transitFamily().cookie {
		t.Errorf("left are %+v", left)
	}
}

func TestMovesAreRefusedWithoutAPath(t *testing.T) {
	good := DefaultConfiguration()
	good.Address, good.Restraint = "unix:x", Move
	good.Detour.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	good.Detour.Via = []Via{{Address: "unix:y", Port: "a", Back: "b"}}
	s, err := New(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.c.findObjection(now(), &[]dossier.Decision{blocking("fd77::1/128", time.Hour)}[0]); err == nil || !strings.Contains(err.Error(), "detour.within") {
		t.Errorf("a target of another family: %v", err)
	}
	for what, spoil := range map[string]func(*Configuration){
		"needs detour.within": func(c *Configuration) { c.Detour.Within = nil }, "1 to 16 switches": func(c *Configuration) { c.Detour.Via = nil },
		"names of both ports": func(c *Configuration) { c.Detour.Via = []Via{{Address: "unix:y", Port: "a"}} },
		"another switch":      func(c *Configuration) { c.Detour.Via = append(c.Detour.Via, c.Detour.Via...) },
		"is not a prefix":     func(c *Configuration) { c.Detour.Within = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} },
		"detour.every":        func(c *Configuration) { c.Detour.Every = 0 }, "priority": func(c *Configuration) { c.Priority = 1<<16 - 1 },
		"via[0]: the address": func(c *Configuration) { c.Detour.Via = []Via{{Address: "y", Port: "a", Back: "b"}} },
	} {
		c := good
		spoil(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestSourcesTakeTurns: each source uses every path in turn, and not all the same.
func TestSourcesTakeTurns(t *testing.T) {
	c := DefaultConfiguration()
	c.Restraint, c.Detour.Within = Move, []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	paths := []path{{number: 1}, {number: 2}, {number: 3}}
	at, first := now(), map[uint32]bool{}
	for i := range 20 {
		used := map[uint32]bool{}
		for turn := range 3 {
			rules := c.moveRules(at+flow.Time(turn)*flow.Time(c.Detour.Every), netip.MustParsePrefix(fmt.Sprintf("10.0.0.%d/32", i)), paths)
			if len(rules) != 4 {
				t.Fatalf("%d rules", len(rules))
			}
			used[rules[0].Action.Ports[0]] = true
			if turn == 0 {
				first[rules[0].Action.Ports[0]] = true
			}
		}
		if len(used) != 3 {
			t.Errorf("source %d used %v", i, used)
		}
	}
	if len(first) < 2 {
		t.Error("all sources take the same path at a time")
	}
}
