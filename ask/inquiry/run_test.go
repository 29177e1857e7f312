package inquiry_test

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/ask/witness/endpoint"
	"dragnet/lab/incident"
	"dragnet/wire/exchange"
)

// wanted lists the infected hosts as "address organisation".
func wanted(truth incident.Truth) (out []string) {
	for _, o := range truth.Organisations {
		for _, h := range o.Infected {
			out = append(out, h.String()+" "+o.Name)
		}
	}
	slices.Sort(out)
	return out
}

func named(r detective.Result) (out []string) {
	for _, h := range r.Hosts {
		for _, w := range h.Witnesses {
			out = append(out, h.Addr.String()+" "+w)
		}
	}
	slices.Sort(out)
	return out
}

// TestIncidentOverTheNetwork: the group of the demo's incident, asked over TLS.
func TestIncidentOverTheNetwork(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(func(conf *endpoint.Configuration) { conf.Policy.Floor = 1 })
	conf, p := c.asks(truth)
	var last string
	conf.Note = func(n inquiry.Note) { last = n.State }
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted(truth), named(out.Result)); diff != "" {
		t.Errorf("the group (-want +got):\n%s\n%s", diff, out.Tally)
	}
	if want := "4 of 4 answered"; last != want || out.Tally.String() != want {
		t.Errorf("state %q, want %q", last, want)
	}
	// Without the owners' word nothing is seen twice, and no host is named.
	conf.Detective.OwnWord = false
	if out, err = inquiry.Run(t.Context(), conf, p); err != nil || len(out.Result.Hosts) != 0 {
		t.Errorf("%v, %v", named(out.Result), err)
	}
}

// TestOverARelay: two of the witnesses cannot be reached and look at a relay.
func TestOverARelay(t *testing.T) {
	c := newCommunity(t)
	relay, stop := c.relay("127.0.0.1:0", c.dir+"/relay.db", newKey(t))
	defer stop()
	c.book.Relays = []inquiry.BookRelay{{Name: "hub", URL: relay.URL, Key: relay.Key}}
	n := 0
	truth := c.incident(func(conf *endpoint.Configuration) {
		conf.Policy.Floor = 1
		if n++; n%2 == 0 {
			conf.Listen = ""
			conf.Relays = []endpoint.RelayConfiguration{{URL: relay.URL, Key: relay.Key}}
		}
	})
	conf, p := c.asks(truth)
	awaitCards(t, c, relay, 2)
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wanted(truth), named(out.Result)); diff != "" {
		t.Errorf("the group (-want +got):\n%s\n%s", diff, out.Tally)
	}
	relayLearnsNothing(t, c, truth, conf.Detective.Epoch)
}

// relayLearnsNothing looks into all that the relay ever wrote to its disk.
func relayLearnsNothing(t *testing.T, c *community, truth incident.Truth, epoch string) {
	t.Helper()
	var disk []byte
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(c.dir + "/relay.db" + suffix)
		if err != nil {
			t.Fatal(err)
		}
		disk = append(disk, data...)
	}
	secrets := map[string][]byte{"the epoch": []byte(epoch), "an envelope's kind": []byte(exchange.QuestionKind)}
	for _, a := range []netip.Addr{truth.Attacker, truth.CodeServer} {
		secrets[a.String()] = a.AsSlice()
	}
	for _, o := range truth.Organisations {
		for _, h := range o.Infected {
			secrets[h.String()] = h.AsSlice()
		}
	}
	for what, b := range secrets {
		if bytes.Contains(disk, b) {
			t.Errorf("the relay's disk holds %s", what)
		}
	}
	// It holds who writes to whom: the search would find what is there.
	if id := c.ours.ID(); !bytes.Contains(disk, id[:]) || !bytes.Contains(disk, []byte(exchange.TestimonyKind)) {
		t.Error("the relay's disk does not even hold the messages")
	}
}

// TestStrangersAreDenied: a key that is not on the roster gets nothing.
func TestStrangersAreDenied(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(nil)
	conf, p := c.asks(truth)
	conf.Key = newKey(t)
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := out.Tally.String(), "0 of 4 answered, 4 denied"; got != want {
		t.Errorf("state %q, want %q", got, want)
	}
}

// TestPolicyRefuses: keys of 31 bits leave a guesser too little; what is told
// is sealed and counted as a refusal.
func TestPolicyRefuses(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(nil)
	conf, p := c.asks(truth)
	conf.Detective.Hash.Bits = 31
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := out.Tally.String(), "0 of 4 answered, 4 refused"; got != want {
		t.Errorf("state %q, want %q", got, want)
	}
	for _, w := range out.Result.Witnesses {
		if w.Refused != "too specific" || w.Flows != 0 {
			t.Errorf("%+v", w)
		}
	}
}

// TestStagesStopWhenTheQuorumAgrees: near the attacker's address, one at first.
func TestStagesStopWhenTheQuorumAgrees(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(func(conf *endpoint.Configuration) { conf.Policy.Floor = 1 })
	conf, p := c.asks(truth)
	var near netip.Addr
	for _, o := range truth.Organisations {
		if o.Name == "borealis" {
			near = o.Infected[len(o.Infected)-1]
		}
	}
	conf.Selection, conf.Stage, conf.Detective.Quorum = inquiry.WitnessSelection{Near: near}, 1, 1
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if out.Stages != 1 || out.Tally.Asked() != 1 || out.Result.Witnesses[0].Name != "borealis" {
		t.Errorf("%d stages, %s, %+v", out.Stages, out.Tally, out.Result.Witnesses)
	}
	conf.Detective.Quorum = 2 // never agreed: all are asked
	if out, err = inquiry.Run(t.Context(), conf, p); err != nil || out.Stages != 3 || out.Tally.Asked() != 4 {
		t.Errorf("%d stages, %s, %v", out.Stages, out.Tally, err)
	}
}

// TestSilence: a witness that accepts and says nothing costs the deadline.
func TestSilence(t *testing.T) {
	c := newCommunity(t)
	truth := c.incident(func(conf *endpoint.Configuration) { conf.Policy.Floor = 1 })
	c.impostor("mute", func(ctx context.Context, _ func([]byte) error) error { <-ctx.Done(); return ctx.Err() })
	conf, p := c.asks(truth)
	conf.Deadline = 2 * time.Second
	out, err := inquiry.Run(t.Context(), conf, p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := out.Tally.String(), "4 of 5 answered, 1 silent"; got != want {
		t.Errorf("state %q, want %q", got, want)
	}
	if diff := cmp.Diff(wanted(truth), named(out.Result)); diff != "" {
		t.Errorf("the group (-want +got):\n%s", diff)
	}
}
