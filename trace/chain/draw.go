package chain

import (
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"dragnet/trace/record"
)

// describe describes a node, the first line being the most important one.
func (n *Node) describe() []string {
	head := n.Host.String()
	if n.Name != "" {
		head += " (" + cleanName(n.Name) + ")"
	}
	head += ": " + strings.ToUpper(string(n.Status))
	if n.Detail != "" {
		head += fmt.Sprintf(" %q", cleanName(n.Detail))
	}
	out := []string{head}
	if len(n.Path) > 0 {
		out = append(out, "reached from "+n.Said+" by "+strings.Join(n.Path, " "))
	}
	if n.Why != "" {
		out = append(out, fmt.Sprintf("%s recorded: %s (open at %s)", n.Said, n.Why, n.At.Format(time.RFC3339)))
	}
	if r := n.Record; r != nil && !r.Ended.IsZero() {
		out = append(out, "recorded while it was open, until "+r.Ended.Format(time.RFC3339))
	}
	if r := n.Record; r != nil && r.UID != nil {
		out = append(out, fmt.Sprintf("user %s (%d), %v -> %v, %d processes", cleanName(r.User), *r.UID, r.Local, r.Remote, len(r.Processes)))
		for _, l := range r.Logins {
			out = append(out, fmt.Sprintf("logged in: %s on %s from %q since %s", cleanName(l.User), cleanName(l.Line), cleanName(l.Host), l.Time.Format(time.RFC3339)))
		}
	}
	return append(out, n.describeEvidence())
}

// describeEvidence says who stated what the node shows.
func (n *Node) describeEvidence() string {
	given := "the answer is stated by " + n.Said
	if n.Said == "us" {
		given = "the answer was given to us"
	}
	switch n.Status {
	case Proven, Loop:
		if n.Key == "" {
			return given
		}
		key := "key not confirmed by its administrator"
		if n.KeyConfirmed {
			key = "key confirmed"
		}
		agrees := "; BUT its request differs from what " + n.Said + " says"
		if n.Agrees && n.Said != "us" {
			agrees = "; both agree on the connection"
		} else if n.Agrees {
			agrees = "; the request is ours"
		}
		return fmt.Sprintf("%s; record matches token %s, signed by %s (%s)%s", given, n.Token[:12], n.Key[:8], key, agrees)
	case Altered:
		return given + "; the host cannot show a record that matches its token: do not trust it further"
	case Waiting:
		if n.Earlier != "" {
			return fmt.Sprintf("%s; ask the administrator of %s to redeem token %s, with which the answer is kept", given, n.Said, n.Earlier)
		}
		return fmt.Sprintf("%s; ask its administrator to redeem token %s", given, n.Token)
	}
	return given + "; nothing proves it, and the evidence ends here"
}

// describeRest lists what is not drawn as a node.
func (n *Node) describeRest() []string {
	var out []string
	if n.Pending {
		out = append(out, "(answers of previous hosts are not stored yet: redeem again)")
	}
	out = append(out, n.describeEnd()...)
	if n.Skipped > 0 && n.End == nil {
		out = append(out, fmt.Sprintf("(%d more connections were not followed)", n.Skipped))
	}
	return out
}

// maxDrawn bounds the obstacles that are drawn for one node; JSON has all.
const maxDrawn = 8

// describeEnd says why nothing is before a node, or what may be missing.
func (n *Node) describeEnd() []string {
	if n.End == nil {
		return nil
	}
	unseen := n.End.Unseen
	var head string
	switch {
	case n.End.Grade == record.OriginSeen:
		return []string{"(ORIGIN SEEN: " + cleanName(n.End.Origin) + ")"}
	case n.End.Grade == record.Cut && (n.Status == Proven || n.Status == Loop):
		head = "CUT, the chain may go on"
	case n.End.Grade == record.Cut:
		return nil // the status says it
	default:
		unseen = slices.DeleteFunc(slices.Clone(unseen), func(u record.Unseen) bool { return !u.HidesInbound() })
		head = "more may be before this host"
	}
	var out []string
	for i, u := range unseen {
		if i == maxDrawn {
			out = append(out, fmt.Sprintf("(and %d more: see -o json)", len(unseen)-i+n.End.More))
			break
		}
		out = append(out, "("+head+": "+cleanName(u.String())+")")
	}
	return out
}

