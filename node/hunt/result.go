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
	rows := cli.Rows{Header: []string{"host", "scope", "witnesses", "first_seen", "last_seen", "flows", "match"}, Document: r}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		rows.Items = append(rows.Items, h)
		rows.Cells = append(rows.Cells, []string{
			h.Addr.String(), h.Scope, strings.Join(h.Witnesses, " "), h.FirstSeen.String(), h.LastSeen.String(), fmt.Sprint(h.Flows), matchText(h, nil),
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
	hosts := cli.Rows{Header: []string{"host", "scope", "witnesses", "flows", "match"}}
	for i := range r.Hosts {
		h := &r.Hosts[i]
		scope := h.Scope
		if scope == "" {
			scope = "-"
		}
		hosts.Cells = append(hosts.Cells, []string{h.Addr.String(), scope, strings.Join(h.Witnesses, ","), fmt.Sprint(h.Flows), matchText(h, number)})
	}
	verb := "fit"
	if len(r.Hosts) == 1 {
		verb = "fits"
	}
	fmt.Fprintf(w, "%s %s the pattern, named by at least %s:\n", cli.Plural(len(r.Hosts), "host"), verb, cli.Plural(r.Quorum, "witness"))
	fmt.Fprintf(w, "  %s\n", r.Pattern)
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
	return cli.WriteRows(w, cli.Table, witnessRows(r))
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
