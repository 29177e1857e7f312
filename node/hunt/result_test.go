package hunt

import (
	"net/netip"
	"strings"
	"testing"

	"dragnet/ask/detective"
	"dragnet/flow"
	"dragnet/internal/cli"
)

// TestReportSaysWhyHostsAreBelieved: the headline and the rows never say that a
// quorum named a host which one witness named.
func TestReportSaysWhyHostsAreBelieved(t *testing.T) {
	host := func(addr string, why detective.Reason) detective.Match {
		return detective.Match{Host: flow.Host{Addr: netip.MustParseAddr(addr)}, Witnesses: []string{"a"}, Believed: why}
	}
	quorum, own := host("198.51.100.7", detective.ByQuorum), host("192.0.2.3", detective.ByOwnWord)
	for _, test := range []struct {
		hosts    []detective.Match
		headline string
		column   bool
	}{
		{nil, "0 hosts fit the pattern, named by at least 2 witnesses:\n", false},
		{[]detective.Match{quorum}, "1 host fits the pattern, named by at least 2 witnesses:\n", false},
		{[]detective.Match{own}, "1 host fits the pattern, named by a witness of its own network:\n", true},
		{[]detective.Match{own, quorum}, "2 hosts fit the pattern, 1 named by at least 2 witnesses, 1 by a witness of the host's own network:\n", true},
	} {
		var table, csv, document strings.Builder
		r := &detective.Result{Quorum: 2, Hosts: test.hosts}
		for format, out := range map[cli.Format]*strings.Builder{cli.Table: &table, cli.CSV: &csv, cli.JSON: &document} {
			if err := WriteResult(out, format, r); err != nil {
				t.Fatal(err)
			}
		}
		if got := table.String(); !strings.HasPrefix(got, test.headline) || strings.Contains(got, "BELIEVED") != test.column {
			t.Errorf("want %q and column %v, got:\n%s", test.headline, test.column, got)
		}
		for _, h := range test.hosts {
			if test.column && !strings.Contains(table.String(), string(h.Believed)) {
				t.Errorf("the table does not say %s:\n%s", h.Believed, &table)
			}
			if !strings.Contains(csv.String(), ","+string(h.Believed)+",") || !strings.Contains(document.String(), `"believed": "`+string(h.Believed)+`"`) {
				t.Errorf("want %s, got CSV and JSON:\n%s%s", h.Believed, &csv, &document)
			}
		}
	}
}

// TestReportSaysWhatSamplingHides: only of witnesses that hold flows of sampled
// packets.
func TestReportSaysWhatSamplingHides(t *testing.T) {
	r := &detective.Result{Quorum: 1, Witnesses: []detective.TestimonySummary{{Name: "whole", Flows: 9, Sampling: 1}, {Name: "unknown", Flows: 9}}}
	var out strings.Builder
	if err := WriteResult(&out, cli.Table, r); err != nil || strings.Contains(out.String(), "sampled packets") {
		t.Errorf("%v:\n%s", err, &out)
	}
	r.Witnesses = append(r.Witnesses, detective.TestimonySummary{Name: "router", Flows: 9, Sampling: 1000})
	out.Reset()
	if err := WriteResult(&out, cli.Table, r); err != nil || strings.Count(out.String(), "sampled packets") != 1 || !strings.Contains(out.String(), "\nrouter holds flows of sampled packets, 1 in 1000 at the coarsest.") {
		t.Errorf("%v:\n%s", err, &out)
	}
}
