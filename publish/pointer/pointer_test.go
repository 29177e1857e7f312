package pointer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/anacrolix/dht/v2"
	"github.com/anacrolix/dht/v2/bep44"
	"github.com/anacrolix/dht/v2/krpc"
	"github.com/anacrolix/torrent/bencode"
	"github.com/prometheus/client_golang/prometheus"

	"dragnet/flow"
	"dragnet/publish/mirror"
	"dragnet/publish/publishtest"
	"dragnet/wire/identity"
)

func TestMain(m *testing.M) {
	resend = 100 * time.Millisecond
	m.Run()
}

// swarm is a private table.
type swarm struct{ *publishtest.Swarm }

func newSwarm(t testing.TB, n int) *swarm {
	t.Helper()
	return &swarm{publishtest.NewSwarm(t, n, func() (net.PacketConn, error) { return net.ListenPacket("udp", "127.0.0.1:0") })}
}

// holders are the positions of the nodes that have an item of a key.
func (s *swarm) holders(key *identity.Key) (all []int) {
	target := bep44.MakeMutableTarget([32]byte(key.Public().Bytes()), []byte(salt))
	for i, store := range s.Stores {
		if item, err := store.Get(target); err == nil && item != nil {
			all = append(all, i)
		}
	}
	return all
}

func newKey(t testing.TB) *identity.Key {
	t.Helper()
	k, err := identity.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func configuration(bootstrap ...string) Configuration {
	c := DefaultConfiguration()
	c.Bootstrap, c.Listen, c.Mirrors = bootstrap, "127.0.0.1:0", []string{"https://feed.example.org/mirror/"}
	return c
}

func newPublisher(t testing.TB, key *identity.Key, bootstrap ...string) *Publisher {
	t.Helper()
	c := configuration(bootstrap...)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	p := New(c, Dependencies{Key: key, Log: slog.New(slog.DiscardHandler), Nodes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "nodes"})})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}

var noon = flow.FromTime(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))

// head is that of the n-th publication.
func head(n int64) *mirror.Head {
	return &mirror.Head{Version: mirror.HeadVersion, Number: n, Time: noon + flow.Time(n)*flow.Time(time.Minute), Root: fmt.Sprintf("%064x", n)}
}

// TestHalfOfTheSwarmIsKilled finds the newest item by any of the nodes that are
// left, with the publisher gone.
func TestHalfOfTheSwarmIsKilled(t *testing.T) {
	s := newSwarm(t, 30)
	key, seed := newKey(t), uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	p := newPublisher(t, key, s.Addresses()[:3]...)
	for n := range int64(3) {
		for tries := 1; ; tries++ { // on a loaded machine some of 30 nodes answer too late
			took, err := p.publish(t.Context(), head(n+1))
			if err == nil && took >= 8 {
				break
			}
			if tries == 20 {
				t.Fatalf("%d nodes took the item, %v; want the 8 nearest", took, err)
			}
		}
	}
	p.table.close()
	holders := s.holders(key)
	random := rand.New(rand.NewPCG(seed, 0))
	// With all nodes gone that had it, it would be gone until the publisher puts
	// it again; one of a thousand draws is that.
	left := holders[random.IntN(len(holders))]
	killed, lost := map[int]bool{}, 0
	for _, i := range random.Perm(30) {
		if len(killed) < 15 && i != left {
			killed[i] = true
			s.Nodes[i].Close()
		}
	}
	for _, i := range holders {
		if killed[i] {
			lost++
		}
	}
	for i, address := range s.Addresses() {
		if killed[i] {
			continue
		}
		found, err := Find(t.Context(), []string{address}, key.Public())
		for tries := 1; tries < 5 && (err != nil || found.Head != *head(3)); tries++ { // late answers, as above
			found, err = Find(t.Context(), []string{address}, key.Public())
		}
		if err != nil || found.Head != *head(3) || found.Mirrors[0] != "https://feed.example.org/mirror/" {
			t.Errorf("by node %d, with %d of %d holders dead: %+v, %v", i, lost, len(holders), found, err)
		}
	}
}

