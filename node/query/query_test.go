package query

import (
	"bytes"
	"context"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/node/api"
	"dragnet/store/disk"
	nodev1 "dragnet/wire/node/v1"
)

var equal = cmp.Options{cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()}

const second = flow.Time(1e9)

// made is a data directory with flows in bursts over sixty years, many of them
// equal, and the rows that they are listed as, in order.
var made = sync.OnceValues(func() ([]flow.Flow, []ListedFlow) {
	random := rand.New(rand.NewPCG(1, 2))
	var all []flow.Flow
	for _, begin := range []flow.Time{-10 * second, 0, 86400 * second, 1700000000 * second, 1700000030 * second, 1700003600 * second, flow.MaxTime - 10*second} {
		for range 400 {
			f := flow.Flow{
				Start: begin + flow.Time(random.IntN(40))*second/100, Orig: netip.AddrFrom4([4]byte{192, 0, 2, byte(random.IntN(3))}),
				Resp: netip.MustParseAddr("2001:db8::7"), OrigPort: uint16(random.IntN(2)), RespPort: 22, Proto: flow.TCP, State: flow.SF,
				Known: flow.Counts, OrigPkts: uint64(random.IntN(2)),
			}
			all = append(all, f)
		}
	}
	rows := make([]ListedFlow, len(all))
	for i := range all {
		rows[i] = RowOf(&all[i])
	}
	slices.SortFunc(rows, ListedFlow.Compare)
	return all, rows
})

// kept writes the flows into a data directory, in several segments.
func kept(t testing.TB) string {
	t.Helper()
	all, _ := made()
	dir := t.TempDir() + "/data"
	s, err := disk.OpenWriter(dir)
	if err != nil {
		t.Fatal(err)
	}
	w, err := s.NewWriter("2026-11-22")
	if err != nil {
		t.Fatal(err)
	}
	for part := range slices.Chunk(all, 700) {
		if err := w.Append(context.Background(), part); err != nil {
			t.Fatal(err)
		}
		if err := w.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func drawWindow(t *rapid.T) flow.Window {
	_, rows := made()
	if rapid.Bool().Draw(t, "all time") {
		return flow.AllTime
	}
	a, b := rapid.SampledFrom(rows).Draw(t, "from").Start, rapid.SampledFrom(rows).Draw(t, "to").Start
	if b < a {
		a, b = b, a
	}
	return flow.Window{From: a, To: b}
}

// TestPagesMakeTheList: whatever is asked and in whatever pages, their sum is
// what sorting all flows gives.
func TestPagesMakeTheList(t *testing.T) {
	log, err := OpenPlace(kept(t))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_, rows := made()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWindow(t)
		src := rapid.SampledFrom([]string{"", "src=192.0.2.1", "sport=1 dst=2001:db8::/32", "dport=23"}).Draw(t, "filter")
		s, err := Parse(src, nil, w)
		if err != nil {
			t.Fatal(err)
		}
		var want []ListedFlow
		for _, r := range rows {
			f := flow.Flow{Start: r.Start, Orig: r.Src, Resp: r.Dst, OrigPort: r.SrcPort, RespPort: r.DstPort}
			if w.Contains(r.Start) && s.Filter.Matches(&f) {
				want = append(want, r)
			}
		}
		page := &Page{Limit: rapid.SampledFrom([]int{1, 7, 100, 5000}).Draw(t, "limit"), Last: rapid.Bool().Draw(t, "last")}
		last := page.Last
		for n := 0; page != nil && n < 12; n++ {
			got, next, _, err := List(context.Background(), log, s, *page)
			if err != nil {
				t.Fatal(err)
			}
			from, to := 0, min(page.Limit, len(want))
			if last {
				from, to = max(0, len(want)-page.Limit), len(want)
			}
			if !slices.EqualFunc(want[from:to], got, func(a, b ListedFlow) bool { return a.Compare(b) == 0 }) {
				t.Fatalf("page %d: %s", n, cmp.Diff(want[from:to], got, equal))
			}
			if want = slices.Delete(slices.Clone(want), from, to); (len(want) > 0) != (next != nil) {
				t.Fatalf("page %d: %d rows are left, next is %v", n, len(want), next)
			}
			page = next
		}
	})
}

