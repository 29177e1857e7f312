package chain

import (
	_ "embed" // the page
	"encoding/base64"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"dragnet/trace/record"
	"dragnet/trace/token"
)

//go:embed page.html
var pageText string

var pageTemplate = template.Must(template.New("page").Parse(pageText))

// page is what the page shows, each text cleaned of control characters.
type page struct {
	Host, Asked, Request, Ports string
	Proven                      int
	Begin, Finish               string
	Problems                    []string
	Lanes                       []lane
	Next                        []nextQuestion
	Redemptions                 []collected
	Case                        template.URL
}

// lane is one host of the chain.
type lane struct {
	Host, Name, Status, Class, Step, Times string
	Indent                                 int
	Facts, End                             []string
	Bar                                    bool
	Left, Width                            float64
	Processes                              []shownProcess
	started, ended                         time.Time
}

type shownProcess struct {
	Name, Via, Started, Command string
	PID                         int32
	UID                         uint32
}

type nextQuestion struct{ Host, What string }

type collected struct {
	Host, Token, Redeemed, For, Key string
	Confirmed                       bool
}

// HTML writes a page that needs nothing else: the chain as lanes by host, whom to
// ask next, the signed redemptions, and the case itself for others to check.
func (g *Graph) HTML(w io.Writer, c *Case) error {
	p := page{Host: g.Root.Host.String(), Asked: stamp(g.Asked), Request: g.Request}
	p.Ports, _, _ = strings.Cut(g.Request, ":")
	for _, problem := range g.Problems {
		p.Problems = append(p.Problems, cleanName(problem))
	}
	p.addLanes(g.Root, 0)
	p.placeTimes()
	p.addNext(g)
	if err := p.addRedemptions(c); err != nil {
		return err
	}
	if err := pageTemplate.Execute(w, p); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// maxIndent keeps long chains on the page.
const maxIndent = 12

func (p *page) addLanes(n *Node, depth int) {
	facts := n.describe()[1:]
	if len(n.Path) > 0 {
		facts = facts[1:]
	}
	l := lane{
		Host: n.Host.String(), Name: cleanName(n.Name), Status: string(n.Status), Class: classOf(n.Status), Indent: min(depth, maxIndent),
		Step: cleanName(strings.Join(n.Path, " ")), Facts: facts, End: n.describeRest(),
	}
	if n.Detail != "" {
		l.Facts = append([]string{cleanName(n.Detail)}, l.Facts...)
	}
	if n.Status == Proven {
		p.Proven++
	}
	if r := n.Record; r != nil {
		l.started, l.ended = r.Started, r.Ended
		for i := range r.Processes {
			l.Processes = append(l.Processes, shown(&r.Processes[i]))
		}
	}
	p.Lanes = append(p.Lanes, l)
	for _, before := range n.Previous {
		p.addLanes(before, depth+1)
	}
}

func classOf(s NodeStatus) string {
	switch s {
	case Proven:
		return "proven"
	case Altered:
		return "altered"
	case Waiting:
		return "waiting"
	case Ident:
		return "ident"
	case Loop:
		return "loop"
	}
	return "silent"
}

func shown(q *record.ProcessRecord) shownProcess {
	via := cleanName(q.Via)
	if q.From != 0 {
		via = fmt.Sprintf("%s, of %d", via, q.From)
	}
	command := strings.Join(q.Arguments, " ")
	if command == "" {
		command = q.Executable
	}
	return shownProcess{Name: cleanName(q.Name), PID: q.PID, Via: via, UID: q.UID, Started: stamp(q.Started), Command: cleanName(command)}
}

// placeTimes draws when each recorded connection was open on one scale.
func (p *page) placeTimes() {
	var from, to time.Time
	for _, l := range p.Lanes {
		if l.started.IsZero() || l.ended.IsZero() {
			continue
		}
		if from.IsZero() || l.started.Before(from) {
			from = l.started
		}
		if l.ended.After(to) {
			to = l.ended
		}
	}
	whole := to.Sub(from).Seconds()
	if whole <= 0 {
		return
	}
	p.Begin, p.Finish = stamp(from), stamp(to)
	for i := range p.Lanes {
		l := &p.Lanes[i]
		if l.started.IsZero() || l.ended.IsZero() || l.ended.Before(l.started) {
			continue
		}
		l.Bar, l.Times = true, stamp(l.started)+" to "+stamp(l.ended)
		l.Left, l.Width = 100*l.started.Sub(from).Seconds()/whole, 100*l.ended.Sub(l.started).Seconds()/whole
	}
}

// addNext says what is left to ask.
func (p *page) addNext(g *Graph) {
	pending := g.Pending()
	for _, host := range slices.SortedFunc(maps.Keys(pending), netip.Addr.Compare) {
		p.Next = append(p.Next, nextQuestion{host.String(), "to redeem token " + strings.Join(pending[host], ", ")})
	}
	var visit func(*Node)
	visit = func(n *Node) {
		switch {
		case n.Status == Silent || n.Status == Ident:
			p.Next = append(p.Next, nextQuestion{n.Host.String(), fmt.Sprintf("what its logs say about the connection to %s at that time: its daemon proves nothing", n.Said)})
		case n.Status == Altered:
			p.Next = append(p.Next, nextQuestion{n.Host.String(), "how its record was changed; do not trust what else it says"})
		case n.Status == Proven && len(n.Previous) == 0 && n.End != nil && n.End.Grade == record.Cut:
			p.Next = append(p.Next, nextQuestion{n.Host.String(), "what may be before it: " + strings.Join(n.describeEnd(), " ")})
		}
		for _, before := range n.Previous {
			visit(before)
		}
	}
	visit(g.Root)
}

func (p *page) addRedemptions(c *Case) error {
	for _, l := range c.Redemptions {
		r, err := l.Open()
		if err != nil {
			continue // it is among the problems
		}
		key := token.FormatKey(l.Key)
		p.Redemptions = append(p.Redemptions, collected{
			Host: cleanName(r.Host), Token: r.Token, Redeemed: stamp(r.Redeemed), For: cleanName(r.For), Key: key,
			Confirmed: slices.Contains(slices.Collect(maps.Values(c.Keys)), key),
		})
	}
	b, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("add case to the page: %w", err)
	}
	p.Case = template.URL("data:application/json;base64," + base64.StdEncoding.EncodeToString(b)) // base64 of our own
	return nil
}
