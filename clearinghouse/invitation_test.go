package clearinghouse_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"dragnet/clearinghouse"
	"dragnet/wire/roster"
)

// TestInvitation: a stranger's forgery, a link that somebody stole and used too, one that
// was used before, lapsed or replaced, over a restart.
func TestInvitation(t *testing.T) { onBoth(t, testInvitation) }

func testInvitation(t *testing.T, address string) {
	c, ctx := newCommunity(t, address, nil), t.Context()
	south, thief := generate(t).Public(), generate(t).Public()
	invite := func(name string) [16]byte {
		t.Helper()
		secret, err := c.core.Invite(ctx, clearinghouse.Invitation{Member: name, Class: "org:" + name, Roles: roster.Ask, AS: []uint32{64496}, Expires: c.clock.Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		return secret
	}
	refused := func(what string, secret [16]byte, key int, why string) {
		t.Helper()
		k := south
		if key == 1 {
			k = thief
		}
		if _, _, err := c.core.Join(ctx, secret, k); !errors.Is(err, clearinghouse.ErrInvitation) || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", what, err)
		}
	}
	joined := func(secret [16]byte, want clearinghouse.InvitationState) {
		t.Helper()
		if name, is, err := c.core.Join(ctx, secret, south); err != nil || name != "south" || is != want {
			t.Errorf("%s %s, %v; want %s", name, is, err, want)
		}
	}
	refused("a forged secret", [16]byte{7}, 1, "not known")
	first := invite("south")
	secret := invite("south")
	if first == secret {
		t.Fatal("two invitations are one")
	}
	refused("one that was replaced", first, 0, "withdrew")
	joined(secret, clearinghouse.InvitationWaiting)
	joined(secret, clearinghouse.InvitationWaiting) // the acknowledgement was lost
	refused("a stolen link", secret, 1, "another key")
	c.open(address, nil)
	refused("a stolen link after a restart", secret, 1, "another key")
	all, err := c.core.Invitations(ctx)
	if err != nil || len(all) != 2 || all[1].Public != south || all[1].Others != 2 || all[1].State != clearinghouse.InvitationWaiting || all[1].AS[0] != 64496 {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := c.core.Settle(ctx, "south", thief, clearinghouse.InvitationAdmitted); !errors.Is(err, clearinghouse.ErrInvitation) {
		t.Errorf("the thief was admitted: %v", err)
	}
	if err := c.core.Settle(ctx, "south", south, clearinghouse.InvitationAdmitted); err != nil {
		t.Fatal(err)
	}
	joined(secret, clearinghouse.InvitationAdmitted)
	refused("replayed by another", secret, 1, "another key")
	late := invite("late")
	c.clock = c.clock.Add(2 * time.Hour)
	refused("lapsed", late, 0, "lapsed")
	joined(secret, clearinghouse.InvitationAdmitted) // what was used in time goes on to hold
}
