//go:build linux

package daemon

import (
	"fmt"
	"testing"
	"time"

	"dragnet/internal/testkit"
)

// TestQuestionsWithATime asks about connections that are not recorded; lab/trace
// asks about those that are.
func TestQuestionsWithATime(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, nil)
	if d.past == nil {
		t.Fatal("nothing is recorded")
	}
	local, remote, end := connection(t)
	at := time.Now().Unix()
	open := fmt.Sprintf("%d,%d:SV@%d", local.Port(), remote.Port(), at)
	if got := shape(ask(t, address, open+"\r\n"), local, remote); got != "PAIR:USERID:OTHER:TOKEN" {
		t.Errorf("%s, while it is open: %s", open, got)
	}
	end()
	pair := fmt.Sprintf("%d,%d", local.Port(), remote.Port())
	for _, c := range []struct{ question, want string }{
		{pair, "PAIR:ERROR:NO-USER"}, // without a time nothing changes
		{fmt.Sprintf("%s:ID@%d", pair, at-3600), "PAIR:ERROR:NO-USER"},
		{fmt.Sprintf("%d,%d:ID@%d", remote.Port(), local.Port(), at), fmt.Sprintf("%d,%d:ERROR:NO-USER", remote.Port(), local.Port())},
		{pair + ":ID@0", "PAIR:ERROR:UNKNOWN-ERROR"},
		{pair + ":ID@x", "PAIR:ERROR:UNKNOWN-ERROR"},
	} {
		if got := shape(ask(t, address, c.question+"\r\n"), local, remote); got != c.want {
			t.Errorf("%s: %s, want %s", c.question, got, c.want)
		}
	}
}

// TestStrangersMayNotAskAboutATime spares the disk.
func TestStrangersMayNotAskAboutATime(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, func(c *Configuration) { c.Askers = nil })
	local, remote, _ := connection(t)
	question := fmt.Sprintf("%d,%d:ID@%d\r\n", local.Port(), remote.Port(), time.Now().Unix())
	if got := shape(ask(t, address, question), local, remote); got != "PAIR:ERROR:UNKNOWN-ERROR" || d.Stats.Past.Load() != 0 {
		t.Errorf("%s, %d look-ups", got, d.Stats.Past.Load())
	}
}
