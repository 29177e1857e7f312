package inquiry_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/ask/relay"
	"dragnet/ask/witness/audit"
	"dragnet/ask/witness/endpoint"
	"dragnet/flow"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/internal/testkit"
	"dragnet/node/ingest"
	"dragnet/wire/exchange"
	"dragnet/wire/identity"
)

// role is what a child process of these tests does until it is killed.
type role struct {
	Relay   *relayRole   `json:",omitempty"`
	Witness *witnessRole `json:",omitempty"`
}

type relayRole struct{ Address, State, Key string }

type witnessRole struct {
	Directory, Log, Name string
	Networks             []netip.Prefix
	Conf                 endpoint.Configuration
}

const roleVariable = "DRAGNET_TEST_ROLE"

func TestMain(m *testing.M) {
	if text := os.Getenv(roleVariable); text != "" {
		var r role
		err := json.Unmarshal([]byte(text), &r)
		if err == nil {
			err = r.run()
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func (r role) run() error {
	ctx := context.Background()
	if w := r.Witness; w != nil {
		log, err := ingest.Open(w.Log)
		if err != nil {
			return err
		}
		db := state.New(filepath.Join(w.Directory, "state.db"))
		s, err := endpoint.New(w.Conf, endpoint.Dependencies{
			Site: flow.Site{Name: w.Name, Networks: w.Networks}, Log: func() flow.Log { return log }, DB: db, Held: filepath.Join(w.Directory, "roster.held"), Logger: silence,
		})
		if err == nil {
			err = run.Parts{db, s}.Start(ctx)
		}
		if err != nil {
			return err
		}
		fmt.Println("ready")
		return <-s.Failed()
	}
	k, err := identity.Load(r.Relay.Key)
	if err != nil {
		return err
	}
	db, err := state.Open(ctx, r.Relay.State)
	if err != nil {
		return err
	}
	b, err := relay.NewMailboxes(db, relay.DefaultConfiguration())
	if err != nil {
		return err
	}
	service := relay.NewService(b, relay.Dependencies{Member: func(p identity.Public) (relay.Membership, bool) {
		return relay.Membership{Organisation: p.String(), Ask: true}, true
	}, Log: silence})
	if err := service.Start(ctx); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle(service.Handler())
	s, err := exchange.Listen(r.Relay.Address, k, mux, silence)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return s.Serve()
}

// child is a role that is killed and started again, over and over.
type child struct {
	testing.TB
	role role
	cmd  *exec.Cmd
}

func (c *child) start() {
	c.Helper()
	text, err := json.Marshal(c.role)
	if err != nil {
		c.Fatal(err)
	}
	c.cmd = exec.Command(os.Args[0])
	c.cmd.Env = append(os.Environ(), roleVariable+"="+string(text))
	c.cmd.Stderr = os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		c.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		c.Fatalf("the child says %q, %v", line, err)
	}
	go io.Copy(io.Discard, out)
}

func (c *child) kill() {
	if c.cmd != nil {
		c.cmd.Process.Kill()
		c.cmd.Wait()
		c.cmd = nil
	}
}

// killAtRandom kills the child at random moments until done, and starts it again.
func (c *child) killAtRandom(random *rand.Rand, done <-chan struct{}, longest time.Duration) (kills int) {
	for {
		select {
		case <-done:
			return kills
		case <-time.After(time.Duration(random.Int64N(int64(longest)))):
		}
		c.kill()
		kills++
		c.start()
	}
}

// freeAddress is a loopback address on which nothing listens.
func freeAddress(t testing.TB) string {
	t.Helper()
	s, err := exchange.Listen("127.0.0.1:0", newKey(t), http.NotFoundHandler(), silence)
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve()
	defer s.Shutdown(context.Background())
	return s.Address()
}

// TestKilled kills the relay, and one of the witnesses, at random moments while
// questions are asked over the relay. Whatever was acknowledged must be there
// afterwards: every question ends with all four answers, each counted once, and
// each witness's record is whole and has every case once.
func TestKilled(t *testing.T) {
	testkit.Long(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	c := newCommunity(t)
	k, err := identity.Create(filepath.Join(c.dir, "relay.key"))
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	hub := &child{TB: t, role: role{Relay: &relayRole{address, filepath.Join(c.dir, "relay.db"), filepath.Join(c.dir, "relay.key")}}}
	hub.start()
	relay := exchange.Endpoint{URL: "https://" + address, Key: k.Public()}
	c.book.Relays = []inquiry.BookRelay{{Name: "hub", URL: relay.URL, Key: relay.Key}}
	overRelay := func(conf *endpoint.Configuration) {
		conf.Listen, conf.Relays, conf.Policy.Floor = "", []endpoint.RelayConfiguration{{URL: relay.URL, Key: relay.Key}}, 1
	}
	truth := c.incident(overRelay)
	victim := c.childWitness("victim", overRelay)
	victim.start()
	defer victim.kill()
	conf, p := c.asks(truth)
	conf.Deadline = 90 * time.Second
	awaitCards(t, c, relay, 5)

	done := make(chan struct{})
	killed := make(chan int, 2)
	other := rand.New(rand.NewPCG(seed, 1))
	go func() { killed <- hub.killAtRandom(random, done, 1500*time.Millisecond) }()
	go func() { killed <- victim.killAtRandom(other, done, 1500*time.Millisecond) }()
	const inquiries = 3
	for i := range inquiries {
		heard := map[string]int{}
		conf.Note = func(n inquiry.Note) {
			if n.Status == inquiry.Answered {
				heard[n.Witness]++
			}
		}
		var out *inquiry.Summary
		for { // the list of witnesses may meet a relay that is down
			if out, err = inquiry.Run(t.Context(), conf, p); err != nil {
				t.Fatal(err)
			}
			if out.Tally.Count(inquiry.Unreachable) == 0 {
				break
			}
		}
		if out.Tally.Count(inquiry.Answered) != 5 || len(heard) != 5 {
			t.Errorf("inquiry %d: %s", i, out.Tally)
		}
		checkHosts(t, out.Result, truth.Organisations[0].Infected)
	}
	close(done)
	t.Logf("%d and %d kills", <-killed, <-killed)
	hub.kill()
	victim.kill()
	checkRecord(t, filepath.Join(c.dir, "victim", "state.db"))
}

// childWitness is a witness over aurora's log that runs as a child.
func (c *community) childWitness(name string, change func(*endpoint.Configuration)) *child {
	c.Helper()
	paths := c.unpacked()
	conf := endpoint.DefaultConfiguration()
	dir := filepath.Join(c.dir, name)
	conf.Key = filepath.Join(dir, "key")
	conf.Roster = endpoint.RosterConfiguration{File: c.rosterFile(), Signer: c.clearing.Public().String()}
	conf.Policy.TooCommon, conf.Policy.EpochDays = 0, 36500
	conf.Policy.Independent, conf.Policy.Masks = 1, nil // one detective asks, about ports too
	change(&conf)
	k, err := identity.Create(conf.Key)
	if err != nil {
		c.Fatal(err)
	}
	c.book.Witnesses = append(c.book.Witnesses, inquiry.Contact{Name: name, Key: k.Public(), Organisation: name})
	return &child{TB: c, role: role{Witness: &witnessRole{
		Directory: dir, Log: paths["aurora"], Name: name, Networks: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}, Conf: conf,
	}}}
}

// checkHosts makes sure that hosts seen by two witnesses have two classes.
func checkHosts(t *testing.T, r detective.Result, both []netip.Addr) {
	t.Helper()
	for _, a := range both {
		n := 0
		for _, h := range r.Hosts {
			if h.Addr == a {
				n = h.Independent
			}
		}
		if n != 2 {
			t.Errorf("%s has %d classes, want 2", a, n)
		}
	}
}

// checkRecord makes sure that an audit log is whole and has no case twice.
func checkRecord(t *testing.T, file string) {
	t.Helper()
	db, err := state.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	d, err := audit.Open(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
	type event struct {
		question, what string
	}
	seen := map[event]int{}
	if err := d.List(t.Context(), 0, func(_ int64, e audit.TrailEntry) bool { seen[event{e.Question, e.Event}]++; return true }); err != nil {
		t.Fatal(err)
	}
	for e, n := range seen {
		if n != 1 {
			t.Errorf("question %.16s was %s %d times", e.question, e.what, n)
		}
	}
}
