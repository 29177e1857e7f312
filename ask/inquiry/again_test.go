package inquiry_test

import (
	"testing"
	"time"

	"dragnet/ask/inquiry"
	"dragnet/ask/witness/endpoint"
)

// TestAskedAgainOnceOthersAsked: what waits for another organisation is answered in the
// same inquiry when one asked the same, and by as many witnesses as there are.
func TestAskedAgainOnceOthersAsked(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(func(x *endpoint.Configuration) { x.Policy.Independent = 2 })
	conf, p := c.asks(truth)
	alone, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if got := alone.Tally.String(); got != "0 of 4 answered, 4 refused" {
		t.Fatalf("alone: %s", got)
	}
	conf.Wait, conf.Again = time.Minute, 50*time.Millisecond
	theirs := conf
	theirs.Key, theirs.Wait = c.other, 0
	rounds := 0
	conf.Note = func(n inquiry.Note) {
		if n.Status == inquiry.Refused {
			rounds++
		}
		if rounds == 8 { // all four refused twice
			rounds++
			if _, err := inquiry.Run(t.Context(), theirs, p); err != nil {
				t.Error(err)
			}
		}
	}
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if got := out.Tally.String(); got != "4 of 4 answered" || len(out.Result.Witnesses) != 4 || len(out.Result.Hosts) == 0 {
		t.Errorf("%s, %d witnesses, %d hosts", got, len(out.Result.Witnesses), len(out.Result.Hosts))
	}
}
