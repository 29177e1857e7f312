package chain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"

	"dragnet/trace/protocol"
	"dragnet/trace/record"
	"dragnet/trace/token"
)

// NodeStatus is what is known about one host of the chain.
type NodeStatus string

// The values of Status.
const (
	// Proven: the record hashes to the token the host gave when asked.
	Proven NodeStatus = "proven"
	// Altered: the host cannot show a record that hashes to its token.
	Altered NodeStatus = "altered"
	// Waiting: the host gave a token that has not been redeemed yet.
	Waiting NodeStatus = "token not redeemed"
	// Ident: the host answers plain ident, with a name only.
	Ident NodeStatus = "answers plain ident"
	// Silent: the host gave an error or no answer.
	Silent NodeStatus = "no identity"
	// Loop: the token is of a request that came round again.
	Loop NodeStatus = "loop"
)

// Node is one host of the chain, as one token sees it.
type Node struct {
	Host   netip.Addr `json:"host"`
	Status NodeStatus `json:"status"`
	// Said is who reports that this host gave this answer: "us" or a host. For
	// all but the first host it is a claim of that host, signed by it but not
	// bound to any token.
	Said  string `json:"said_by"`
	Token string `json:"token,omitempty"`
	// Detail is the error, the ident name, or what is wrong.
	Detail string `json:"detail,omitempty"`
	// Agrees says that this host's own record has the asker, the ports and
	// the session that the host after it says it used: two hosts confirm the
	// connection between them.
	Agrees bool `json:"agrees"`

	Name string `json:"name,omitempty"`
	// Key signed the redemption; KeyConfirmed says that the investigator got
	// the same key from the administrator.
	Key          string         `json:"key,omitempty"`
	KeyConfirmed bool           `json:"key_confirmed"`
	Redeemed     time.Time      `json:"redeemed,omitzero"`
	Record       *record.Record `json:"record,omitempty"`
	// Why is how the connection is related, and At the time asked about, where
	// the host after this one knew of it from its flight recorder.
	Why string    `json:"why,omitempty"`
	At  time.Time `json:"at,omitzero"`
	// Earlier is the token of the host that said it with which the answer is kept.
	Earlier string `json:"earlier,omitempty"`
	// Path leads from the process that owns the asked connection to the one
	// that owns the inbound connection by which this node's parent in the
	// drawing was reached; it belongs to the host after this one.
	Path []string `json:"path,omitempty"`
	// Pending says that answers of previous hosts have not arrived yet.
	Pending bool `json:"pending,omitempty"`
	// Skipped counts connections the host did not follow, beyond its limit.
	Skipped  int     `json:"skipped,omitempty"`
	Previous []*Node `json:"previous,omitempty"`
	// End says what was seen where nothing is before this node, and what may be
	// missing where something is; nil where the host's record does not say.
	End *record.End `json:"end,omitempty"`
}

// Graph is the result of judging a case.
type Graph struct {
	Asked   time.Time `json:"asked"`
	Request string    `json:"request"`
	Root    *Node     `json:"chain"`
	// Problems are all signs of changed or contradictory evidence.
	Problems []string `json:"problems,omitempty"`
}

// maxNodes bounds a drawing: hosts of a chain may be the attacker's, and claim
// thousands of hosts before them.
const maxNodes = 1000

// Judge checks every redemption of a case and joins them to a chain.
func (c *Case) Judge() Graph {
	j := judge{c: c, redemptions: map[string]token.SignedRedemption{}, seen: map[string]bool{}}
	for _, l := range c.Redemptions {
		if r, err := l.Open(); err == nil || errors.Is(err, token.ErrAltered) {
			j.redemptions[r.Token] = l
		} else {
			j.addProblem("a signed redemption does not verify: %v", err)
		}
	}
	for _, l := range c.Contradicted {
		r, err := l.Open()
		if err == nil {
			err = errors.New(r.Problem)
		}
		j.addProblem("%s can no longer show the record of token %s, which an earlier redemption proves: %v", r.Host, r.Token, err)
	}
	q, _ := protocol.ParseRequest(c.Request)
	expect := expectation{asked: uint16(q.Asked), asking: uint16(q.Asking), kind: q.Kind, session: q.Session}
	first := record.Answer{Host: c.Host.Addr(), Failure: c.Failure}
	if r, err := protocol.ParseReply(c.Reply); err == nil {
		first = answerOf(c.Host.Addr(), r)
	} else if c.Failure == "" {
		first.Failure = err.Error()
	}
	return Graph{Asked: c.Asked, Request: c.Request, Root: j.judgeAnswer(first, "us", expect, nil), Problems: j.problems}
}

