package chain

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"html"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/trace/record"
	"dragnet/trace/token"

	"github.com/google/go-cmp/cmp"
)

// machine is a host that stores records as its daemon does.
type machine struct {
	t     *testing.T
	addr  netip.Addr
	key   ed25519.PrivateKey
	dir   string
	store *token.Store
}

func newMachine(t *testing.T, addr string) *machine {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{t: t, addr: netip.MustParseAddr(addr), key: key, dir: t.TempDir()}
	if m.store, err = token.Open(m.dir, key, token.DefaultLimits()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.store.Close() })
	return m
}

const session = 7

// answers stores a record of one request and what hosts before said.
func (m *machine) answers(asker netip.Addr, local, remote uint16, name string, before ...record.Answer) string {
	m.t.Helper()
	s, uid := uint32(session), uint32(1000)
	r := record.Record{Version: record.Version, Asker: asker, Kind: "SV_REC", Session: &s, UID: &uid, User: "mallory",
		Local: netip.AddrPortFrom(m.addr, local), Remote: netip.AddrPortFrom(asker, remote)}
	p := record.ProcessRecord{PID: 10, Name: name, Via: "holds the socket"}
	for _, a := range before {
		p.Sockets = append(p.Sockets, record.SocketRecord{Local: netip.AddrPortFrom(m.addr, a.Ports[1]), Remote: netip.AddrPortFrom(a.Host, a.Ports[0])})
	}
	r.Processes = []record.ProcessRecord{p}
	b, _ := json.Marshal(r)
	tok, err := m.store.Put(b, token.Account{User: uid}, true)
	if err != nil {
		m.t.Fatal(err)
	}
	b, _ = json.Marshal(record.Previous{Version: record.Version, Token: tok, Session: s, Answers: before})
	if err := m.store.PutPrevious(tok, b, token.Account{User: uid}); err != nil {
		m.t.Fatal(err)
	}
	return tok
}

func (m *machine) redeem(tok string) token.SignedRedemption {
	m.t.Helper()
	l, err := token.Redeem(m.dir, m.key, tok, "name of "+m.addr.String(), "test", time.Unix(1e9, 0))
	if err != nil {
		m.t.Fatal(err)
	}
	return l
}

func (m *machine) public() string { return token.FormatKey(m.key.Public().(ed25519.PublicKey)) }

func newCase(host *machine, tok string) *Case {
	return &Case{Version: CaseVersion, Asked: time.Unix(1e9, 0).UTC(), Host: netip.AddrPortFrom(host.addr, 113),
		Request: "100,22:SV_REC:7", Reply: "100,22:USERID:OTHER:" + tok}
}

func outline(n *Node) string {
	var b strings.Builder
	var walk func(*Node, int)
	walk = func(n *Node, depth int) {
		fmt.Fprintf(&b, "%s%v %s agrees=%v;", strings.Repeat(">", depth), n.Host, n.Status, n.Agrees)
		for _, p := range n.Previous {
			walk(p, depth+1)
		}
	}
	walk(n, 0)
	return b.String()
}

var us = netip.MustParseAddr("192.0.2.99")

func TestJudge(t *testing.T) {
	h2, h1 := newMachine(t, "192.0.2.2"), newMachine(t, "192.0.2.1")
	tok1 := h1.answers(h2.addr, 200, 300, "nc")
	tok2 := h2.answers(us, 100, 22, "ssh", record.Answer{Host: h1.addr, Ports: [2]uint16{200, 300}, Token: tok1},
		record.Answer{Host: netip.MustParseAddr("192.0.2.3"), Ports: [2]uint16{5, 6}, Ident: "root"},
		record.Answer{Host: netip.MustParseAddr("192.0.2.4"), Ports: [2]uint16{7, 8}, Failure: "connection refused"})
	c := newCase(h2, tok2)
	check := func(want string, problems int) {
		t.Helper()
		g := c.Judge()
		if got := outline(g.Root); got != want || len(g.Problems) != problems {
			t.Errorf("%s\nwant %s\nproblems %v, want %d", got, want, g.Problems, problems)
		}
	}
	check("192.0.2.2 token not redeemed agrees=false;", 0)
	if err := c.Add(h2.redeem(tok2)); err != nil {
		t.Fatal(err)
	}
	rest := ">192.0.2.3 answers plain ident agrees=false;>192.0.2.4 no identity agrees=false;"
	check("192.0.2.2 proven agrees=true;>192.0.2.1 token not redeemed agrees=false;"+rest, 0)
	if d := cmp.Diff(map[netip.Addr][]string{h1.addr: {tok1}}, pending(c), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); d != "" {
		t.Error(d)
	}
	c.Add(h1.redeem(tok1))
	whole := "192.0.2.2 proven agrees=true;>192.0.2.1 proven agrees=true;" + rest
	check(whole, 0)

	c.Keys = map[netip.Addr]string{h1.addr: h1.public(), h2.addr: h1.public()}
	check(whole, 1) // h2 signed with another key than its administrator gave
	if g := c.Judge(); g.Root.KeyConfirmed || !g.Root.Previous[0].KeyConfirmed {
		t.Error("keys are confirmed wrongly")
	}

	path := filepath.Join(t.TempDir(), "case.json")
	if err := c.Save(path); err != nil {
		t.Fatal(err)
	}
	again, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	*c = again
	check(whole, 1)
}

