package cli

import (
	"bytes"
	"encoding/csv"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type place struct {
	Name string   `json:"name"`
	AS   []uint32 `json:"as,omitempty"`
}

type Named struct {
	ID string `json:"id"`
}

type item struct {
	Version int `json:"version"`
	Named
	Time   time.Time         `json:"time"`
	Host   netip.Addr        `json:"host"`
	Place  *place            `json:"place,omitempty"`
	Counts map[string]int    `json:"counts"`
	Parts  []place           `json:"parts"`
	Share  *float64          `json:"share"`
	Hidden string            `json:"-"`
	Labels map[string]string `json:"labels,omitempty"`
}

// TestColumnsAreFieldsOfJSON: CSV names and values are those of JSON, also of an empty list.
func TestColumnsAreFieldsOfJSON(t *testing.T) {
	header := []string{"id", "time", "host", "place.name", "place.as", "counts", "parts", "share", "labels"}
	share := 0.125
	for _, c := range []struct {
		items []item
		want  [][]string
	}{
		{nil, nil},
		{[]item{
			{Named: Named{"a"}, Time: time.Unix(1, 23).UTC(), Host: netip.MustParseAddr("192.0.2.1"), Place: &place{"x, y", []uint32{64500, 64501}}, Hidden: "no"},
			{Counts: map[string]int{"n": 2}, Parts: []place{{Name: "<p>"}}, Share: &share},
		}, [][]string{
			{"a", "1970-01-01T00:00:01.000000023Z", "192.0.2.1", "x, y", "64500 64501", "", "", "", ""},
			{"", "0001-01-01T00:00:00Z", "", "", "", `{"n":2}`, `[{"name":"<p>"}]`, "0.125", ""},
		}},
	} {
		var out bytes.Buffer
		if err := WriteRows(&out, CSV, Rows[item]{Items: c.items}); err != nil {
			t.Fatal(err)
		}
		got, err := csv.NewReader(&out).ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(append([][]string{header}, c.want...), got); diff != "" {
			t.Error(diff)
		}
	}
}