func answerOf(host netip.Addr, r protocol.Reply) record.Answer {
	a := record.Answer{Host: host}
	if t, ok := r.Token(); ok {
		a.Token = t
	} else if r.Error != "" {
		a.Failure = r.Error
	} else {
		a.Ident = r.User
	}
	return a
}

// expectation is what a host's own record must say about the request.
type expectation struct {
	asker         netip.Addr // the zero Addr for the first request: ours
	asked, asking uint16
	kind          protocol.Kind
	session       uint32
}

func (e expectation) isMet(r *record.Record) bool {
	return r.Local.Port() == e.asked && r.Remote.Port() == e.asking && r.Kind == e.kind.String() &&
		(!e.asker.IsValid() || r.Asker == e.asker) && (!e.kind.Recursive() || r.Session != nil && *r.Session == e.session)
}

type judge struct {
	c           *Case
	redemptions map[string]token.SignedRedemption
	seen        map[string]bool // tokens that have a node
	nodes       int
	problems    []string
}

func (j *judge) addProblem(format string, args ...any) {
	j.problems = append(j.problems, fmt.Sprintf(format, args...))
}

// judgeAnswer judges one answer and what was before it, and grades its end.
func (j *judge) judgeAnswer(a record.Answer, said string, expect expectation, path []string) *Node {
	n := j.followAnswer(a, said, expect, path)
	n.gradeEnd(expect.kind)
	return n
}

// gradeEnd says what ends the chain at a node, where its record does not.
func (n *Node) gradeEnd(kind protocol.Kind) {
	cut := func(what record.Obstacle, detail string) {
		n.End = &record.End{Grade: record.Cut, Unseen: []record.Unseen{{What: what, Detail: detail}}}
	}
	switch {
	case n.Status == Waiting:
		cut(record.NotRedeemed, n.Detail)
	case n.Status == Silent, n.Status == Ident, n.Status == Altered:
		cut(record.HostSilent, string(n.Status))
	case n.Status == Loop || n.Pending || n.Record == nil:
	case n.Record.End != nil:
		end := *n.Record.End
		n.End = &end
	case n.Record.Outcome != "":
		cut(record.HostSilent, n.Record.Outcome)
	case kind.Recursive() && len(n.Previous) == 0:
		cut(record.Nothing, "its daemon does not say what it could not see")
	}
	if n.Skipped > 0 && n.End != nil {
		end := *n.End
		end.Unseen = append(slices.Clone(end.Unseen), record.Unseen{What: record.Bound, Detail: fmt.Sprintf("%d more connections were not followed", n.Skipped)})
		n.End = &end
	}
}

// followAnswer judges one answer and what was before it. A token that occurs
// twice is not followed again.
func (j *judge) followAnswer(a record.Answer, said string, expect expectation, path []string) *Node {
	j.nodes++
	n := &Node{Host: a.Host, Said: said, Token: a.Token, Path: path, Why: a.Why, At: a.At}
	switch {
	case a.Earlier != "":
		return j.followEarlier(n, a, expect)
	case a.Token == "" && a.Ident != "":
		n.Status, n.Detail = Ident, a.Ident
		return n
	case a.Token == "":
		n.Status, n.Detail = Silent, a.Failure
		return n
	case j.seen[a.Token]:
		n.Status, n.Detail = Loop, "this token is in the chain already"
		return n
	}
	j.seen[a.Token] = true
	l, ok := j.redemptions[a.Token]
	if !ok {
		n.Status, n.Detail = Waiting, j.c.Refused[a.Token]
		return n
	}
	r, err := l.Open()
	n.Name, n.Redeemed, n.Key = r.Host, r.Redeemed, token.FormatKey(l.Key)
	confirmed, known := j.c.Keys[a.Host]
	n.KeyConfirmed = known && confirmed == n.Key
	if known && !n.KeyConfirmed {
		j.addProblem("the redemption of %v is signed by key %s, not by the one its administrator gave", a.Host, n.Key)
	}
	switch {
	case err != nil:
		n.Status, n.Detail = Altered, err.Error()
	case r.Record == nil:
		n.Status, n.Detail = Altered, r.Problem
	default:
		j.judgeRecord(n, r, expect)
	}
	if n.Status == Altered {
		j.addProblem("%v, token %s: %s", a.Host, a.Token, n.Detail)
	}
	return n
}

