package merge_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"dragnet/clearinghouse/merge"
	"dragnet/dossier"
	"dragnet/flow"
)

var rules = merge.Thresholds{Floor: 2, Witnesses: 2, Shared: 2, Overlap: 0.5}

func addr(i int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, 100, byte(i)}) }

func report(until flow.Time, witnesses uint16, hosts ...int) *dossier.Report {
	r := &dossier.Report{Until: until, Asked: 9}
	for _, h := range hosts {
		r.Hosts = append(r.Hosts, dossier.ReportedHost{Addr: addr(h), Witnesses: witnesses, First: flow.Time(h), Last: until})
	}
	return r
}

func groups(r merge.Thresholds, classes ...merge.LiveReport) []merge.PatternGroup {
	m := merge.New(r)
	for _, v := range classes {
		m.Add(v)
	}
	return m.Groups()
}

// shape is a group as "patterns: hosts".
func shape(gs []merge.PatternGroup) []string {
	out := []string{}
	for _, g := range gs {
		s := fmt.Sprint(g.Patterns, ":")
		for _, h := range g.Hosts {
			s += fmt.Sprint(" ", h.Addr.As4()[3])
		}
		out = append(out, s)
	}
	return out
}

func TestGroups(t *testing.T) {
	const a, b, c, d = "org:a", "org:b", "org:c", "org:d"
	for _, test := range []struct {
		name    string
		classes []merge.LiveReport
		want    []string
	}{
		{"one source is not enough", []merge.LiveReport{{1, a, report(9, 2, 1, 2)}, {1, a, report(9, 2, 1, 2)}}, []string{}},
		{"two are", []merge.LiveReport{{1, a, report(9, 2, 1, 2)}, {1, b, report(9, 2, 2, 3)}}, []string{"[1]: 2"}},
		{"one of them with witnesses enough", []merge.LiveReport{{1, a, report(9, 1, 1)}, {1, b, report(9, 2, 1)}, {2, a, report(9, 1, 1)}, {2, b, report(9, 1, 1)}}, []string{"[1]: 1"}},
		{"different patterns do not add up", []merge.LiveReport{{1, a, report(9, 2, 1)}, {2, b, report(9, 2, 1)}}, []string{}},
		{"overlap joins", []merge.LiveReport{{1, a, report(9, 2, 1, 2, 3, 4)}, {1, b, report(9, 2, 1, 2, 3, 4)}, {2, c, report(9, 2, 3, 4, 5)}, {2, d, report(9, 2, 3, 4, 5)}}, []string{"[1 2]: 1 2 3 4 5"}},
		{"too little overlap does not", []merge.LiveReport{{1, a, report(9, 2, 1, 2, 3)}, {1, b, report(9, 2, 1, 2, 3)}, {2, c, report(9, 2, 3, 4, 5)}, {2, d, report(9, 2, 3, 4, 5)}}, []string{"[1]: 1 2 3", "[2]: 3 4 5"}},
		{"one liar cannot join", []merge.LiveReport{{1, a, report(9, 2, 1, 2)}, {1, b, report(9, 2, 1, 2)}, {2, c, report(9, 2, 8, 9)}, {2, d, report(9, 2, 8, 9)}, {1, "liar", report(9, 9, 8, 9)}, {2, "liar", report(9, 9, 1, 2)}}, []string{"[1]: 1 2", "[2]: 8 9"}},
	} {
		if diff := cmp.Diff(test.want, shape(groups(rules, test.classes...)), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s:\n%s", test.name, diff)
		}
	}
}

func TestHost(t *testing.T) {
	got := groups(rules, merge.LiveReport{7, "a", report(100, 3, 5)}, merge.LiveReport{7, "b", report(80, 2, 5)}, merge.LiveReport{7, "c", report(50, 1, 5)}, merge.LiveReport{7, "c", report(60, 1, 5)})
	want := []merge.PatternGroup{{Patterns: []int{7}, Hosts: []merge.AgreedHost{{Addr: addr(5), Sources: 3, Witnesses: 2, First: 5, Last: 80, Until: 80}}}}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Error(diff)
	}
}

// TestOneMemberSetsNoConfidence: a member that claims many witnesses and a span of
// centuries, for a host that others report too, raises neither.
func TestOneMemberSetsNoConfidence(t *testing.T) {
	honest := []merge.LiveReport{{1, "a", report(90, 3, 5)}, {1, "b", report(80, 2, 5)}}
	lie := report(1<<62, 65535, 5)
	lie.Hosts[0].First = -1 << 62
	got := groups(rules, append(honest, merge.LiveReport{Pattern: 1, Class: "liar", Report: lie})...)
	if len(got) != 1 || len(got[0].Hosts) != 1 {
		t.Fatalf("%v", got)
	}
	if h := got[0].Hosts[0]; h.Witnesses > 3 || h.First < 5 || h.Last > 90 || h.Until > 90 {
		t.Errorf("%+v", h)
	}
}

