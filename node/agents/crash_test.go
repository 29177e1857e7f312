package agents

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/wire/channel"
)

// TestMain can also play the programs that TestKilled kills.
func TestMain(m *testing.M) {
	var err error
	switch os.Getenv("DRAGNET_TEST_ROLE") {
	case "node":
		err = playNode(os.Args[1], os.Args[2])
	case "agent":
		err = playAgent(os.Args[1], os.Args[2])
	default:
		os.Exit(m.Run())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func playNode(dir, address string) error {
	if _, err := newNode(dir, address); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}

// playAgent sends numbers from the one given, and prints each that Send took.
func playAgent(dir, from string) error {
	n, err := strconv.Atoi(from)
	if err != nil {
		return err
	}
	c := channel.DefaultConfiguration()
	c.State = dir
	a, err := channel.New(c, channel.Dependencies{Log: quiet(), Role: "guard", Retry: 5 * time.Millisecond})
	if err != nil {
		return err
	}
	if err := a.Start(context.Background()); err != nil {
		return err
	}
	for ; ; n++ {
		if err := a.Send(channel.Item{Kind: "test.number", Body: fmt.Append(nil, n)}); err != nil {
			return err
		}
		fmt.Println(n)
		time.Sleep(time.Millisecond)
	}
}

// program is a process that can be killed.
type program struct {
	cmd   *exec.Cmd
	lines chan string
}

func play(t *testing.T, role string, args ...string) *program {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), "DRAGNET_TEST_ROLE="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &program{cmd, make(chan string, 1<<20)}
	go p.read(out)
	return p
}

// read passes on whole lines.
func (p *program) read(out io.Reader) {
	defer close(p.lines)
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		p.lines <- strings.TrimSuffix(line, "\n")
	}
}

// kill ends the process as a crash would, and gives the lines it had printed.
func (p *program) kill() (lines []string) {
	_ = p.cmd.Process.Kill()
	for line := range p.lines {
		lines = append(lines, line)
	}
	_ = p.cmd.Wait()
	return lines
}

// crashes is how many times TestKilled kills; DRAGNET_CRASHES sets more.
func crashes(t *testing.T) int {
	if text := os.Getenv("DRAGNET_CRASHES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if testkit.Short(t) {
		return 6
	}
	return 40
}

// TestKilled kills the node or the agent at random moments. Every number that
// Send took arrives, once and in order.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	first := startNode(t, dir, "127.0.0.1:0")
	address := first.server.Address()
	folder := enrolled(t, first, "edge-1")
	first.close()

	var mu sync.Mutex
	var taken []int
	next := 0
	note := func(lines []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, line := range lines {
			n, err := strconv.Atoi(line)
			if err != nil {
				t.Fatal(err)
			}
			taken = append(taken, n)
			next = n + 1
		}
		next++ // the one that was being sent
	}
	startNode := func() *program {
		p := play(t, "node", dir, address)
		if line := <-p.lines; line != "ready" {
			t.Fatalf("the node printed %q", line)
		}
		return p
	}
	node, agent := startNode(), play(t, "agent", folder, "0")
	// A busy machine gets little done between two crashes; then there are more.
	for i, n := 0, crashes(t); i < n || next < 50 && i < 20*n; i++ {
		time.Sleep(time.Duration(rand.IntN(120)) * time.Millisecond)
		switch rand.IntN(3) {
		case 0:
			node.kill()
			node = startNode()
		case 1:
			note(agent.kill())
			agent = play(t, "agent", folder, strconv.Itoa(next))
		default: // both
			node.kill()
			note(agent.kill())
			node = startNode()
			agent = play(t, "agent", folder, strconv.Itoa(next))
		}
	}
	time.Sleep(100 * time.Millisecond)
	note(agent.kill())
	node.kill()
	checkArrived(t, dir, folder, address, taken)
}

// checkArrived lets the rest arrive undisturbed.
func checkArrived(t *testing.T, dir, folder, address string, taken []int) {
	n := startNode(t, dir, address)
	a := startAgent(t, folder)
	defer stop(t, a)
	within(t, "an empty spool", func() bool { return a.Status().Waiting == 0 })
	kept := n.kept(t)
	t.Logf("%d numbers were taken, %d arrived; the node's database is %s", len(taken), len(kept), filepath.Join(dir, "state.db"))
	if !slices.IsSorted(kept) || len(slices.Compact(slices.Clone(kept))) != len(kept) {
		t.Error("numbers arrived doubled or out of order")
	}
	for _, i := range taken {
		if _, found := slices.BinarySearch(kept, i); !found {
			t.Errorf("number %d was taken and did not arrive", i)
		}
	}
	if m := n.member(t, "edge-1"); m.Received != uint64(len(kept)) || m.Missed != 0 || len(taken) < 20 {
		t.Errorf("%d numbers taken, %d arrived, the node counts %d and %d missed", len(taken), len(kept), m.Received, m.Missed)
	}
}
