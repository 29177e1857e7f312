package hunt

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"dragnet/ask/detective"
	"dragnet/flow"
	"dragnet/internal/cli"
)

// WriteResult prints what a hunt or an inquiry found; the table format is a report
// for people.
func WriteResult(w io.Writer, f cli.Format, r *detective.Result) error {
	if f == cli.Table {
		return writeReport(w, r)
	}
	return cli.WriteRows(w, f, cli.Rows[detective.Match]{Items: r.Hosts, Document: r})
}

// writeReport is the table meant for people: the group, then what the
// witnesses could see, without which an empty group means nothing.
func writeReport(w io.Writer, r *detective.Result) error {
	number := map[string]int{}
	for _, q := range r.Questions {
		if number[q.Clue] == 0 {
			number[q.Clue] = len(number) + 1
		}
	}
	own := countOwnWord(r)
	header, cells := []string{"host", "scope", "witnesses", "flows", "match"}, [][]string{}
	if own > 0 {
		header = append(header, "believed")
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		scope := h.Scope
		if scope == "" {
			scope = "-"
		}
		row := []string{h.Addr.String(), scope, strings.Join(h.Witnesses, ","), fmt.Sprint(h.Flows), matchText(h, number), string(h.Believed)}
		cells = append(cells, row[:len(header)])
	}
	fmt.Fprintf(w, "%s:\n  %s\n", headline(r, own), r.Pattern)
	if len(r.Hosts) > 0 {
		fmt.Fprintln(w)
		if err := cli.WriteTable(w, header, cells); err != nil {
			return err
		}
		fmt.Fprintln(w)
		for _, text := range slices.SortedFunc(maps.Keys(number), func(a, b string) int { return number[a] - number[b] }) {
			fmt.Fprintf(w, "clue %d: %s\n", number[text], text)
		}
	}
	fmt.Fprintln(w, "\nWhat the witnesses could see:")
	if err := writeWitnesses(w, r); err != nil {
		return err
	}
	writeSampling(w, r)
	return nil
}

// writeSampling says of each witness with flows of sampled packets what therefore
// need not be in the answer.
func writeSampling(w io.Writer, r *detective.Result) {
	for _, t := range r.Witnesses {
		if t.Sampling > 1 {
			fmt.Fprintf(w, "\n%s holds flows of sampled packets, 1 in %d at the coarsest. Hosts of which only a sampling source could tell may be missing;\nsuch a source never gives a failed attempt, since a packet that was not picked proves nothing.\n", t.Name, t.Sampling)
		}
	}
}

// countOwnWord counts the hosts that are believed by a witness's own word.
func countOwnWord(r *detective.Result) (n int) {
	for i := range r.Hosts {
		if r.Hosts[i].Believed == detective.ByOwnWord {
			n++
		}
	}
	return n
}

// headline says how many hosts fit, and why they are believed: own of them by a
// witness's own word.
func headline(r *detective.Result, own int) string {
	verb := "fit"
	if len(r.Hosts) == 1 {
		verb = "fits"
	}
	fits := fmt.Sprintf("%s %s the pattern", cli.Plural(len(r.Hosts), "host"), verb)
	quorum := "named by at least " + cli.Plural(r.Quorum, "witness")
	switch {
	case own == 0:
		return fits + ", " + quorum
	case own == len(r.Hosts):
		return fits + ", named by a witness of its own network"
	}
	return fmt.Sprintf("%s, %d %s, %d by a witness of the host's own network", fits, len(r.Hosts)-own, quorum, own)
}

func writeWitnesses(w io.Writer, r *detective.Result) error {
	var rows [][]string
	for _, t := range r.Witnesses {
		span := [2]string{"-", "-"}
		if t.From != nil {
			span = [2]string{formatSecond(*t.From), formatSecond(*t.To)}
		}
		sampling, refused := "unknown", "-"
		switch {
		case t.Sampling == 1:
			sampling = "none"
		case t.Sampling > 1:
			sampling = fmt.Sprintf("1 in %d", t.Sampling)
		}
		if t.Refused != "" {
			refused = t.Refused
		}
		rows = append(rows, []string{
			t.Name, fmt.Sprint(t.Flows), span[0], span[1], sampling, fmt.Sprint(t.Skipped),
			fmt.Sprint(t.Answers), fmt.Sprint(t.Opened), fmt.Sprint(t.Collisions), refused,
		})
	}
	return cli.WriteTable(w, []string{"witness", "flows", "from", "to", "sampling", "skipped", "answers", "opened", "collisions", "refused"}, rows)
}

func formatSecond(t flow.Time) string { return t.Time().Format(time.RFC3339) }

// matchText lists the events of a host's match, each after the number of its clue,
// or after the clue itself if there are no numbers.
func matchText(h *detective.Match, number map[string]int) string {
	var parts []string
	for _, c := range h.Clues {
		label := c.Clue
		if number != nil {
			label = fmt.Sprint(number[c.Clue])
		}
		parts = append(parts, fmt.Sprintf("%s: %s %s", label, c.Time.Time().Format("2006-01-02T15:04:05.000Z07:00"), c.State))
	}
	return strings.Join(parts, "  ")
}
