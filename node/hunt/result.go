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
	rows := cli.Rows{Header: []string{"host", "scope", "witnesses", "first_seen", "last_seen", "flows", "match", "believed"}, Document: r}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		rows.Items = append(rows.Items, h)
		rows.Cells = append(rows.Cells, []string{
			h.Addr.String(), h.Scope, strings.Join(h.Witnesses, " "), h.FirstSeen.String(), h.LastSeen.String(), fmt.Sprint(h.Flows), matchText(h, nil), string(h.Believed),
		})
	}
	return cli.WriteRows(w, f, rows)
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
	hosts := cli.Rows{Header: []string{"host", "scope", "witnesses", "flows", "match"}}
	if own > 0 {
		hosts.Header = append(hosts.Header, "believed")
	}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		scope := h.Scope
		if scope == "" {
			scope = "-"
		}
		cells := []string{h.Addr.String(), scope, strings.Join(h.Witnesses, ","), fmt.Sprint(h.Flows), matchText(h, number), string(h.Believed)}
		hosts.Cells = append(hosts.Cells, cells[:len(hosts.Header)])
	}
	fmt.Fprintf(w, "%s:\n  %s\n", headline(r, own), r.Pattern)
	if len(r.Hosts) > 0 {
		fmt.Fprintln(w)
		if err := cli.WriteRows(w, cli.Table, hosts); err != nil {
			return err
		}
		fmt.Fprintln(w)
		for _, text := range slices.SortedFunc(maps.Keys(number), func(a, b string) int { return number[a] - number[b] }) {
			fmt.Fprintf(w, "clue %d: %s\n", number[text], text)
		}
	}
	fmt.Fprintln(w, "\nWhat the witnesses could see:")
	if err := cli.WriteRows(w, cli.Table, witnessRows(r)); err != nil {
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

func witnessRows(r *detective.Result) cli.Rows {
	rows := cli.Rows{Header: []string{"witness", "flows", "from", "to", "sampling", "skipped", "answers", "opened", "collisions", "refused"}}
	for _, w := range r.Witnesses {
		span := [2]string{"-", "-"}
		if w.From != nil {
			span = [2]string{formatSecond(*w.From), formatSecond(*w.To)}
		}
		sampling, refused := "unknown", "-"
		switch {
		case w.Sampling == 1:
			sampling = "none"
		case w.Sampling > 1:
			sampling = fmt.Sprintf("1 in %d", w.Sampling)
		}
		if w.Refused != "" {
			refused = w.Refused
		}
		rows.Cells = append(rows.Cells, []string{
			w.Name, fmt.Sprint(w.Flows), span[0], span[1], sampling, fmt.Sprint(w.Skipped),
			fmt.Sprint(w.Answers), fmt.Sprint(w.Opened), fmt.Sprint(w.Collisions), refused,
		})
	}
	return rows
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
