package rehearsal

import (
	"net/netip"
	"testing"
	"time"

	"dragnet/daw"
	"dragnet/flow"
)

var (
	monday = flow.FromTime(time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC))
	scope  = daw.Scope{Sources: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Ports: []uint16{80}}
)

const second = flow.Time(1e9)

func attempt(at flow.Time, host, dst int, r Result) Attempt {
	return Attempt{
		At: at, Src: netip.AddrFrom4([4]byte{10, 0, 0, byte(host)}), Dst: netip.AddrFrom4([4]byte{byte(20 + dst>>16), byte(dst >> 8), byte(dst), 1}),
		SrcPort: uint16(dst), DstPort: 80, Result: r,
	}
}

// A scanner is held back, refused or met by silence; a busy host is not, and what a
// held host loses is counted.
func TestWhoWouldBeHeldAndLoseWhat(t *testing.T) {
	p := daw.DefaultParameters()
	p.Entries = 4096
	var all []Attempt
	for n := range 20_000 {
		at := monday + flow.Time(n)*second
		all = append(all, attempt(at, 1, n, Refused), attempt(at, 2, 40_000+n, Silent), attempt(at, 3, 100_000+n, Answered))
		if n%100 == 0 { // new services each time, and one that is known to all
			all = append(all, attempt(at, 1, 200_000+n, Answered), attempt(at, 1, 99, Answered), attempt(at, 4, 99, Answered))
		}
	}
	all = append(all, Attempt{At: monday, Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"), DstPort: 80})
	r, err := Run(p, scope, all)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Held) != 2 || r.Hosts != 4 || r.Attempts != len(all)-1 {
		t.Fatalf("%d held of %d hosts, %d attempts: %+v", len(r.Held), r.Hosts, r.Attempts, r.Held)
	}
	one, two := r.Held[0], r.Held[1]
	if one.Addr.As4()[3] != 1 || one.Lost < 150 || one.Lost > 200 || one.Limit != "temporal" || one.Dropped < 19_000 || one.Failed != 20_000 {
		t.Errorf("%+v; want the scanner, with nearly all of its 200 new services lost, and none of 200 visits to a known one", one)
	}
	if two.Addr.As4()[3] != 2 || two.Lost != 0 || two.Dropped < 19_000 {
		t.Errorf("%+v", two)
	}
}

func TestPersistentWouldBeProposed(t *testing.T) {
	p := daw.DefaultParameters()
	p.Entries, p.Days = 4096, 2
	var all []Attempt
	for n := range 4 * 24 * 360 { // four days, one each ten seconds
		all = append(all, attempt(monday+flow.Time(n)*10*second, 1, n, Refused))
	}
	r, err := Run(p, scope, all)
	if err != nil || len(r.Held) != 1 || r.Held[0].Blocked < monday+2*24*hour || r.Held[0].Blocked > monday+2*24*hour+2*hour {
		t.Errorf("%+v %v; want a block after two days", r.Held, err)
	}
	if r, err := Run(p, scope, nil); err != nil || r.Hosts != 0 {
		t.Error(r, err)
	}
}