// TestLiarNeedsOthers: whatever one class adds under its own name, however
// often, no host appears that Floor-1 others do not bear out under one pattern.
func TestLiarNeedsOthers(t *testing.T) {
	draw := func(t *rapid.T, classes []string, label string) []merge.LiveReport {
		return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) merge.LiveReport {
			hosts := rapid.SliceOfNDistinct(rapid.IntRange(1, 8), 1, 8, rapid.ID).Draw(t, "hosts")
			return merge.LiveReport{rapid.IntRange(1, 4).Draw(t, "pattern"), rapid.SampledFrom(classes).Draw(t, "class"), report(9, 2, hosts...)}
		}), 0, 12).Draw(t, label)
	}
	rapid.Check(t, func(t *rapid.T) {
		honest := draw(t, []string{"a", "b", "c"}, "honest")
		lies := draw(t, []string{"liar"}, "lies")
		r := rules
		r.Floor = 3
		// With Floor 3, a liar may complete what two honest ones said, and no more.
		allowed := map[int]map[netip.Addr]bool{}
		for _, g := range groups(merge.Thresholds{Floor: 2, Witnesses: 2, Shared: 1 << 30, Overlap: 1}, honest...) {
			for _, h := range g.Hosts {
				if allowed[g.Patterns[0]] == nil {
					allowed[g.Patterns[0]] = map[netip.Addr]bool{}
				}
				allowed[g.Patterns[0]][h.Addr] = true
			}
		}
		for _, g := range groups(r, slices.Concat(honest, lies)...) {
			for _, h := range g.Hosts {
				ok := false
				for _, p := range g.Patterns {
					ok = ok || allowed[p][h.Addr]
				}
				if !ok {
					t.Fatalf("%s is listed in %v by a liar", h.Addr, g.Patterns)
				}
			}
		}
	})
}

// TestOrderDoesNotMatter: reports in another order give the same groups.
func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		classes := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) merge.LiveReport {
			hosts := rapid.SliceOfNDistinct(rapid.IntRange(1, 9), 1, 9, rapid.ID).Draw(t, "hosts")
			until := flow.Time(rapid.IntRange(10, 20).Draw(t, "until"))
			return merge.LiveReport{rapid.IntRange(1, 5).Draw(t, "pattern"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "class"), report(until, 2, hosts...)}
		}), 0, 20).Draw(t, "classes")
		shuffled := rapid.Permutation(classes).Draw(t, "shuffled")
		if diff := cmp.Diff(groups(rules, classes...), groups(rules, shuffled...), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestPartsMakeNoDifference: patterns that are added one after the other, each in parts,
// give the groups of all that is added at once.
func TestPartsMakeNoDifference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []merge.LiveReport
		for range rapid.IntRange(0, 20).Draw(t, "reports") {
			hosts := rapid.SliceOfNDistinct(rapid.IntRange(1, 30), 1, 30, rapid.ID).Draw(t, "hosts")
			all = append(all, merge.LiveReport{rapid.IntRange(1, 5).Draw(t, "pattern"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "class"), report(9, 2, hosts...)})
		}
		m := merge.New(rules)
		for pattern := 1; pattern <= 5; pattern++ {
			parts := rapid.IntRange(1, 4).Draw(t, "parts")
			for i := range parts {
				for _, v := range all {
					if v.Pattern == pattern {
						m.AddPart(v, merge.HostShare{Index: i, Of: parts})
					}
				}
				m.Settle()
			}
		}
		if diff := cmp.Diff(groups(rules, all...), m.Groups(), cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Fatal(diff)
		}
	})
}

// TestOracle compares with the plain definition, computed for every pair.
func TestOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type key struct {
			pattern int
			host    netip.Addr
		}
		said := map[key]map[string]bool{}
		m := merge.New(rules)
		for range rapid.IntRange(0, 20).Draw(t, "reports") {
			hosts := rapid.SliceOfNDistinct(rapid.IntRange(1, 9), 1, 9, rapid.ID).Draw(t, "hosts")
			v := merge.LiveReport{rapid.IntRange(1, 5).Draw(t, "pattern"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "class"), report(9, 2, hosts...)}
			m.Add(v)
			for _, h := range v.Report.Hosts {
				k := key{v.Pattern, h.Addr}
				if said[k] == nil {
					said[k] = map[string]bool{}
				}
				said[k][v.Class] = true
			}
		}
		left := map[int]map[netip.Addr]bool{}
		for k, classes := range said {
			if len(classes) >= rules.Floor {
				if left[k.pattern] == nil {
					left[k.pattern] = map[netip.Addr]bool{}
				}
				left[k.pattern][k.host] = true
			}
		}
		together := map[int]int{}
		for p := range left {
			together[p] = p
		}
		for range left { // as many rounds as it can take
			for p := range left {
				for q := range left {
					n := 0
					for h := range left[p] {
						if left[q][h] {
							n++
						}
					}
					if n >= rules.Shared && 2*n >= min(len(left[p]), len(left[q])) {
						low := min(together[p], together[q])
						together[p], together[q] = low, low
					}
				}
			}
		}
		want := map[int][]int{}
		for _, p := range slices.Sorted(maps.Keys(left)) {
			want[together[p]] = append(want[together[p]], p)
		}
		got := map[int][]int{}
		for _, g := range m.Groups() {
			got[g.Patterns[0]] = g.Patterns
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
