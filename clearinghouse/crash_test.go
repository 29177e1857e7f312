package clearinghouse_test

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/wire/envelope"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/roster"
)

// crashVariable makes this test binary the clearinghouse that is killed.
const crashVariable = "DRAGNET_CRASH_TEST"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashVariable); path != "" {
		if err := serveLines(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// still is a roster that does not change.
type still struct{ list *roster.Held }

func (s still) Current(time.Time) (*roster.Held, error) { return s.list, nil }

// serveLines takes on standard input the clearinghouse's key and roster, then
// reports, a line each, and says on standard output which are on disk. Between
// them it publishes.
func serveLines(path string) error {
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	line := func() ([]byte, error) {
		s, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		return hex.DecodeString(strings.TrimSpace(s))
	}
	pin, err := line()
	if err != nil {
		return err
	}
	signer, err := identity.PublicFromBytes(pin)
	if err != nil {
		return err
	}
	data, err := line()
	if err != nil {
		return err
	}
	var b roster.Bundle
	if err := b.UnmarshalBinary(data); err != nil {
		return err
	}
	list, err := b.Open(signer)
	if err != nil {
		return err
	}
	ctx := context.Background()
	db, err := state.Open(ctx, path)
	if err != nil {
		return err
	}
	core, err := clearinghouse.New(clearinghouse.DefaultConfiguration(), clearinghouse.Dependencies{
		DB: db, Roster: still{list}, Own: []identity.ID{signer.ID()}, Now: func() time.Time { return start },
	})
	if err != nil {
		return err
	}
	if err := core.Start(ctx); err != nil {
		return err
	}
	fmt.Println("open")
	failed := make(chan error, 1<<16)
	var busy sync.WaitGroup
	for n := 0; ; n++ {
		sealed, err := line()
		if err == io.EOF {
			busy.Wait()
			return core.Stop(ctx)
		}
		if err != nil {
			return err
		}
		busy.Go(func() { // several at once, so that commits hold groups
			out, err := core.Submit(ctx, [][]byte{sealed})
			if err == nil && out[0].Status == clearinghouse.Refused {
				err = fmt.Errorf("refused: %s", out[0].Reason)
			}
			if err != nil {
				failed <- err
				return
			}
			fmt.Println("kept", hex.EncodeToString(out[0].Report[:]))
		})
		if n%40 == 39 {
			if _, err := core.Publish(ctx); err != nil {
				return err
			}
		}
		select {
		case err := <-failed:
			return err
		default:
		}
	}
}

// TestKilled kills the clearinghouse with SIGKILL again and again while reports
// come in. Every report it had acknowledged must be there, and none twice,
// though all that were not acknowledged are sent again.
func TestKilled(t *testing.T) {
	rounds := 25
	if testkit.Short(t) {
		rounds = 8
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	c := newCommunity(t, filepath.Join(t.TempDir(), "unused.db"), nil)
	bundle, err := c.bundle.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	waiting, kept := map[string][]byte{}, map[string]bool{}
	killed := 0
	for round := range rounds {
		for i := range 60 {
			id, sealed := c.numbered(round*60 + i)
			waiting[id] = sealed
		}
		before := len(kept)
		// By the clock, it may die before it acknowledges anything; by the
		// count, on a slow machine too, in the midst of work.
		after, acknowledged := time.Duration(rng.IntN(30*(1+round%8)))*time.Millisecond, math.MaxInt
		if round%2 == 1 {
			after, acknowledged = time.Minute, 1+rng.IntN(40)
		}
		if feed(t, c, path, bundle, waiting, kept, after, acknowledged) {
			killed++
		}
		for id := range kept {
			delete(waiting, id)
		}
		t.Logf("round %d: %d acknowledged", round, len(kept)-before)
	}
	if killed == 0 || len(kept) == 0 {
		t.Fatalf("killed %d times with %d acknowledged: the test tested nothing", killed, len(kept))
	}
	feed(t, c, path, bundle, waiting, kept, time.Minute, math.MaxInt) // all that is left, to the end
	stored := map[string]int{}
	db, err := state.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(t.Context(), func(tx *state.Tx) error {
		return tx.Each(func(r *sql.Rows) error {
			var digest []byte
			err := r.Scan(&digest)
			stored[hex.EncodeToString(digest)]++
			return err
		}, `SELECT digest FROM clearinghouse_report`)
	}); err != nil {
		t.Fatal(err)
	}
	for id := range kept {
		if stored[id] != 1 {
			t.Errorf("report %s was acknowledged and is stored %d times", id, stored[id])
		}
	}
	if len(stored) != rounds*60 || len(kept) != rounds*60 {
		t.Errorf("%d stored, %d acknowledged, %d sent", len(stored), len(kept), rounds*60)
	}
}

// numbered is a report unlike all others.
func (c *community) numbered(n int) (id string, sealed []byte) {
	r := c.report(scan, hosts(n%250+1)...)
	r.Made -= flow.Time(n)
	body, err := r.MarshalBinary()
	if err != nil {
		c.Fatal(err)
	}
	k := c.members["a"]
	digest := dossier.ReportIDOf(k.ID(), body)
	return hex.EncodeToString(digest[:]), c.wrap(k, envelope.Header{Kind: reporting.ReportKind, To: c.key.ID(), Issued: c.clock, Expires: c.clock.Add(time.Hour)}, body)
}

// feed runs the child over what waits and kills it after a while, or when it has
// acknowledged n of them; killed is false if it ended before.
func feed(t *testing.T, c *community, path string, bundle []byte, waiting map[string][]byte, kept map[string]bool, after time.Duration, acknowledged int) (killed bool) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.Command(exe)
	child.Env = append(os.Environ(), crashVariable+"="+path)
	child.Stderr = os.Stderr
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := maps.Clone(waiting)
	go func() { // errors of writing are the child's death, which Wait reports
		fmt.Fprintln(in, hex.EncodeToString(c.key.Public().Bytes()))
		fmt.Fprintln(in, hex.EncodeToString(bundle))
		for _, sealed := range lines {
			fmt.Fprintln(in, hex.EncodeToString(sealed))
		}
		in.Close()
	}()
	var timer *time.Timer
	for s := bufio.NewScanner(out); s.Scan(); {
		if s.Text() == "open" {
			timer = time.AfterFunc(after, func() { child.Process.Kill() })
			continue
		}
		if id, ok := strings.CutPrefix(s.Text(), "kept "); ok && len(id) == 64 {
			kept[id] = true
			if acknowledged--; acknowledged == 0 {
				child.Process.Kill()
			}
		}
	}
	err = child.Wait()
	if timer == nil {
		t.Fatalf("the child did not start: %v", err)
	}
	if timer.Stop(); err != nil && !strings.Contains(err.Error(), "killed") {
		t.Fatal(err)
	}
	return err != nil
}