// followEarlier follows an answer that is kept with an earlier token of the host
// that said so: each connection is asked about once in a session.
func (j *judge) followEarlier(n *Node, a record.Answer, expect expectation) *Node {
	l, ok := j.redemptions[a.Earlier]
	if !ok {
		n.Status, n.Earlier, n.Detail = Waiting, a.Earlier, j.c.Refused[a.Earlier]
		return n
	}
	n.Status, n.Detail = Loop, "asked before in this session, for token "+a.Earlier
	r, err := l.Open()
	if err != nil {
		return n
	}
	for _, body := range r.Previous {
		p, err := record.ParsePrevious(body)
		if err != nil || p.Token != a.Earlier {
			continue
		}
		for _, other := range p.Answers {
			if other.Host == a.Host && other.Ports == a.Ports && other.Earlier == "" && !j.seen[other.Token] {
				return j.followAnswer(other, n.Said, expect, n.Path)
			}
		}
	}
	return n
}

// judgeRecord fills in a redeemed record and continues with the hosts before.
func (j *judge) judgeRecord(n *Node, r token.Redemption, expect expectation) {
	rec, err := record.Parse(r.Record)
	if err != nil {
		n.Status, n.Detail = Altered, err.Error()
		return
	}
	n.Status, n.Record, n.Agrees = Proven, &rec, expect.isMet(&rec)
	if r.Problem != "" {
		j.addProblem("%v, token %s: %s", n.Host, n.Token, r.Problem)
	}
	if !n.Agrees {
		j.addProblem("%v has a record of a request other than the one %s says it made", n.Host, n.Said)
	}
	if rec.Outcome == "loop" {
		n.Status, n.Detail = Loop, "the request came round again; it was first given token "+rec.First
		return
	}
	n.Detail = rec.Outcome
	n.Pending = expect.kind.Recursive() && rec.Outcome == "" && len(r.Previous) == 0 && r.Problem == ""
	for _, body := range r.Previous {
		p, err := record.ParsePrevious(body)
		if err != nil || p.Token != n.Token {
			j.addProblem("%v: answers of previous hosts cannot be read: %v", n.Host, err)
			continue
		}
		n.Skipped += p.Skipped
		for _, a := range p.Answers {
			if j.nodes >= maxNodes {
				n.Skipped++
				continue
			}
			next := expectation{asker: addressToward(&rec, a), asked: a.Ports[0], asking: a.Ports[1], kind: expect.kind, session: p.Session}
			n.Previous = append(n.Previous, j.judgeAnswer(a, n.Host.String(), next, pathTo(&rec, a)))
		}
	}
}

// findSocket reports whether a process has the connection an answer is about.
func findSocket(p *record.ProcessRecord, a record.Answer) (record.SocketRecord, bool) {
	for _, s := range p.Sockets {
		if s.Remote.Addr() == a.Host && s.Remote.Port() == a.Ports[0] && s.Local.Port() == a.Ports[1] {
			return s, true
		}
	}
	return record.SocketRecord{}, false
}

// addressToward is the address a host used on the connection it asked about;
// the zero Addr where its record does not list sockets.
func addressToward(r *record.Record, a record.Answer) netip.Addr {
	for i := range r.Processes {
		if s, ok := findSocket(&r.Processes[i], a); ok {
			return s.Local.Addr()
		}
	}
	return netip.Addr{}
}

// pathTo is the path of the walk from the owner of the asked connection to the
// process that has the inbound connection.
func pathTo(r *record.Record, a record.Answer) []string {
	byPID := map[int32]*record.ProcessRecord{}
	var at *record.ProcessRecord
	for i := range r.Processes {
		p := &r.Processes[i]
		byPID[p.PID] = p
		if _, ok := findSocket(p, a); ok && at == nil {
			at = p
		}
	}
	var path []string
	for ; at != nil && len(path) < len(r.Processes); at = byPID[at.From] {
		step := fmt.Sprintf("%s[%d]", cleanName(at.Name), at.PID)
		if at.From != 0 {
			step = "<" + at.Via + "> " + step
		}
		path = append([]string{step}, path...)
	}
	return path
}

// Pending lists the tokens that can still be redeemed, by host to call: those
// without a redemption, and those whose previous hosts had not answered.
func (g *Graph) Pending() map[netip.Addr][]string {
	out := map[netip.Addr][]string{}
	var visit func(*Node)
	visit = func(n *Node) {
		if host, err := netip.ParseAddr(n.Said); err == nil && n.Earlier != "" {
			out[host] = append(out[host], n.Earlier)
		}
		if n.Token != "" && (n.Status == Waiting || n.Pending) {
			out[n.Host] = append(out[n.Host], n.Token)
		}
		for _, p := range n.Previous {
			visit(p)
		}
	}
	visit(g.Root)
	return out
}

// cleanName keeps a hostile process or user name from disturbing the drawing.
func cleanName(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if r := []rune(s); len(r) > 200 {
		s = string(r[:197]) + "..."
	}
	return s
}