func TestDeadBootstrapNodesArePassedOver(t *testing.T) {
	s := newSwarm(t, 5)
	key := newKey(t)
	p := newPublisher(t, key, s.Addresses()...)
	if _, err := p.publish(t.Context(), head(1)); err != nil {
		t.Fatal(err)
	}
	for _, n := range s.Nodes[:3] {
		n.Close()
	}
	found, err := Find(t.Context(), append([]string{"no such host.invalid:1"}, s.Addresses()...), key.Public())
	if err != nil || found.Head.Number != 1 {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := Find(t.Context(), s.Addresses()[:3], key.Public()); !errors.Is(err, errTable) {
		t.Errorf("without a living node: %v", err)
	}
	if _, err := Find(t.Context(), s.Addresses()[3:], newKey(t).Public()); !errors.Is(err, ErrNotFound) {
		t.Errorf("a publisher without an item: %v", err)
	}
}

// bencoded is what put sends of a text.
func bencoded(t testing.TB, text string) []byte {
	t.Helper()
	b, err := bencode.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// putRaw puts an item into nodes by hand, as an attacker would, and returns how
// many refused it.
func (s *swarm) putRaw(t *testing.T, put bep44.Put, nodes ...int) (refused int) {
	t.Helper()
	c := configuration(s.Addresses()...)
	table, err := openTable(&c)
	if err != nil {
		t.Fatal(err)
	}
	defer table.close()
	for _, i := range nodes {
		to := dht.NewAddr(s.Nodes[i].Addr())
		got := table.server.Get(t.Context(), to, put.Target(), nil, dht.QueryRateLimiting{})
		if got.Reply.R == nil || got.Reply.R.Token == nil {
			t.Fatalf("no token: %v", got.ToError())
		}
		// The library checks what it puts; an attacker does not.
		args := krpc.MsgArgs{ID: table.server.ID(), Salt: put.Salt, Seq: &put.Seq, Sig: put.Sig, Token: *got.Reply.R.Token, V: put.V, K: *put.K}
		if table.server.Query(t.Context(), to, "put", dht.QueryInput{MsgArgs: args}).ToError() != nil {
			refused++
		}
	}
	return refused
}

// TestAbuse puts into honest nodes what they have to refuse.
func TestAbuse(t *testing.T) {
	s := newSwarm(t, 5)
	key, thief := newKey(t), newKey(t)
	p := newPublisher(t, key, s.Addresses()...)
	if _, err := p.publish(t.Context(), head(5)); err != nil {
		t.Fatal(err)
	}
	public := [32]byte(key.Public().Bytes())
	signed := func(k *identity.Key, h *mirror.Head, text string) bep44.Put {
		i := sequenceOf(h.Time)
		return bep44.Put{V: text, K: &public, Salt: []byte(salt), Seq: i, Sig: k.SignItem([]byte(salt), i, bencoded(t, text))}
	}
	holders := s.holders(key)
	for name, put := range map[string]bep44.Put{
		"wrong signature": signed(thief, head(9), `{"version":1}`),
		"older":           signed(key, head(4), `{"version":1}`),
		"same, different": signed(key, head(5), `{"version":1}`),
		"oversized":       signed(key, head(9), strings.Repeat("x", 1001)),
	} {
		if refused := s.putRaw(t, put, holders...); refused != len(holders) || refused == 0 {
			t.Errorf("%s: %d of %d nodes refused", name, refused, len(holders))
		}
		if found, err := Find(t.Context(), s.Addresses(), key.Public()); err != nil || found.Head.Number != 5 {
			t.Errorf("%s: found %+v, %v", name, found, err)
		}
	}
	// Signed by the publisher, and nonsense.
	for name, text := range map[string]string{"no JSON": "x", "another version": `{"version":2}`, "a mirror that is a file": `{"version":1,"head":{"version":1},"mirrors":["file:///etc/passwd"]}`} {
		other := newKey(t)
		k := [32]byte(other.Public().Bytes())
		put := bep44.Put{V: text, K: &k, Salt: []byte(salt), Seq: 1, Sig: other.SignItem([]byte(salt), 1, bencoded(t, text))}
		if refused := s.putRaw(t, put, 0, 1, 2, 3, 4); refused != 0 {
			t.Fatalf("%s: %d refused", name, refused)
		}
		if found, err := Find(t.Context(), s.Addresses(), other.Public()); !errors.Is(err, errValue) {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
}

// liar is a node that answers each query with what a function makes of its
// transaction.
func liar(t *testing.T, answer func(transaction string) []string) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		b := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			var m krpc.Msg
			if bencode.Unmarshal(b[:n], &m) != nil {
				continue
			}
			for _, a := range answer(m.T) {
				_, _ = conn.WriteTo([]byte(a), from)
			}
		}
	}()
	return conn.LocalAddr().String()
}

// TestLiars answer the reader with everything that could mislead or stop it. It
// still finds what an honest node has.
func TestLiars(t *testing.T) {
	s := newSwarm(t, 3)
	key, thief := newKey(t), newKey(t)
	p := newPublisher(t, key, s.Addresses()...)
	if _, err := p.publish(t.Context(), head(5)); err != nil {
		t.Fatal(err)
	}
	target := bep44.MakeMutableTarget([32]byte(key.Public().Bytes()), []byte(salt))
	k, id := string(key.Public().Bytes()), string(target[:]) // nearer than all others
	str := func(s string) string { return fmt.Sprintf("%d:%s", len(s), s) }
	reply := func(transaction, fields string) string {
		return "d1:rd2:id20:" + id + fields + "e1:t" + str(transaction) + "1:y1:re"
	}
	forge := func(by *identity.Key, sequence int64, text string) string {
		v := string(bencoded(t, text))
		sig := by.SignItem([]byte(salt), sequence, []byte(v))
		return "1:k32:" + k + fmt.Sprintf("3:seqi%de", sequence) + "3:sig64:" + string(sig[:]) + "5:token1:x" + "1:v" + v
	}
	later := sequenceOf(head(9).Time)
	liars := map[string]func(string) []string{
		"no sequence number": func(tr string) []string {
			return []string{reply(tr, "1:k32:"+k+"3:sig64:"+strings.Repeat("s", 64)+"5:token1:x1:v1:v")}
		},
		"forged":    func(tr string) []string { return []string{reply(tr, forge(thief, later, `{"version":1}`))} },
		"older":     func(tr string) []string { return []string{reply(tr, forge(key, 1, `{"version":1}`))} },
		"oversized": func(tr string) []string { return []string{reply(tr, forge(key, later, strings.Repeat("x", 1001)))} },
		"no fields": func(tr string) []string { return []string{"d1:t" + str(tr) + "1:y1:re"} },
		"error": func(tr string) []string {
			return []string{"d1:t" + str(tr) + "1:y1:ee", "d1:eli1ee1:t" + str(tr) + "1:y1:ee"}
		},
		"put": func(string) []string { return []string{"d1:q3:put1:t1:x1:y1:qe", "d1:q13:announce_peer1:t1:x1:y1:qe"} },
		"deep": func(string) []string {
			return []string{strings.Repeat("l", 60000), "d1:rd1:v" + strings.Repeat("l", 3000)}
		},
		"broken": func(tr string) []string {
			return []string{"d", "", "x", reply(tr, "5:nodes3:abc"), reply(tr, "5:token5:ab")}
		},
		"endless nodes": func(tr string) []string {
			var nodes strings.Builder
			for range 100 { // all are at this address, each nearer than the last
				fmt.Fprintf(&nodes, "%s%c%c%c%c%c%c", id[:18]+string([]byte{byte(rand.IntN(256)), byte(rand.IntN(256))}), 127, 0, byte(rand.IntN(256)), byte(rand.IntN(256)), 200, byte(rand.IntN(256)))
			}
			return []string{reply(tr, "5:nodes"+str(nodes.String())+"5:token1:x")}
		},
	}
	var all []string
	for name, answer := range liars {
		address := liar(t, answer)
		all = append(all, address)
		found, err := Find(t.Context(), append([]string{address}, s.Addresses()...), key.Public())
		if err != nil || found.Head.Number != 5 {
			t.Errorf("%s: %+v, %v", name, found, err)
		}
	}
	if found, err := Find(t.Context(), append(all, s.Addresses()...), key.Public()); err != nil || found.Head.Number != 5 {
		t.Errorf("all of them: %+v, %v", found, err)
	}
	if found, err := Find(t.Context(), all, key.Public()); err == nil && found.Head.Number >= 5 {
		t.Errorf("liars alone: %+v", found)
	}
}

// TestCopyByTheTable passes over a mirror that is gone, one that lags behind, and
// one of somebody else.
func TestCopyByTheTable(t *testing.T) {
	s := newSwarm(t, 5)
	key := newKey(t)
	source := publishtest.New()
	feed := source.Feed(t)
	publish := func(k *identity.Key, dir string) *mirror.Manifest {
		c := mirror.DefaultConfiguration()
		c.Directory = dir
		tree, err := mirror.NewTree(c, k, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		m, err := tree.Publish(publishtest.Refresh(t, feed))
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	serve := func(dir string) string {
		server := httptest.NewServer(http.FileServer(http.Dir(filepath.Join(dir, mirror.Current))))
		t.Cleanup(server.Close)
		return server.URL
	}
	behind, current, foreign := t.TempDir(), t.TempDir(), t.TempDir()
	publish(key, current)
	if err := os.CopyFS(behind, os.DirFS(current)); err != nil {
		t.Fatal(err)
	}
	source.List("g1", nil, 75, "198.51.100.7")
	m := publish(key, current)
	publish(newKey(t), foreign)
	c := configuration(s.Addresses()[:2]...)
	c.Mirrors = []string{"http://127.0.0.1:1/", serve(behind), serve(foreign)}
	p := New(c, Dependencies{Key: key, Log: slog.New(slog.DiscardHandler), Nodes: prometheus.NewGauge(prometheus.GaugeOpts{Name: "nodes"})})
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer p.Stop(t.Context())
	copier := mirror.Copier{URL: Scheme + strings.Join(s.Addresses(), ","), Directory: t.TempDir(), Publisher: key.Public(), Now: source.Now}
	for _, good := range []bool{false, true} {
		if good {
			p.config.Mirrors = append(p.config.Mirrors, serve(current))
			source.Advance(time.Second)
			m = publish(key, current)
		}
		if _, err := p.publish(t.Context(), &m.Head); err != nil {
			t.Fatal(err)
		}
		done, err := Copy(t.Context(), copier)
		switch {
		case !good && (!errors.Is(err, mirror.ErrRolledBack) || !errors.Is(err, mirror.ErrForged)):
			t.Errorf("no mirror has it: %v", err)
		case good && (err != nil || done.Manifest.Head != m.Head):
			t.Errorf("the last mirror has it: %+v, %v", done, err)
		}
	}
}

func TestATableOfTheInternetNamesNoPrivateNodes(t *testing.T) {
	node := func(ip ...byte) krpc.NodeInfo { return krpc.NodeInfo{Addr: krpc.NodeAddr{IP: ip, Port: 1}} }
	nodes := []krpc.NodeInfo{node(127, 0, 0, 1), node(10, 0, 0, 1), node(192, 168, 1, 1), node(169, 254, 1, 1), node(198, 51, 100, 7)}
	w := &walk{}
	if got := w.reachable(nodes); len(got) != 1 || got[0].Addr.IP.String() != "198.51.100.7" {
		t.Errorf("%v", got)
	}
	if w.anywhere = true; len(w.reachable(nodes)) != len(nodes) {
		t.Error("a private table lost nodes")
	}
}

// TestSignature checks ours with the library's and with BEP 44's rule for what is
// signed.
func TestSignature(t *testing.T) {
	key := newKey(t)
	value := bencoded(t, "Hello World!")
	for _, salt := range []string{"", "foobar"} {
		sig := key.SignItem([]byte(salt), 1, value)
		want := "3:seqi1e1:v12:Hello World!"
		if salt != "" {
			want = "4:salt6:foobar" + want
		}
		if !bep44.Verify(key.Public().Bytes(), []byte(salt), 1, value, sig[:]) || !ed25519.Verify(key.Public().Bytes(), []byte(want), sig[:]) {
			t.Errorf("salt %q: not what BEP 44 signs", salt)
		}
	}
}

func TestConfiguration(t *testing.T) {
	for name, change := range map[string]func(*Configuration){
		"bootstrap[0]": func(c *Configuration) { c.Bootstrap = []string{"x"} },
		"listen":       func(c *Configuration) { c.Listen = "x" },
		"mirrors":      func(c *Configuration) { c.Mirrors = nil },
		"mirrors[0]":   func(c *Configuration) { c.Mirrors = []string{"ftp://x/"} },
		"too many":     func(c *Configuration) { c.Mirrors = []string{"https://" + strings.Repeat("x", 700) + "/"} },
	} {
		c := configuration("dht.example.org:6881")
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := DefaultConfiguration()
	if err := c.Validate(); err != nil || !c.Off() {
		t.Errorf("the default: %v, off %v", err, c.Off())
	}
}

// FuzzAnswer reads what strangers send; what passes is read by the library in the
// same way.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("d1:rd2:id20:aaaaaaaaaaaaaaaaaaaa5:token1:xe1:t1:a1:y1:re"))
	f.Add([]byte("d1:q3:put1:t1:x1:y1:qe"))
	f.Add([]byte("d1:eli201e1:xe1:t1:a1:y1:ee"))
	f.Add([]byte("d1:rd1:vd1:ai1eee1:y1:re"))
	key, err := identity.Generate()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if !isAnswer(b) {
			return
		}
		var m krpc.Msg
		err := bencode.Unmarshal(b, &m)
		if _, trailing := err.(bencode.ErrUnusedTrailingBytes); err != nil && !trailing {
			t.Fatalf("passed, and is not read: %v", err)
		}
		if m.Y == "q" {
			t.Fatal("a query passed")
		}
		_ = m.SenderID()
		_ = m.Error()
		if m.R != nil {
			w := &walk{publisher: key.Public()}
			if w.consider(m.R); w.best != nil {
				t.Fatal("an item without a valid signature")
			}
			w.reachable(m.R.Nodes)
			w.reachable(m.R.Nodes6)
		}
	})
}

// FuzzPointer reads values.
func FuzzPointer(f *testing.F) {
	f.Add(`{"version":1,"head":{"version":1,"number":3},"mirrors":["https://feed.example.org/mirror/"]}`)
	f.Fuzz(func(t *testing.T, text string) {
		if p, err := parsePointer(text); err == nil {
			for _, m := range p.Mirrors {
				if !strings.HasPrefix(strings.ToLower(m), "http") {
					t.Errorf("mirror %q", m)
				}
			}
		}
	})
}
