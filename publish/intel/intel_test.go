package intel_test

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"dragnet/publish/intel"
	"dragnet/publish/publishtest"
)

// read follows the rules of Zeek's ASCII reader: the fields of the first line,
// one tab between columns, no empty column.
func read(t *testing.T, text string) (hosts []string) {
	t.Helper()
	var fields []string
	for line := range strings.Lines(text) {
		columns := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if columns[0] == "#fields" {
			fields = columns[1:]
			continue
		}
		if len(columns) != len(fields) || slices.Contains(columns, "") {
			t.Fatalf("%d columns of %d: %q", len(columns), len(fields), line)
		}
		if _, err := netip.ParseAddr(columns[0]); err != nil || columns[1] != "Intel::ADDR" || columns[2] == "-" {
			t.Fatalf("%q", line)
		}
		hosts = append(hosts, columns[0])
	}
	if !slices.Equal(fields, []string{"indicator", "indicator_type", "meta.source", "meta.desc", "meta.url"}) {
		t.Fatalf("fields %v", fields)
	}
	return hosts
}

func TestItems(t *testing.T) {
	s := publishtest.New()
	s.List("g1", []string{"in\tdport=445\nx"}, 75, "198.51.100.7", "2001:db8::7")
	s.List("g2", nil, 40, "203.0.113.9", "198.51.100.7")
	for least, want := range map[int]string{0: "198.51.100.7 203.0.113.9 2001:db8::7", 50: "198.51.100.7 2001:db8::7"} {
		var b bytes.Buffer
		if err := intel.Write(&b, s.Feed(t).View(), least, ""); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(read(t, b.String()), " "); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