// TestCountIsThatOfTheRows compares with counting rows one by one.
func TestCountIsThatOfTheRows(t *testing.T) {
	log, err := OpenPlace(kept(t))(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	_, rows := made()
	s := Selection{Filter: &pattern.Filter{}, Window: flow.AllTime}
	byHour, _, err := Count(t.Context(), log, s, "hour", 0)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]uint64{}
	for _, r := range rows {
		want[r.Start.Time().Format("2006-01-02T15:00:00Z")]++
	}
	got := map[string]uint64{}
	for i, c := range byHour {
		got[c.Group] = c.Flows
		if i > 0 && c.Flows > byHour[i-1].Flows {
			t.Error("the largest group is not first")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	one, _, err := Count(t.Context(), log, s, "", 0)
	if err != nil || len(one) != 1 || one[0].Flows != uint64(len(rows)) || one[0].Established != one[0].Flows || one[0].First != rows[0].Start {
		t.Errorf("%+v, %v", one, err)
	}
	if _, _, err := Count(t.Context(), log, s, "colour", 0); err == nil {
		t.Error("counted by colour")
	}
}

// TestServedPages goes through the server's messages and cursors, while more
// flows come in behind.
func TestServedPages(t *testing.T) {
	s := NewServer(OpenPlace(kept(t)), api.NewGate(1))
	_, rows := made()
	q := &nodev1.ListFlowsRequest{PageSize: 333, Selection: &nodev1.Selection{Filter: "src=@list", Files: map[string]string{"list": "192.0.2.0/31\n"}}}
	var got []ListedFlow
	for {
		page, err := s.ListFlows(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Flows {
			r, err := RowFrom(m)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		if page.NextCursor == "" {
			break
		}
		q = &nodev1.ListFlowsRequest{PageSize: 333, Cursor: page.NextCursor}
	}
	var want []ListedFlow
	for _, r := range rows {
		if r.Src.As4()[3] < 2 {
			want = append(want, r)
		}
	}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Error(diff)
	}
	q.Last = true
	for what, q := range map[string]*nodev1.ListFlowsRequest{
		"direction beside a cursor": q,
		"selection beside a cursor": {Cursor: q.Cursor, Selection: &nodev1.Selection{Filter: "dport=1"}},
		"no cursor":                 {Cursor: "!"},
		"a cursor of nothing":       {Cursor: "AAAA"},
		"a file that is not there":  {Selection: &nodev1.Selection{Filter: "src=@/etc/passwd"}},
		"an unknown field":          {Selection: &nodev1.Selection{Filter: "colour=red"}},
	} {
		if _, err := s.ListFlows(t.Context(), q); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}

// FuzzCursor: whatever a cursor holds, the answer is a page or a refusal.
func FuzzCursor(f *testing.F) {
	dir := kept(f)
	s := NewServer(OpenPlace(dir), api.NewGate(1))
	first, err := s.ListFlows(context.Background(), &nodev1.ListFlowsRequest{PageSize: 3})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(first.NextCursor)
	f.Add("")
	f.Fuzz(func(t *testing.T, cursor string) {
		page, err := s.ListFlows(context.Background(), &nodev1.ListFlowsRequest{PageSize: 5, Cursor: cursor})
		if err == nil && (len(page.Flows) > 5 || len(page.Flows) == 0 && page.NextCursor != "") {
			t.Errorf("%d flows, next %q", len(page.Flows), page.NextCursor)
		}
	})
}

// FuzzRequest sends bytes as JSON and as protobuf to each call; whatever they
// are, there is an answer or a refusal.
func FuzzRequest(f *testing.F) {
	dir := kept(f)
	gate := api.NewGate(1)
	services := []api.Service{NewServer(OpenPlace(dir), gate).Service(), NewStoreServer(dir, "", gate).Service()}
	calls := []struct {
		service int
		name    string
	}{{0, "ListFlows"}, {0, "CountFlows"}, {0, "StreamFlows"}, {1, "DescribeStore"}, {1, "CheckStore"}, {1, "ListSources"}}
	for i := range calls {
		f.Add(i, true, []byte(`{"selection":{"filter":"src=@a dport=22","files":{"a":"192.0.2.0/24"},"from":"2023-11-14T22:13:20Z"},"by":"src","top":3}`))
		f.Add(i, false, []byte("\n\x0c\n\x08dport=22\x12\x00"))
	}
	f.Fuzz(func(t *testing.T, call int, json bool, body []byte) {
		c := calls[uint(call)%uint(len(calls))]
		service := services[c.service]
		r := httptest.NewRequest(http.MethodPost, service.Path+c.name, bytes.NewReader(body))
		r.Header.Set("Content-Type", map[bool]string{true: "application/json", false: "application/proto"}[json])
		if c.name == "StreamFlows" {
			r.Header.Set("Content-Type", map[bool]string{true: "application/connect+json", false: "application/connect+proto"}[json])
		}
		w := httptest.NewRecorder()
		service.Handler.ServeHTTP(w, r)
		if w.Code >= 500 {
			t.Errorf("%s: %d %s", c.name, w.Code, w.Body)
		}
	})
}

// BenchmarkPage compares a page from the middle with reading everything.
func BenchmarkPage(b *testing.B) {
	log, err := OpenPlace(kept(b))(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	_, rows := made()
	s := Selection{Filter: &pattern.Filter{}, Window: flow.AllTime}
	b.Run("page", func(b *testing.B) {
		for b.Loop() {
			if _, _, _, err := List(context.Background(), log, s, Page{Limit: 100, After: &rows[len(rows)/2], Equal: 1}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("all", func(b *testing.B) {
		for b.Loop() {
			if _, _, err := Count(context.Background(), log, s, "", 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}