// TestAskedOnceInASession has two requests to one host that meet the same inbound
// connection: the second record refers to the first.
func TestAskedOnceInASession(t *testing.T) {
	h2, h1 := newMachine(t, "192.0.2.2"), newMachine(t, "192.0.2.1")
	tok1 := h1.answers(h2.addr, 200, 300, "nc")
	first := h2.answers(us, 1, 2, "ssh", record.Answer{Host: h1.addr, Ports: [2]uint16{200, 300}, Token: tok1})
	second := h2.answers(us, 100, 22, "ssh", record.Answer{Host: h1.addr, Ports: [2]uint16{200, 300}, Earlier: first})
	c := newCase(h2, second)
	for _, step := range []struct {
		redeem  func() token.SignedRedemption
		want    string
		pending string
	}{
		{func() token.SignedRedemption { return h2.redeem(second) }, "192.0.2.2 proven agrees=true;>192.0.2.1 token not redeemed agrees=false;", first},
		{func() token.SignedRedemption { return h2.redeem(first) }, "192.0.2.2 proven agrees=true;>192.0.2.1 token not redeemed agrees=false;", tok1},
		{func() token.SignedRedemption { return h1.redeem(tok1) }, "192.0.2.2 proven agrees=true;>192.0.2.1 proven agrees=true;", ""},
	} {
		if err := c.Add(step.redeem()); err != nil {
			t.Fatal(err)
		}
		if got := outline(c.Judge().Root); got != step.want {
			t.Errorf("%s\nwant %s", got, step.want)
		}
		left := ""
		for _, tokens := range pending(c) {
			left += strings.Join(tokens, " ")
		}
		if left != step.pending {
			t.Errorf("left to redeem: %q, want %q", left, step.pending)
		}
	}
}

func pending(c *Case) map[netip.Addr][]string { g := c.Judge(); return g.Pending() }

// TestLies are what a host that the intruder owns may say.
func TestLies(t *testing.T) {
	h2, h1 := newMachine(t, "192.0.2.2"), newMachine(t, "192.0.2.1")

	t.Run("another session's token", func(t *testing.T) {
		other := h1.answers(us, 1, 2, "nc") // not what h2 says it asked
		tok := h2.answers(us, 100, 22, "ssh", record.Answer{Host: h1.addr, Ports: [2]uint16{200, 300}, Token: other})
		c := newCase(h2, tok)
		c.Add(h2.redeem(tok))
		c.Add(h1.redeem(other))
		g := c.Judge()
		if got := outline(g.Root); got != "192.0.2.2 proven agrees=true;>192.0.2.1 proven agrees=false;" || len(g.Problems) != 1 {
			t.Errorf("%s, %v", got, g.Problems)
		}
	})
	t.Run("another record for the token", func(t *testing.T) {
		tok := h2.answers(us, 100, 22, "ssh")
		l := h2.redeem(tok)
		var r token.Redemption
		json.Unmarshal(l.Payload, &r)
		r.Record = bytes.Replace(r.Record, []byte("mallory"), []byte("alice"), 1)
		l.Payload, _ = json.Marshal(r)
		l.Signature = ed25519.Sign(h2.key, fmt.Appendf(nil, "%s %d\n%s", l.Type, len(l.Payload), l.Payload))
		c := newCase(h2, tok)
		if err := c.Add(l); err != nil {
			t.Fatal(err)
		}
		if g := c.Judge(); g.Root.Status != Altered || len(g.Problems) == 0 {
			t.Errorf("%+v", g.Root)
		}
	})
	t.Run("a forged redemption", func(t *testing.T) {
		tok := h2.answers(us, 100, 22, "ssh")
		l := h2.redeem(tok)
		l.Payload = bytes.Replace(l.Payload, []byte("test"), []byte("best"), 1)
		c := newCase(h2, tok)
		if err := c.Add(l); err == nil {
			t.Error("it was taken")
		}
	})
	t.Run("itself before itself", func(t *testing.T) {
		a := record.Answer{Host: h2.addr, Ports: [2]uint16{1, 2}, Token: strings.Repeat("ab", 32)}
		tok := h2.answers(us, 100, 22, "ssh", a, a)
		c := newCase(h2, tok)
		c.Add(h2.redeem(tok))
		if got := outline(c.Judge().Root); got != "192.0.2.2 proven agrees=true;>192.0.2.2 token not redeemed agrees=false;>192.0.2.2 loop agrees=false;" {
			t.Error(got)
		}
	})
	t.Run("thousands of hosts and names that draw", func(t *testing.T) {
		var many []record.Answer
		for i := range 3000 {
			many = append(many, record.Answer{Host: h1.addr, Ports: [2]uint16{uint16(i), 1}, Ident: "x\n└─ 192.0.2.77: PROVEN \x1b[2J<script>"})
		}
		tok := h2.answers(us, 100, 22, "a\x1b[31m\nb</text>", many...)
		c := newCase(h2, tok)
		c.Add(h2.redeem(tok))
		g := c.Judge()
		if len(g.Root.Previous) > maxNodes || g.Root.Skipped != 3000-len(g.Root.Previous) {
			t.Errorf("%d nodes, %d skipped", len(g.Root.Previous), g.Root.Skipped)
		}
		var text, svg bytes.Buffer
		if err := g.Text(&text); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text.String(), "\x1b") || strings.Contains(text.String(), "\n└─ 192.0.2.77") {
			t.Error("a name draws outside its place")
		}
		if err := g.SVG(&svg); err != nil {
			t.Fatal(err)
		}
		if err := xml.Unmarshal(svg.Bytes(), new(struct{ XMLName xml.Name })); err != nil {
			t.Errorf("the drawing is not XML: %v", err)
		}
		var page bytes.Buffer
		if err := g.HTML(&page, c); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(svg.String()+page.String(), "<script") {
			t.Error("a name is markup")
		}
	})
}