// Text draws the chain as a tree, from the asked host back.
func (g *Graph) Text(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "asked %s at %s: %s\n", g.Root.Host, g.Asked.Format(time.RFC3339), g.Request)
	g.Root.writeText(&b, "", "")
	for _, p := range g.Problems {
		fmt.Fprintf(&b, "PROBLEM: %s\n", cleanName(p))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (n *Node) writeText(b *strings.Builder, first, rest string) {
	for i, line := range n.describe() {
		if i == 0 {
			fmt.Fprintf(b, "%s%s\n", first, line)
			continue
		}
		bar := "   "
		if len(n.Previous) > 0 {
			bar = "│  "
		}
		fmt.Fprintf(b, "%s%s%s\n", rest, bar, line)
	}
	for i, p := range n.Previous {
		if i == len(n.Previous)-1 {
			p.writeText(b, rest+"└─ ", rest+"   ")
		} else {
			p.writeText(b, rest+"├─ ", rest+"│  ")
		}
	}
	for _, line := range n.describeRest() {
		fmt.Fprintf(b, "%s   %s\n", rest, line)
	}
}

// colours accompany the words and never replace them.
var colours = map[NodeStatus]string{
	Proven: "#d8f0d8", Altered: "#f6c8c8", Waiting: "#f7eecb", Ident: "#dde6f5", Silent: "#e8e8e8", Loop: "#ecdcf2",
}

// Sizes of the drawing in pixels.
const (
	boxWidth, lineHeight, padding, gapX, gapY = 620, 16, 8, 60, 18
)

// SVG draws the chain from left (the asked host) to right (hosts before).
func (g *Graph) SVG(w io.Writer) error {
	d := svg{}
	height := d.drawNode(g.Root, 0, 0)
	width := (d.depth+1)*(boxWidth+gapX) + gapX
	var out strings.Builder
	fmt.Fprintf(&out, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" font-family="sans-serif" font-size="12">`+"\n", width, height+2*gapY+lineHeight)
	fmt.Fprintf(&out, `<text x="%d" y="%d">%s</text>`+"\n", gapX/2, lineHeight, escapeXML("asked at "+g.Asked.Format(time.RFC3339)+": "+g.Request))
	fmt.Fprintf(&out, `<g transform="translate(%d,%d)">`+"\n%s</g>\n</svg>\n", gapX/2, lineHeight+gapY, d.body.String())
	_, err := io.WriteString(w, out.String())
	return err
}

type svg struct {
	body  strings.Builder
	depth int
}

// drawNode draws a node and those before it below y, and returns where the next
// one can go.
func (d *svg) drawNode(n *Node, depth, y int) int {
	d.depth = max(d.depth, depth)
	x := depth * (boxWidth + gapX)
	lines := append(n.describe(), n.describeRest()...)
	h := len(lines)*lineHeight + 2*padding
	fmt.Fprintf(&d.body, `<rect x="%d" y="%d" width="%d" height="%d" rx="4" fill="%s" stroke="#444"/>`+"\n", x, y, boxWidth, h, colours[n.Status])
	for i, line := range lines {
		weight := ""
		if i == 0 {
			weight = ` font-weight="bold"`
		}
		fmt.Fprintf(&d.body, `<text x="%d" y="%d" textLength="%d" lengthAdjust="spacingAndGlyphs"%s>%s</text>`+"\n",
			x+padding, y+padding+(i+1)*lineHeight-4, min(boxWidth-2*padding, 6*len([]rune(line))), weight, escapeXML(line))
	}
	next := y + h + gapY
	below := y
	for _, p := range n.Previous {
		fmt.Fprintf(&d.body, `<path d="M%d %d H%d V%d H%d" fill="none" stroke="#444"/>`+"\n",
			x+boxWidth, y+h/2, x+boxWidth+gapX/2, below+lineHeight, x+boxWidth+gapX)
		below = d.drawNode(p, depth+1, below)
	}
	return max(next, below)
}

func escapeXML(s string) string {
	var b strings.Builder
	xml.EscapeText(&b, []byte(s)) // a strings.Builder never fails
	return b.String()
}
