package pointer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/bep44"
	nearest "github.com/anacrolix/dht/v2/k-nearest-nodes"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/dht/v2/traversal"
	"github.com/anacrolix/dht/v2/types"
	"github.com/anacrolix/log"
	"github.com/anacrolix/torrent/bencode"

	"dragnet/wire/identity"
)

// table is our access to the distributed hash table. We ask and are not asked
// (BEP 43): nothing of strangers is stored here.
type table struct {
	bootstrap []string
	server    *dht.Server
}

// resend is how long a node has for an answer before it is asked again, three
// times in all; tests shorten it.
var resend = time.Second

// openTable opens a socket.
func openTable(c *Configuration) (*table, error) {
	conn, err := net.ListenPacket("udp", c.Listen)
	if err != nil {
		return nil, err
	}
	config := dht.NewDefaultServerConfig()
	logger := log.NewLogger("dht")
	logger.SetHandlers(log.DiscardHandler)
	config.Conn, config.Passive, config.Logger, config.Store = &answersOnly{PacketConn: conn}, true, logger, bep44.NewMemory()
	config.StartingNodes = func() ([]dht.Addr, error) { return nil, nil } // walk adds them
	config.QueryResendDelay = func() time.Duration { return resend }
	server, err := dht.NewServer(config)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return &table{c.Bootstrap, server}, nil
}

func (t *table) close() { t.server.Close() }

// answersOnly drops what is not an answer before the library reads it: what a
// stranger can send unasked would end the process (a put without arguments) or
// grow a table of counters (queries of random names).
type answersOnly struct{ net.PacketConn }

// ReadFrom implements net.PacketConn. An error other than of a closed socket
// would end the process, too.
func (c *answersOnly) ReadFrom(b []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(b)
		switch {
		case errors.Is(err, net.ErrClosed):
			return n, from, err
		case err != nil:
			time.Sleep(10 * time.Millisecond)
		case isAnswer(b[:n]):
			return n, from, nil
		}
	}
}

// maxPacket bounds an answer: eight nodes of each family, a token and a value
// have 1600 bytes.
const maxPacket = 4096

func isAnswer(b []byte) (answer bool) {
	defer func() {
		if recover() != nil {
			answer = false
		}
	}()
	if len(b) > maxPacket {
		return false
	}
	var m krpc.Msg
	if err := bencode.Unmarshal(b, &m); err != nil {
		if _, trailing := err.(bencode.ErrUnusedTrailingBytes); !trailing {
			return false
		}
	}
	return m.Y == "r" && m.R != nil || m.Y == "e" && m.E != nil
}

// item is a signed item as a node gave it.
type item struct {
	sequence  int64
	text      string // the value, a string
	signature [64]byte
}

// walk goes to the nodes nearest to a publisher's item.
type walk struct {
	table     *table
	publisher identity.Public
	target    bep44.Target
	anywhere  bool // also to addresses that are not global

	tried   atomic.Int64
	answers atomic.Int64

	mu     sync.Mutex
	best   *item
	copies int // of the best
}

// Bounds of a walk: one through the whole mainline table asks about 100 nodes,
// and each answer has the eight nearest that a node knows. Nodes that lie could
// name others for ever.
const (
	maxNodes     = 500
	maxPerAnswer = 16
)

// errTable says that no node answers.
var errTable = errors.New("no node of the distributed hash table answers")

