package daw

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dragnet/flow"
)

// An edge that is ended and restored in the middle goes on as one that was
// not: same verdicts, same outcomes, same reports.
func TestRestoredEdgeGoesOn(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := DefaultParameters()
		p.Entries, p.Records, p.Requests, p.Phi, p.Days = 64, 512, 0, 400, 1
		p.Weekly = rapid.SampledFrom([]int{0, 900}).Draw(t, "weekly")
		a, err := New(p, customer, morning)
		if err != nil {
			t.Fatal(err)
		}
		now := morning
		steps := rapid.IntRange(500, 3000).Draw(t, "steps")
		cut := rapid.IntRange(2, steps-1).Draw(t, "cut")
		pace := flow.Time(rapid.IntRange(1, 60).Draw(t, "pace")) * second
		b := a
		for n := range steps {
			if n == cut {
				if b, err = Restore(p, customer, now, a.Snapshot()); err != nil {
					t.Fatal(err)
				}
			}
			now += pace
			src := host(n % 7)
			if n%5 == 0 {
				src = netip.MustParseAddr("2001:db8::1")
			}
			c := conn(src, target(n), n)
			va := a.Request(now, c)
			if n == cut/2 {
				a.Block(now, src)
			}
			oa := Ignored
			if va.Passes() {
				oa = a.Failure(now, Reset, c)
			}
			if n < cut {
				continue
			}
			vb, ob := b.Request(now, c), Ignored
			if vb.Passes() {
				ob = b.Failure(now, Reset, c)
			}
			if va != vb || oa != ob {
				t.Fatalf("step %d, cut at %d: %d/%d and restored %d/%d", n, cut, va, oa, vb, ob)
			}
		}
		if ra, rb := a.Report(now), b.Report(now); ra != rb {
			t.Fatalf("report %+v and restored %+v", ra, rb)
		}
	})
}

// A reply to a request from before the restart is not called forged.
func TestRepliesAcrossARestart(t *testing.T) {
	e := newEdge(t, nil)
	c := conn(host(1), target(1), 1)
	e.Request(morning, c)
	r, err := Restore(e.p, customer, morning+second, e.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	if got := r.Failure(morning+2*second, Reset, c); got != Counted {
		t.Errorf("outcome %d, want counted", got)
	}
	if got := r.Failure(morning+flow.Time(2*time.Minute), Reset, conn(host(1), target(2), 2)); got != Forged {
		t.Errorf("outcome %d long after, want forged", got)
	}
}

func TestSnapshotMistakes(t *testing.T) {
	e := newEdge(t, nil)
	scan(e, morning, host(1), 1)
	good := e.Snapshot()
	for name, b := range map[string][]byte{"empty": nil, "short": good[:len(good)/2], "other": []byte("something else, and long enough to be one")} {
		if _, err := Restore(e.p, customer, morning, b); err == nil {
			t.Errorf("%s: restored", name)
		}
	}
	for i := 0; i < len(good); i += 97 {
		bad := append([]byte{}, good...)
		bad[i] ^= 0x40
		if _, err := Restore(e.p, customer, morning, bad); err == nil {
			t.Errorf("restored with byte %d changed", i)
		}
	}
	p := e.p
	p.Entries, p.Records = 7, 1
	if _, err := Restore(p, customer, morning, good); err != nil {
		t.Errorf("smaller tables: %v", err)
	}
	p.Midnight = time.Hour
	if _, err := Restore(p, customer, morning, good); err == nil {
		t.Error("restored although days begin at another time")
	}
}

func FuzzRestore(f *testing.F) {
	p := DefaultParameters()
	p.Entries, p.Records, p.Requests = 4, 8, 16
	e, err := New(p, customer, morning)
	if err != nil {
		f.Fatal(err)
	}
	e.ListAll(true)
	scan(e, morning, host(1), 1)
	b := e.Snapshot()
	f.Add(b[len(snapshotHead) : len(b)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		w := writer{b: append([]byte(snapshotHead), body...)}
		w.u32(computeCRC(w.b))
		if e, err := Restore(p, customer, morning, w.b); err == nil {
			scan(e, morning, host(1), 1)
			e.Report(morning + aDay)
		}
	})
}
