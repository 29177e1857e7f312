package coresidencefigures

import (
	"context"
	"testing"

	"dragnet/internal/testkit"
	"dragnet/reproduce/report"
)

// The paper's test bed of namespaces, for a few rounds: too few to detect the attack,
// enough for every table and figure.
func TestPaperOnSwitches(t *testing.T) {
	testkit.Root(t)
	testkit.Long(t)
	for _, program := range []string{"ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ip", "tc"} {
		testkit.Tool(t, program)
	}
	env := report.Environment{Lab: report.Lab{Runs: 1, Rounds: 3}, Progress: func(string, int) {}}
	r, err := labFigures(context.Background(), env, "high-rate", true)
	if err != nil {
		t.Fatal(err)
	}
	table := r.over.table()
	if len(table.Rows) != 3 || len(r.flows.Series) != len(flowMethods) || len(r.sessions.Series) != len(sessionMethods) {
		t.Fatalf("%+v", table)
	}
	for _, x := range r.over.after {
		if x.runs != 1 || x.flooders != 2 || x.pairs < 50 || x.normal < 50 || x.resident <= 0 || x.other <= 0 {
			t.Errorf("after %d tests: %+v", x.tests, x)
		}
	}
	if row := r.over.raceRow("Open vSwitch", "high-rate"); len(row) != len(raceTable().Header) {
		t.Error(row)
	}
	for _, s := range append(r.flows.Series, r.sessions.Series...) {
		if n := len(s.Y); n == 0 || s.Y[n-1] != 1 || s.Y[0] > s.Y[n-1] {
			t.Errorf("%s: %v", s.Name, s.Y)
		}
	}
}