// walkTo asks the nodes on the way to the item, until nearer ones are not known.
func (t *table) walkTo(ctx context.Context, publisher identity.Public) (w *walk, closest *nearest.Type, err error) {
	key := [32]byte(publisher.Bytes())
	w = &walk{table: t, publisher: publisher, target: bep44.MakeMutableTarget(key, []byte(salt))}
	var first []netip.AddrPort
	for _, node := range t.bootstrap {
		addresses, err := resolve(ctx, node)
		if err != nil {
			continue // others may do
		}
		first = append(first, addresses...)
	}
	// Before the first node is asked, since its answer is judged by it.
	w.anywhere = slices.ContainsFunc(first, func(a netip.AddrPort) bool { return !isGlobal(a.Addr()) })
	op := traversal.Start(traversal.OperationInput{Target: w.target, Alpha: 8, K: 8, DoQuery: w.ask, NodeFilter: t.server.TraversalNodeFilter})
	defer op.Stop()
	for _, a := range first {
		_ = op.AddNode(types.AddrMaybeId{Addr: krpc.NodeAddrPort{AddrPort: a}})
	}
	select {
	case <-op.Stalled():
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	if w.answers.Load() == 0 {
		return nil, nil, fmt.Errorf("%w: %d asked, beginning with %v", errTable, w.tried.Load(), t.bootstrap)
	}
	return w, op.Closest(), nil
}

func resolve(ctx context.Context, node string) (all []netip.AddrPort, err error) {
	host, port, err := net.SplitHostPort(node)
	if err != nil {
		return nil, err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, err
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, a := range addresses {
		all = append(all, netip.AddrPortFrom(a.Unmap(), uint16(number)))
	}
	return all, err
}

func isGlobal(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsGlobalUnicast() && !a.IsPrivate()
}

// ask asks one node for the item and for nodes that are nearer.
func (w *walk) ask(ctx context.Context, to krpc.NodeAddr) traversal.QueryResult {
	if w.tried.Add(1) > maxNodes {
		return traversal.QueryResult{}
	}
	got := w.table.server.Get(ctx, dht.NewAddr(to.UDP()), w.target, nil, dht.QueryRateLimiting{})
	r := got.Reply.R
	if got.ToError() != nil || r == nil {
		return traversal.QueryResult{}
	}
	w.answers.Add(1)
	w.consider(r)
	result := got.TraversalQueryResult(to)
	if result.ClosestData == nil { // without a token nothing can be put there
		result.ResponseFrom = nil
	}
	result.Nodes, result.Nodes6 = w.reachable(result.Nodes), w.reachable(result.Nodes6)
	return result
}

// reachable leaves out what a node has no business to name: a table of the
// Internet does not send us to addresses of our own network.
func (w *walk) reachable(nodes []krpc.NodeInfo) (out []krpc.NodeInfo) {
	for i := range nodes[:min(len(nodes), maxPerAnswer)] {
		if a, ok := netip.AddrFromSlice(nodes[i].Addr.IP); ok && (w.anywhere || isGlobal(a)) {
			out = append(out, nodes[i])
		}
	}
	return out
}

// consider keeps the newest item that the publisher signed.
func (w *walk) consider(r *krpc.Return) {
	if r.Seq == nil || len(r.V) == 0 || len(r.V) > maxValue || !bep44.Verify(w.publisher.Bytes(), []byte(salt), *r.Seq, r.V, r.Sig[:]) {
		return
	}
	var text string
	if bencode.Unmarshal(r.V, &text) != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.best == nil || *r.Seq > w.best.sequence:
		w.best, w.copies = &item{*r.Seq, text, r.Sig}, 1
	case *r.Seq == w.best.sequence && text == w.best.text:
		w.copies++
	}
}

// put gives an item to the nodes nearest to it, and returns how many took it.
func (t *table) put(ctx context.Context, publisher identity.Public, i *item, closest *nearest.Type) int {
	key := [32]byte(publisher.Bytes())
	put := bep44.Put{V: i.text, K: &key, Salt: []byte(salt), Sig: i.signature, Seq: i.sequence}
	var took atomic.Int64
	var all sync.WaitGroup
	closest.Range(func(e nearest.Elem) {
		token, ok := e.Data.(string)
		if !ok {
			return
		}
		all.Go(func() {
			if t.server.Put(ctx, dht.NewAddr(e.Addr.UDP()), put, token, dht.QueryRateLimiting{}).ToError() == nil {
				took.Add(1)
			}
		})
	})
	all.Wait()
	return int(took.Load())
}
