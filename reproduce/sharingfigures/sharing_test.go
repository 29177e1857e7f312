package sharingfigures

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/reproduce/report"
	"dragnet/simulate/border"
)

func small() size {
	c := border.DefaultConfiguration()
	c.Connections, c.WebServers, c.NameServers, c.MailServers = 20_000, 2000, 1000, 300
	return size{border: c, seeds: []uint64{1, 2, 3}, asked: 1, sealed: 1}
}

// TestFigure1Shape checks what readers of the report rely on: the paper's
// numbers stand beside ours, every row is as wide as its header, every stated
// assumption has a row.
func TestFigure1Shape(t *testing.T) {
	data := os.Getenv("DRAGNET_DATA")
	r, err := runFigure1(context.Background(), report.Environment{Data: data, Progress: func(string, int) {}}, report.New(figure1()), small())
	if err != nil {
		t.Fatal(err)
	}
	var titles []string
	for _, table := range r.Tables {
		titles = append(titles, table.Title)
		for _, row := range table.Rows {
			if len(row) != len(table.Header) {
				t.Errorf("%s: row %q has %d cells, header %q has %d", table.Title, row[0], len(row), table.Header, len(table.Header))
			}
		}
	}
	if len(titles) != 5 {
		t.Fatalf("tables %q; want the paper's numbers, assumptions, cost, distribution, protection", titles)
	}
	var paper []string
	for _, row := range r.Tables[0].Rows {
		paper = append(paper, row[1])
	}
	if d := cmp.Diff([]string{"6.2 million", "not given", "11 %", "about two thirds", "90 %", "nearly all", "not given", "not given"}, paper); d != "" {
		t.Error(d)
	}
	if got := r.Tables[0].Rows[0][2]; got != "20000" {
		t.Errorf("%s connections on the synthetic day, want 20000", got)
	}
	wantLogs := 0
	if data != "" {
		wantLogs = len(sharedLogs)
	}
	if got := len(r.Tables[0].Header) - 3; got != wantLogs {
		t.Errorf("%d shared logs, want %d", got, wantLogs)
	}
	if got, want := len(r.Tables[1].Rows), 2+len(logVariants(small().border)); got != want {
		t.Errorf("%d rows of assumptions, want %d", got, want)
	}
	if len(r.Plots) != 2 {
		t.Errorf("%d plots, want 2", len(r.Plots))
	}
	for _, text := range r.Text {
		if strings.Contains(text, "%!") {
			t.Errorf("a number is missing in: %s", text)
		}
	}
}

// TestIntervalIsOverSeeds: median and range, and one number where all agree.
func TestIntervalIsOverSeeds(t *testing.T) {
	s := small()
	var seeds []*day
	for _, seed := range []uint64{4, 5, 6} {
		d := &day{config: s.border}
		d.config.Seed = seed
		seeds = append(seeds, d)
	}
	if err := surveyAll(context.Background(), report.Environment{Progress: func(string, int) {}}, seeds); err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, m := range listMeasures() {
		all[m.name] = formatOver(seeds, m)
	}
	if got := all["connections"]; got != "20000" {
		t.Errorf("connections %q, want one number", got)
	}
	if got := all["distinct (destination, protocol, port)"]; !strings.Contains(got, " .. ") {
		t.Errorf("tuples %q, want an interval: three seeds draw different tuples", got)
	}
}

// TestPrivateSearch: every way finds what is there (else it returns an error),
// and the table has what the comparison is about.
func TestPrivateSearch(t *testing.T) {
	size := trialSize{rows: 20_000, evaluated: 40, dictionary: 8, filtered: 40, keyBits: 512}
	r, err := runPrivateSearch(context.Background(), report.Environment{Progress: func(string, int) {}}, report.New(privateSearch()), size)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Tables) != 1 || len(r.Tables[0].Rows) != 4 {
		t.Fatalf("tables %+v; want one with four ways", r.Tables)
	}
	for _, row := range r.Tables[0].Rows {
		if len(row) != len(r.Tables[0].Header) {
			t.Errorf("row %q has %d cells, want %d", row[0], len(row), len(r.Tables[0].Header))
		}
	}
	// 8 ciphertexts modulo the square of a 512-bit number.
	if question := r.Tables[0].Rows[3][5]; question != "1024" {
		t.Errorf("question of private stream search has %s bytes, want 1024", question)
	}
}

func TestEveryWayMustFindTheTuple(t *testing.T) {
	trial, err := newTrial(context.Background(), trialSize{rows: 5000, evaluated: 5, dictionary: 4, filtered: 20, keyBits: 512})
	if err != nil {
		t.Fatal(err)
	}
	trial.flows++ // one more than there is
	if _, err := trial.runLoose(context.Background()); err == nil {
		t.Error("loose matching passed with a connection missing")
	}
	if _, err := trial.searchPrivately(context.Background()); err == nil {
		t.Error("private stream search passed with a connection missing")
	}
}
