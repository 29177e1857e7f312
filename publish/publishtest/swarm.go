package publishtest

import (
	"net"
	"testing"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/log"
	"golang.org/x/time/rate"
)

// Swarm is a private distributed hash table of ordinary nodes.
type Swarm struct {
	Nodes []*dht.Server
	// Stores are what each node has.
	Stores []*bep44.Memory
}

// NewSwarm runs n nodes, each with a socket of listen, until the test ends.
func NewSwarm(t testing.TB, n int, listen func() (net.PacketConn, error)) *Swarm {
	t.Helper()
	s := &Swarm{}
	quiet := log.NewLogger("test")
	quiet.SetHandlers(log.DiscardHandler)
	for range n {
		conn, err := listen()
		if err != nil {
			t.Fatal(err)
		}
		c, store := dht.NewDefaultServerConfig(), bep44.NewMemory()
		c.Conn, c.Logger, c.Store, c.SendLimiter = conn, quiet, store, rate.NewLimiter(rate.Inf, 1)
		c.QueryResendDelay = func() time.Duration { return 100 * time.Millisecond }
		var first []dht.Addr
		if len(s.Nodes) > 0 {
			first = []dht.Addr{dht.NewAddr(s.Nodes[0].Addr())}
		}
		c.StartingNodes = func() ([]dht.Addr, error) { return first, nil }
		node, err := dht.NewServer(c)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(node.Close)
		s.Nodes, s.Stores = append(s.Nodes, node), append(s.Stores, store)
	}
	for round := range 3 { // the first ones do not know the last ones at first
		for i, node := range s.Nodes {
			if _, err := node.Bootstrap(); err != nil && (round > 0 || i > 0) {
				t.Fatal(err)
			}
		}
	}
	return s
}

// Addresses are those of the nodes.
func (s *Swarm) Addresses() (all []string) {
	for _, n := range s.Nodes {
		all = append(all, n.Addr().String())
	}
	return all
}
