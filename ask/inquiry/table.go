package inquiry

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gaissmai/bart"
)

// Table is the operator's view of Internet routing: which AS a prefix
// belongs to and which ASes are neighbours. It is read from text whose lines
// are "PREFIX AS" or "PREFIX LENGTH AS" (as CAIDA's pfx2as files), or
// "AS|AS|..." (as CAIDA's AS relationships); # starts a comment.
type Table struct {
	origin     bart.Table[uint32]
	neighbours map[uint32][]uint32
}

// Bounds of a table: today's Internet has about a million prefixes and half a
// million links.
const (
	maxLines = 8 << 20
	maxLine  = 1 << 10
)

// ReadTable reads a table; an error names the line.
func ReadTable(r io.Reader) (*Table, error) {
	t := &Table{neighbours: map[uint32][]uint32{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 4096), maxLine)
	n := 0
	for lines.Scan() {
		n++
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		if n > maxLines {
			return nil, fmt.Errorf("line %d: a table has at most %d lines", n, maxLines)
		}
		if err := t.parseLine(text); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("line %d: %w", n+1, err)
	}
	return t, nil
}

func (t *Table) parseLine(text string) error {
	if strings.Contains(text, "|") {
		parts := strings.Split(text, "|")
		a, err := parseAS(parts[0])
		if err != nil {
			return err
		}
		b, err := parseAS(parts[1])
		if err != nil {
			return err
		}
		t.neighbours[a] = append(t.neighbours[a], b)
		t.neighbours[b] = append(t.neighbours[b], a)
		return nil
	}
	fields := strings.Fields(text)
	if len(fields) == 3 {
		fields = []string{fields[0] + "/" + fields[1], fields[2]}
	}
	if len(fields) != 2 {
		return errors.New("want PREFIX AS, or AS|AS")
	}
	p, err := netip.ParsePrefix(fields[0])
	if err != nil {
		return err
	}
	// Of several origins ("64500_64501", "{64500,64501}") the first counts.
	first, _, _ := strings.Cut(strings.Trim(fields[1], "{}"), "_")
	first, _, _ = strings.Cut(first, ",")
	as, err := parseAS(first)
	if err != nil {
		return err
	}
	t.origin.Insert(p.Masked(), as)
	return nil
}

func parseAS(s string) (uint32, error) {
	n, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(s), "AS"), 10, 32)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%.40q is not an AS number", s)
	}
	return uint32(n), nil
}

// Origin is the AS of an address.
func (t *Table) Origin(a netip.Addr) (uint32, bool) { return t.origin.Lookup(a) }

// Distances are the numbers of links from an AS to all that can be reached.
func (t *Table) Distances(from uint32) map[uint32]int {
	distance := map[uint32]int{from: 0}
	for queue := []uint32{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range t.neighbours[queue[0]] {
			if _, seen := distance[next]; !seen {
				distance[next] = distance[queue[0]] + 1
				queue = append(queue, next)
			}
		}
	}
	return distance
}
