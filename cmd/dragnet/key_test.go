package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"dragnet/ask/survey"
	"dragnet/internal/cli"
)

// runDragnet executes the program in this process.
func runDragnet(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(&bytes.Buffer{})
	root.SilenceUsage, root.SilenceErrors = true, true
	err = root.Execute()
	return out.String(), err
}

const recorded = "../../lab/incident/testdata"

func TestKeySurveyFormatsAgree(t *testing.T) {
	svg := filepath.Join(t.TempDir(), "figure.svg")
	base := []string{"key", "survey", recorded, "--hash", "product", "--hash", "linear", "--bits", "4,9", "--asked", "3", "--sealed", "2"}
	text, err := runDragnet(t, append(base, "-o", "json", "--svg", svg, "--near", "198.51.100.7/24")...)
	if err != nil {
		t.Fatal(err)
	}
	var r survey.Result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	if r.Version != 1 || r.Mask != "addr4/32+dport+proto" || r.End != "out" || r.Near != "198.51.100.0/24" || len(r.Hashes) != 3 || r.Connections == 0 {
		t.Fatalf("unexpected %+v", r)
	}
	for i, want := range []string{"product", "linear/4", "linear/9"} {
		if h := r.Hashes[i]; h.Hash != want || h.Bytes == nil || h.Bytes.Questions == 0 || len(h.Candidates) < 2 {
			t.Errorf("hash %d is %+v, want %s with bytes and candidates", i, h, want)
		}
	}
	drawing, err := os.ReadFile(svg)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(drawing, new(struct{ XMLName xml.Name })); err != nil || !bytes.Contains(drawing, []byte("linear/9")) {
		t.Errorf("figure: %v", err)
	}
	if text, err = runDragnet(t, append(base, "-o", "csv")...); err != nil {
		t.Fatal(err)
	}
	records, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil || len(records) != 4 {
		t.Fatalf("csv of %d records, %v; want a header and three hashes", len(records), err)
	}
	at := slices.Index(records[0], "unique_keys")
	if got, err := strconv.ParseFloat(records[1][max(at, 0)], 64); at < 0 || err != nil || got != r.Hashes[0].UniqueKeys {
		t.Errorf("csv has columns %q and says unique_keys = %g, json %g", records[0], got, r.Hashes[0].UniqueKeys)
	}
	if text, err = runDragnet(t, base...); err != nil {
		t.Fatal(err)
	}
	if want := survey.Percent(r.Hashes[0].UniqueKeys); !strings.Contains(text, want) || strings.Count(text, "linear/9") != 3 {
		t.Errorf("the table lacks %s, or a hash in one of its three parts:\n%s", want, text)
	}
}

func TestKeySurveyMistakes(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{}, "requires at least 1 arg"},
		{[]string{recorded, "--mask", "addr5/1"}, "mask"},
		{[]string{recorded, "--end", "up"}, "--end"},
		{[]string{recorded, "--hash", "sha256"}, "unknown hash"},
		{[]string{recorded, "--bits", "40"}, "40 bits"},
		{[]string{recorded, "--near", "here"}, "--near"},
		{[]string{recorded + "/absent"}, "no such file"},
	} {
		_, err := runDragnet(t, append([]string{"key", "survey"}, c.args...)...)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v; want an error about %q", c.args, err, c.want)
		}
	}
}

func TestReproduceLists(t *testing.T) {
	text, err := runDragnet(t, "reproduce", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	items, err := cli.ReadItems[struct{ Name, Title, Source string }](strings.NewReader(text))
	if err != nil || len(items) < 2 {
		t.Fatalf("%v: %s", err, text)
	}
	if _, err := runDragnet(t, "reproduce", "sharing-figure-99"); err == nil || !strings.Contains(err.Error(), "sharing-figure-99") {
		t.Errorf("an unknown name: %v", err)
	}
}