func TestFirstAnswers(t *testing.T) {
	h := newMachine(t, "192.0.2.2")
	for _, c := range []struct {
		reply, failure string
		want           NodeStatus
	}{
		{"100,22:USERID:UNIX:root", "", Ident}, {"100,22:ERROR:NO-USER", "", Silent}, {"", "connection refused", Silent}, {"nonsense", "", Silent},
	} {
		k := newCase(h, "")
		k.Reply, k.Failure = c.reply, c.failure
		if n := k.Judge().Root; n.Status != c.want || n.Detail == "" {
			t.Errorf("%q %q: %+v", c.reply, c.failure, n)
		}
	}
}

func FuzzSignedRedemption(f *testing.F) {
	f.Add([]byte(`{"type":"dragnet-token-redemption/1","payload":"e30=","key":"","signature":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := token.ParseSignedRedemption(b)
		if err != nil {
			return
		}
		if _, err := l.Open(); err == nil {
			t.Fatal("a redemption verified that no host signed")
		}
	})
}

// TestPage checks that the page says what is left to do, and carries the case.
func TestPage(t *testing.T) {
	h2, h1 := newMachine(t, "192.0.2.2"), newMachine(t, "192.0.2.1")
	tok1 := h1.answers(h2.addr, 200, 300, "nc")
	tok2 := h2.answers(us, 100, 22, "ssh", record.Answer{Host: h1.addr, Ports: [2]uint16{200, 300}, Token: tok1},
		record.Answer{Host: netip.MustParseAddr("192.0.2.4"), Ports: [2]uint16{7, 8}, Failure: "connection refused"})
	c := newCase(h2, tok2)
	if err := c.Add(h2.redeem(tok2)); err != nil {
		t.Fatal(err)
	}
	g := c.Judge()
	var page bytes.Buffer
	if err := g.HTML(&page, c); err != nil {
		t.Fatal(err)
	}
	text := page.String()
	for _, want := range []string{"to redeem token " + tok1, "1 of 3 steps are proven", "<b>192.0.2.4</b>", "connection refused", "its daemon proves nothing", tok2} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(text, "src=") || strings.Contains(text, "http://") || strings.Contains(text, "https://") {
		t.Error("the page needs something else")
	}
	_, rest, ok := strings.Cut(text, "data:application/json;base64,")
	encoded, _, _ := strings.Cut(rest, "\"")
	// Attributes are escaped: base64's + is &#43;.
	b, err := base64.StdEncoding.DecodeString(html.UnescapeString(encoded))
	var again Case
	if err == nil {
		err = json.Unmarshal(b, &again)
	}
	if !ok || err != nil || outline(again.Judge().Root) != outline(g.Root) {
		t.Errorf("the case in the page: %v, %v", ok, err)
	}
}
