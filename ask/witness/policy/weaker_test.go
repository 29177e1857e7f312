package policy_test

import (
	"strings"
	"testing"

	"dragnet/ask/witness/policy"
)

// TestWeaker: each setting that protects less than the default is named, and no
// other.
func TestWeaker(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*policy.Rules)
		want   string
	}{
		{"defaults", func(*policy.Rules) {}, ""},
		{"stricter", func(r *policy.Rules) {
			r.Independent, r.Masks, r.Floor, r.PerOrganisation.Hosts = 3, []string{"addr4/32"}, 500, 10
		}, ""},
		{"alone", func(r *policy.Rules) { r.Independent = 1 }, "independent is 1"},
		{"any mask", func(r *policy.Rules) { r.Masks = nil }, "masks is empty"},
		{"ports", func(r *policy.Rules) { r.Masks = append(r.Masks, "dport+proto") }, "mask dport+proto has no address"},
		{"short", func(r *policy.Rules) { r.Masks = append(r.Masks, "addr4/12") }, "mask addr4/12 has a prefix shorter than /24"},
		{"paper", func(r *policy.Rules) { r.PaperMode = true }, "paper_mode"},
		{"single", func(r *policy.Rules) { r.SingleClues = true }, "single_clues"},
		{"floor", func(r *policy.Rules) { r.Floor = 2 }, "floor is 2"},
		{"common", func(r *policy.Rules) { r.TooCommon = 0 }, "too_common"},
		{"hosts", func(r *policy.Rules) { r.PerOrganisation.Hosts++ }, "per_organisation permits more"},
		{"roster", func(r *policy.Rules) { r.PerRoster.Addresses++ }, "per_roster permits more"},
		{"within", func(r *policy.Rules) { r.BudgetWithin /= 2 }, "budget_within"},
	} {
		r := policy.Default()
		test.change(&r)
		got := r.Weaker()
		if test.want == "" && len(got) > 0 || test.want != "" && (len(got) != 1 || !strings.Contains(got[0], test.want)) {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
