package policy

import (
	"fmt"

	"dragnet/flow/key"
)

// Weaker lists in what respects the rules protect the witness less than the default
// ones, in words for its operator; empty if in none.
func (r *Rules) Weaker() (all []string) {
	d := Default()
	add := func(weaker bool, format string, args ...any) {
		if weaker {
			all = append(all, fmt.Sprintf(format, args...))
		}
	}
	add(r.Independent < d.Independent, "independent is %d: one detective alone gets answers", r.Independent)
	add(len(r.Masks) == 0, "masks is empty: any are answered, also ports without an address and short prefixes")
	for _, text := range r.Masks {
		m, err := key.ParseMask(text)
		if err != nil {
			continue // Validate reports it
		}
		add(m.Family == key.NoAddr, "mask %s has no address: its keys open all hosts of a service", text)
		add(m.Family != key.NoAddr && m.Prefix < shortestPrefix(m.Family), "mask %s has a prefix shorter than /%d", text, shortestPrefix(m.Family))
	}
	add(r.SingleClues, "single_clues is on: answers name hosts that fit one clue of a pattern only")
	add(r.PaperMode, "paper_mode is on: who records question and answer can guess at leisure")
	add(r.Floor < d.Floor, "floor is %g, below %g", r.Floor, d.Floor)
	add(r.TooCommon == 0 || r.TooCommon > d.TooCommon, "too_common is %g: patterns that fit a large part of the traffic are answered", r.TooCommon)
	for _, b := range []struct {
		name      string
		is, usual Budget
	}{{"per_organisation", r.PerOrganisation, d.PerOrganisation}, {"per_roster", r.PerRoster, d.PerRoster}} {
		add(b.is.Keys > b.usual.Keys || b.is.Addresses > b.usual.Addresses || b.is.Hosts > b.usual.Hosts,
			"%s permits more than %d keys, %d addresses or %d hosts", b.name, b.usual.Keys, b.usual.Addresses, b.usual.Hosts)
	}
	add(r.BudgetWithin < d.BudgetWithin, "budget_within is %v: budgets last for less than %v", r.BudgetWithin, d.BudgetWithin)
	return all
}
