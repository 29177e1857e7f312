package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/trap/session"
)

func kept(v *Vault, b string) bool { return v.kept[nameOf([]byte(b))] != nil }

// addFrom keeps a session of an attacker.
func addFrom(v *Vault, attacker, sent, answered string) (bool, error) {
	var attackers []netip.Addr
	if attacker != "" {
		attackers = []netip.Addr{netip.MustParseAddr(attacker)}
	}
	return v.Add(&session.Session{
		ID: "x", Client: netip.MustParseAddrPort("10.66.0.2:1"), Sent: []byte(sent), Answered: []byte(answered),
	}, attackers)
}

// diskBytes is what a directory's captures take, in blocks, as the file system
// has them and not as the vault counts them.
func diskBytes(t *testing.T, dir string) (n int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil && strings.HasSuffix(path, ".age") {
			n += onDisk(info.Size())
		} else if err == nil && strings.HasSuffix(path, ".jsonl") {
			n += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestFirstCopiesStay: whatever follows, in whatever number, and over a restart, no
// first copy is removed for the bound; answers are, and what finds no room is
// refused and counted.
func TestFirstCopiesStay(t *testing.T) {
	c := configuration(t)
	c.Bytes, c.SourceShare = 1<<20, 100
	v := open(t, c)
	big := strings.Repeat("x", 50<<10)
	refused := uint64(0)
	var there []string
	for i := range 60 {
		if i == 12 { // a restart does not turn answers into what is kept
			if err := v.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
			v = open(t, c)
		}
		sent := fmt.Sprint("sent", i, big)
		isNew, err := addFrom(v, "203.0.113.7", sent, fmt.Sprint("answer", i, big))
		switch {
		case !isNew:
			t.Fatal("a new payload is known")
		case errors.Is(err, ErrNoRoom):
			refused++
		case err != nil:
			t.Fatal(err)
		default:
			there = append(there, sent)
		}
		if n := diskBytes(t, c.Directory); n > c.Bytes || n != v.Totals().Bytes {
			t.Fatalf("%d bytes on disk, %d counted, after %d sessions", n, v.Totals().Bytes, i)
		}
	}
	for i, sent := range there {
		if !kept(v, sent) {
			t.Errorf("first copy %d is gone", i)
		}
	}
	got := v.Totals()
	if len(there) < 15 || refused == 0 || got.Refused != refused || got.Evicted == 0 {
		t.Errorf("%d kept, %d refused, %+v", len(there), refused, got)
	}
	// What is known finds no room before what is new is refused.
	before := got.Sessions
	for range 10 {
		if isNew, err := addFrom(v, "203.0.113.7", there[0], ""); isNew || err != nil {
			t.Error(isNew, err)
		}
	}
	if got := v.Totals(); got.Sessions != before || got.Skipped != 10 {
		t.Errorf("%+v: copies took the room of first copies", got)
	}
}

// TestFloodOfOneSource: who sends distinct payloads without end, small or large,
// cannot keep out what others send; nor can copies, nor addresses of its network.
func TestFloodOfOneSource(t *testing.T) {
	for _, size := range []int{10, 30 << 10} {
		for _, network := range []string{"203.0.113.%d", "2001:db8:1::%x", ""} {
			c := configuration(t)
			c.Bytes = 4 << 20
			v := open(t, c)
			fill := strings.Repeat("y", size)
			for i := range 300 {
				from := network
				if from != "" {
					from = fmt.Sprintf(network, i%250+1)
				}
				if _, err := addFrom(v, from, fmt.Sprint(i, fill), ""); err != nil && !errors.Is(err, ErrNoRoom) {
					t.Fatal(err)
				}
			}
			if got := v.Totals(); got.Refused == 0 || got.Bytes > c.Bytes/10 {
				t.Errorf("%s: %+v after a flood", network, got)
			}
			if err := v.Stop(context.Background()); err != nil {
				t.Fatal(err)
			}
			v = open(t, c) // shares are known after a restart
			if _, err := addFrom(v, strings.NewReplacer("%d", "9", "%x", "9").Replace(network), "more"+fill, ""); !errors.Is(err, ErrNoRoom) {
				t.Errorf("%s: a restart gave the flood room: %v", network, err)
			}
			if isNew, err := addFrom(v, "192.0.2.9", "the real one"+fill, ""); !isNew || err != nil || !kept(v, "the real one"+fill) {
				t.Errorf("%s: the flood keeps out others: %v", network, err)
			}
		}
	}
}

// TestAnswerThatIsSent: what was an answer before is a first copy once a honeypot
// sends it, and stays.
func TestAnswerThatIsSent(t *testing.T) {
	c := configuration(t)
	c.Bytes, c.SourceShare = 1<<20, 100
	v := open(t, c)
	if _, err := addFrom(v, "", "a", "echo"); err != nil {
		t.Fatal(err)
	}
	if isNew, err := addFrom(v, "", "echo", ""); !isNew || err != nil || v.answers != 0 {
		t.Errorf("%v, %v, %d bytes of answers", isNew, err, v.answers)
	}
}

// TestExpiry: age removes captures, but not when the clock was stepped, forward or
// back, between two looks at it.
func TestExpiry(t *testing.T) {
	c := configuration(t)
	v := open(t, c)
	wall, elapsed := time.Now(), time.Duration(0)
	v.now, v.elapsed = func() time.Time { return wall }, func() time.Duration { return elapsed }
	v.expire()
	pass := func(d time.Duration) { wall, elapsed = wall.Add(d), elapsed+d }
	add(t, v, "old", "answer")
	for _, step := range []time.Duration{10 * 365 * 24 * time.Hour, -20 * 365 * 24 * time.Hour, 10 * 365 * 24 * time.Hour} {
		wall = wall.Add(step)
		pass(time.Hour)
		v.expire()
		if !kept(v, "old") {
			t.Fatalf("a step of %v removed a capture", step)
		}
		add(t, v, fmt.Sprint(step), "") // and what comes meanwhile is kept
	}
	if n := diskBytes(t, c.Directory); n != v.Totals().Bytes {
		t.Errorf("%d bytes on disk, %d counted", n, v.Totals().Bytes)
	}
	for range 89 {
		pass(24 * time.Hour)
		v.expire()
	}
	if !kept(v, "old") {
		t.Error("a capture of 89 days is gone")
	}
	for range 3 {
		pass(24 * time.Hour)
		v.expire()
	}
	if n := diskBytes(t, c.Directory); kept(v, "old") || n != v.Totals().Bytes {
		t.Errorf("a capture of 92 days is kept, or %d bytes on disk are counted as %d", n, v.Totals().Bytes)
	}
}

// TestMain lets TestKill write in a separate process.
func TestMain(m *testing.M) {
	if dir := os.Getenv("VAULT_WRITE"); dir != "" {
		writeUntilKilled(dir)
	}
	os.Exit(m.Run())
}

func writeUntilKilled(dir string) {
	c := DefaultConfiguration()
	c.Directory = dir
	v, err := New(c)
	if err == nil {
		err = v.Start(context.Background())
	}
	for i := 0; err == nil; i++ {
		sent := fmt.Sprintf("%d %d %s", os.Getpid(), i, strings.Repeat("z", 20<<10))
		if _, err = addFrom(v, "", sent, fmt.Sprint("answer", i)); err == nil {
			fmt.Println(nameOf([]byte(sent)))
		}
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// TestKill: a writer killed at any moment leaves a vault that opens, in which
// everything that it acknowledged is whole, and no parts of files.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	var acknowledged []string
	for i := range 12 {
		var out bytes.Buffer
		cmd := exec.Command(os.Args[0])
		cmd.Env, cmd.Stdout = append(os.Environ(), "VAULT_WRITE="+dir), &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100+i*17) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		for name := range strings.Lines(out.String()) {
			if name = strings.TrimSpace(name); len(name) == 64 {
				acknowledged = append(acknowledged, name)
			}
		}
	}
	if len(acknowledged) < 20 {
		t.Fatalf("only %d sessions were written", len(acknowledged))
	}
	c := DefaultConfiguration()
	c.Directory = dir
	v := open(t, c)
	listed := map[string]bool{}
	if err := Sessions(dir, func(l *Line) error { listed[l.Sent] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	keys, err := ReadKey(filepath.Join(dir, KeyFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range acknowledged {
		if _, err := ReadPayload(dir, name, keys); err != nil || !listed[name] || v.kept[name] == nil {
			t.Errorf("%s was acknowledged; listed %v, %v", name, listed[name], err)
		}
	}
	parts, err := filepath.Glob(filepath.Join(dir, "payloads", "*", ".*"))
	if err != nil || len(parts) > 0 {
		t.Errorf("parts of files: %v, %v", parts, err)
	}
	if n := diskBytes(t, dir); n != v.Totals().Bytes {
		t.Errorf("%d bytes on disk, %d counted", n, v.Totals().Bytes)
	}
}
