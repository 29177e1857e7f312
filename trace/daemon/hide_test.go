//go:build linux

package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"dragnet/internal/testkit"
	"dragnet/trace/protocol"
	"dragnet/trace/record"
	"dragnet/trace/token"
	"dragnet/trace/walk"
)

// TestMissesOfGatewaysCostWhatHitsCost has a gateway ask for the state of a
// connection that exists and of one that does not.
func TestMissesOfGatewaysCostWhatHitsCost(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, nil)
	local, remote, _ := connection(t)
	for _, ports := range []string{fmt.Sprintf("%d,%d", local.Port(), remote.Port()), fmt.Sprintf("%d,9", local.Port())} {
		for _, kind := range []string{"SV", "SV_REC:5", "ID_REC:6"} {
			walks := d.Stats.Walks.Load()
			r, err := protocol.ParseReply(strings.TrimSpace(ask(t, address, ports+":"+kind+":127.0.0.1\r\n")))
			if _, ok := r.Token(); err != nil || !ok {
				t.Errorf("%s %s: %v, %v", ports, kind, r, err)
			}
			if got := d.Stats.Walks.Load() - walks; got != 1 {
				t.Errorf("%s %s: %d walks, want 1 whether it exists or not", ports, kind, got)
			}
		}
	}
}

func TestAnswersLeaveInSteps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for work, want := range map[time.Duration]time.Duration{
			0: answerStep, time.Millisecond: answerStep, answerStep - 1: answerStep, answerStep + 1: 2 * answerStep,
			time.Second - 10*time.Millisecond: time.Second, 2 * time.Second: 2 * time.Second,
		} {
			asked := time.Now()
			time.Sleep(work)
			waitForStep(t.Context(), asked, time.Second)
			if got := time.Since(asked); got != want {
				t.Errorf("after work of %v the answer leaves at %v, want %v", work, got, want)
			}
		}
	})
}

// TestEachConnectionIsAskedOnceInASession has several requests of a session meet
// one inbound connection.
func TestEachConnectionIsAskedOnceInASession(t *testing.T) {
	d, _ := start(t, func(c *Configuration) { c.Recursion.Port = 1 }) // nothing answers there
	in := target{Inbound: walk.Inbound{Socket: walk.Socket{NetNS: d.finder.OwnNetNS(),
		Local: netip.MustParseAddrPort("127.0.0.1:22"), Remote: netip.MustParseAddrPort("127.0.0.1:4000")}}}
	u := question{Request: protocol.Request{Kind: protocol.SaveRec, Session: 7}, granted: protocol.SaveRec}
	if a := d.askOnce(t.Context(), u, "first", in); a.Failure == "" || a.Earlier != "" {
		t.Errorf("the first question: %+v", a)
	}
	for range 60 {
		if a := d.askOnce(t.Context(), u, "later", in); a.Earlier != "first" || a.Host != in.Remote.Addr() || a.Ports != [2]uint16{4000, 22} {
			t.Fatalf("a later request: %+v", a)
		}
	}
	u.Session = 8
	if a := d.askOnce(t.Context(), u, "other", in); a.Earlier != "" {
		t.Errorf("another session: %+v", a)
	}
	if got := d.Stats.Recursions.Load(); got != 2 {
		t.Errorf("the host was asked %d times, want once in each session", got)
	}
}

// TestWithoutRights runs itself without capabilities and asks about a connection
// of a process it may not look into: the record must say that it saw nothing.
func TestWithoutRights(t *testing.T) {
	testkit.Root(t)
	if addresses := os.Getenv("IDENT_TEST_CONNECTION"); addresses != "" {
		askWithoutRights(t, addresses)
		return
	}
	testkit.Tool(t, "setpriv")
	local, remote, _ := connection(t)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "setpriv", "--bounding-set=-all", "--inh-caps=-all", os.Args[0], "-test.run=^TestWithoutRights$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("IDENT_TEST_CONNECTION=%v %v", local, remote))
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "asked without rights") {
		t.Errorf("%v\n%s", err, out)
	}
}

func askWithoutRights(t *testing.T, addresses string) {
	var local, remote netip.AddrPort
	for i, text := range strings.Fields(addresses) {
		*[]*netip.AddrPort{&local, &remote}[i] = netip.MustParseAddrPort(text)
	}
	d, address := start(t, nil)
	if limits := d.finder.Limits(); limits == nil || !strings.Contains(limits.Error(), "CAP_BPF") {
		t.Errorf("limits: %v; want the missing capability", limits)
	}
	r, err := protocol.ParseReply(strings.TrimSpace(ask(t, address, fmt.Sprintf("%d,%d:SV\r\n", local.Port(), remote.Port()))))
	tok, ok := r.Token()
	if err != nil || !ok {
		t.Fatalf("%v, %v", r, err)
	}
	e, err := token.Get(RecordsDir(d.config.State), tok)
	var rec record.Record
	if err == nil {
		err = json.Unmarshal(e.Record, &rec)
	}
	if err != nil || rec.Outcome != "no process was found" || rec.End == nil || rec.End.Grade != record.Cut || len(rec.Processes) != 0 {
		t.Fatalf("%v, %s", err, e.Record)
	}
	denied := false
	for _, seen := range rec.End.Unseen {
		denied = denied || seen.What == record.Denied
	}
	if !denied {
		t.Errorf("%+v does not say that the daemon may not look", rec.End)
	}
	t.Log("asked without rights")
}
