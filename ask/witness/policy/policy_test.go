package policy_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

const today = "2026-11-22"

var service = key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}

// question asks one clue of a mask, with the salt of its epoch.
func question(bits uint8, m key.Mask, keys ...key.K) *dossier.Question {
	q := &dossier.Question{
		Mode: dossier.OPRF, Hash: key.Hash{Kind: key.Linear, Bits: bits}, Epoch: today, Window: flow.AllTime,
		Clues: []dossier.AskedClue{{End: key.Out, Mask: m, Salt: key.OneShotSalt(m, today)}},
	}
	for _, k := range keys {
		q.Clues[0].Keys = append(q.Clues[0].Keys, dossier.AskedKey{K: k, Blinded: []byte{1}})
	}
	return q
}

var asker = policy.Asker{ID: "aa", Class: "org:a"}

var epochs = map[string]string{today: today + ".abc"}

// published has a question use an epoch.
func published(epoch string) func(*dossier.Question) {
	return func(q *dossier.Question) { q.Epoch, q.Clues[0].Salt = epoch, key.OneShotSalt(service, epoch) }
}

// alone are the default rules for one detective, about any mask.
func alone() policy.Rules {
	rules := policy.Default()
	rules.Independent, rules.Masks = 1, nil
	return rules
}

func TestJudge(t *testing.T) {
	for _, test := range []struct {
		name   string
		rules  func(*policy.Rules)
		change func(*dossier.Question)
		before policy.History
		want   dossier.Refusal
	}{
		{"as it should be", nil, nil, policy.History{}, dossier.Answered},
		{"listed", func(r *policy.Rules) { r.Detectives = []string{"aa"} }, nil, policy.History{}, dossier.Answered},
		{"not listed", func(r *policy.Rules) { r.Detectives = []string{"bb"} }, nil, policy.History{}, dossier.NotPermitted},
		{"permitted mask", func(r *policy.Rules) { r.Masks = []string{"addr4/32+dport+proto"} }, nil, policy.History{}, dossier.Answered},
		{"other mask", func(r *policy.Rules) { r.Masks = []string{"addr4/32", "addr6/128+dport+proto"} }, nil, policy.History{}, dossier.NotPermitted},
		{"shorter prefix of a permitted mask", func(r *policy.Rules) { r.Masks = []string{"addr4/32+dport+proto"} }, func(q *dossier.Question) {
			q.Clues[0].Mask.Prefix = 24
			q.Clues[0].Salt = key.OneShotSalt(q.Clues[0].Mask, today)
			q.Hash.Bits = 12
		}, policy.History{}, dossier.Answered},
		{"paper mode", nil, func(q *dossier.Question) { q.Mode = dossier.Paper }, policy.History{}, dossier.NotPermitted},
		{"paper mode permitted", func(r *policy.Rules) { r.PaperMode = true }, func(q *dossier.Question) { q.Mode = dossier.Paper }, policy.History{}, dossier.Answered},
		{"product", nil, func(q *dossier.Question) { q.Hash = key.Hash{Kind: key.Product} }, policy.History{}, dossier.NotPermitted},
		{"another salt", nil, func(q *dossier.Question) { q.Clues[0].Salt[3]++ }, policy.History{}, dossier.NotPermitted},
		{"no day", nil, func(q *dossier.Question) { q.Epoch = "soon" }, policy.History{}, dossier.NotPermitted},
		{"old salts", func(r *policy.Rules) { r.EpochDays = 3 }, func(q *dossier.Question) {
			q.Epoch = "2026-11-18"
			q.Clues[0].Salt = key.OneShotSalt(service, q.Epoch)
		}, policy.History{}, dossier.NotPermitted},
		{"the published epoch", nil, published("2026-11-22.abc"), policy.History{Epochs: epochs}, dossier.Answered},
		{"another epoch than the published", nil, published("2026-11-22.abd"), policy.History{Epochs: epochs}, dossier.NotPermitted},
		{"the bare day where epochs are published", nil, published("2026-11-22"), policy.History{Epochs: epochs}, dossier.NotPermitted},
		{"an epoch where none are published", nil, published("2026-11-22.abc"), policy.History{}, dossier.NotPermitted},
		{"too specific", nil, func(q *dossier.Question) { q.Hash.Bits = 31 }, policy.History{}, dossier.TooSpecific},
		{"joins itself", nil, func(q *dossier.Question) { q.Clues = append(q.Clues, q.Clues[0]) }, policy.History{}, dossier.NotPermitted},
		{"joins itself, permitted", func(r *policy.Rules) { r.SingleClues = true }, func(q *dossier.Question) { q.Clues = append(q.Clues, q.Clues[0]) }, policy.History{}, dossier.Answered},
		{"open window", func(r *policy.Rules) { r.MaxWindow = time.Hour }, nil, policy.History{}, dossier.NotPermitted},
		{"own budget", nil, nil, policy.History{Own: policy.Usage{Questions: 2000}}, dossier.OverBudget},
		{"keys", nil, nil, policy.History{Own: policy.Usage{Keys: 20_000}}, dossier.OverBudget},
		{"all's budget", nil, nil, policy.History{All: policy.Usage{Bytes: 16 << 30}}, dossier.OverBudget},
		{"alone", func(r *policy.Rules) { r.Independent = 2 }, nil, policy.History{}, dossier.AwaitingOthers},
		{"with another", func(r *policy.Rules) { r.Independent = 2 }, nil, policy.History{Others: 1}, dossier.Answered},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules, q := alone(), question(19, service, 7)
			if test.rules != nil {
				test.rules(&rules)
			}
			if test.change != nil {
				test.change(q)
			}
			if err := rules.Validate(); err != nil {
				t.Fatal(err)
			}
			if v := rules.Judge(noon, asker, q, test.before); v.Refusal != test.want || (v.Reason == "") != (test.want == dossier.Answered) {
				t.Errorf("%q (%s), want %q", v.Refusal, v.Reason, test.want)
			}
		})
	}
}

func usage(t *rapid.T, name string) policy.Usage {
	return policy.Usage{
		Questions: rapid.IntRange(0, 60_000).Draw(t, name+" questions"), Keys: rapid.IntRange(0, 600_000).Draw(t, name+" keys"),
		Bytes: rapid.Int64Range(0, 20<<30).Draw(t, name+" bytes"), Addresses: rapid.Int64Range(0, 1<<25).Draw(t, name+" addresses"),
		Hosts: rapid.IntRange(0, 6000).Draw(t, name+" hosts"),
	}
}

// TestMoreHistoryNeverHelps: having asked more never turns a refusal into an
// answer, and more others asking never turns an answer into a refusal.
func TestMoreHistoryNeverHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := alone()
		rules.Independent = rapid.IntRange(1, 4).Draw(t, "independent")
		q := question(uint8(rapid.IntRange(1, 31).Draw(t, "bits")), service, 7)
		h := policy.History{Own: usage(t, "own"), All: usage(t, "all"), Others: rapid.IntRange(0, 5).Draw(t, "others")}
		more := h
		more.Own.Questions += rapid.IntRange(0, 1000).Draw(t, "more questions")
		more.All.Keys += rapid.IntRange(0, 1000).Draw(t, "more keys")
		more.Own.Bytes += rapid.Int64Range(0, 1<<30).Draw(t, "more bytes")
		before, after := rules.Judge(noon, asker, q, h), rules.Judge(noon, asker, q, more)
		if before.Refusal != dossier.Answered && after.Refusal == dossier.Answered {
			t.Fatalf("%s, and after asking more it is answered", before.Refusal)
		}
		others := h
		others.Others++
		if before.Refusal == dossier.Answered && rules.Judge(noon, asker, q, others).Refusal != dossier.Answered {
			t.Fatal("answered, and refused when another asks too")
		}
	})
}

// TestFewerBitsNeverHurt: a more ambiguous question is never refused as too
// specific where a sharper one was answered.
func TestFewerBitsNeverHurt(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := alone()
		rules.Floor = rapid.Float64Range(1, 1e6).Draw(t, "floor")
		m := key.Mask{Family: key.IPv4, Prefix: uint8(rapid.IntRange(1, 32).Draw(t, "prefix")), DPort: rapid.Bool().Draw(t, "dport")}
		bits := uint8(rapid.IntRange(2, 31).Draw(t, "bits"))
		sharp, blunt := rules.Judge(noon, asker, question(bits, m, 1), policy.History{}), rules.Judge(noon, asker, question(bits-1, m, 1), policy.History{})
		if sharp.Refusal == dossier.Answered && blunt.Refusal != dossier.Answered {
			t.Fatalf("%d bits are answered, %d are refused: %s", bits, bits-1, blunt.Reason)
		}
		if got := policy.Candidates(key.Hash{Kind: key.Linear, Bits: bits}, m); sharp.Refusal == dossier.Answered && got < rules.Floor {
			t.Fatalf("answered with %g candidates under a floor of %g", got, rules.Floor)
		}
	})
}

// TestWithin: who asks the same is counted together whatever the order of clues and
// keys and the blinding; who asks for more, or for something else, is not.
func TestWithin(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := alone()
		full := rapid.SliceOfNDistinct(rapid.Uint64Range(0, 1<<31-1), 1, 5, func(k uint64) uint64 { return k % (1 << 12) }).Draw(t, "keys")
		ask := func(bits uint8, keys []uint64) policy.Asked {
			q := question(bits, service)
			for _, k := range keys {
				q.Clues[0].Keys = append(q.Clues[0].Keys, dossier.AskedKey{K: key.K(k & (1<<bits - 1)), Blinded: []byte(rapid.String().Draw(t, "blinding"))})
			}
			return rules.DescribeAsked(q)
		}
		few, many := uint8(rapid.IntRange(12, 31).Draw(t, "bits")), uint8(rapid.IntRange(12, 31).Draw(t, "more bits"))
		if few > many {
			few, many = many, few
		}
		wide, narrow := ask(few, full), ask(many, rapid.Permutation(full).Draw(t, "order"))
		if !narrow.Within(wide) {
			t.Fatal("the same with longer keys is not within")
		}
		if few < many && wide.Within(narrow) {
			t.Fatal("the same with shorter keys is within")
		}
		another := slices.Clone(full)
		another[rapid.IntRange(0, len(full)-1).Draw(t, "which")] ^= 1 << (few - 1)
		if ask(few, another).Within(wide) {
			t.Fatal("another key is within")
		}
		if more := append(slices.Clone(full), full[0]^1<<(few-1)); ask(few, more).Within(wide) {
			t.Fatal("one key more is within")
		}
		if twice := append(slices.Clone(full), full[0]); ask(few, twice).Within(wide) {
			t.Fatal("a second element under a copied key is within")
		}
		for what, change := range map[string]func(*dossier.Question){
			"state":         func(q *dossier.Question) { q.Clues[0].State = pattern.Failed },
			"state of many": func(q *dossier.Question) { q.Clues[0].State = pattern.InState(flow.OTH) },
			"bound":         func(q *dossier.Question) { q.Clues[0].Bounds = pattern.Bounds{{Measure: pattern.Bytes, Least: 1}} },
			"count":         func(q *dossier.Question) { q.Clues[0].Bounds = pattern.Bounds{{Measure: pattern.Flows, Least: 1}} },
			"end":           func(q *dossier.Question) { q.Clues[0].End = key.In },
			"salt":          func(q *dossier.Question) { q.Clues[0].Salt[0]++ },
		} {
			q := question(few, service)
			for _, k := range full {
				q.Clues[0].Keys = append(q.Clues[0].Keys, dossier.AskedKey{K: key.K(k & (1<<few - 1))})
			}
			change(q)
			if rules.DescribeAsked(q).Within(wide) {
				t.Fatalf("another %s is within", what)
			}
		}
	})
}

// joined asks two clues in the given order of clues and join.
func joined(op pattern.Op, within time.Duration, swapped bool) *dossier.Question {
	q := question(19, service, 7)
	q.Clues = append(q.Clues, dossier.AskedClue{End: key.In, Mask: service, Salt: q.Clues[0].Salt, Keys: []dossier.AskedKey{{K: 9}}})
	left, right := 0, 1
	if swapped {
		q.Clues[0], q.Clues[1] = q.Clues[1], q.Clues[0]
		left, right = 1, 0
	}
	leaf := func(i int) *pattern.Node { return &pattern.Node{Op: pattern.Leaf, Clue: i} }
	if op == pattern.Or {
		q.Branches = []*pattern.Node{leaf(left), leaf(right)}
	} else {
		q.Branches = []*pattern.Node{{Op: op, Within: within, Left: leaf(left), Right: leaf(right)}}
	}
	return q
}

// TestAnAlternativeIsNotWithinAJoin is an attack: somebody asks "A or B" where an
// honest detective asked "A then B", and would be named every host of both.
func TestAnAlternativeIsNotWithinAJoin(t *testing.T) {
	rules := alone()
	honest := rules.DescribeAsked(joined(pattern.Then, 10*time.Minute, false))
	for what, q := range map[string]*dossier.Question{
		"or":              joined(pattern.Or, 0, false),
		"and":             joined(pattern.And, 0, false),
		"then, for years": joined(pattern.Then, 9000*time.Hour, false),
		"and not":         negated(pattern.And, 0),
		"then not":        negated(pattern.Then, 10*time.Minute),
	} {
		if rules.DescribeAsked(q).Within(honest) {
			t.Errorf("%s is within", what)
		}
	}
	if !rules.DescribeAsked(joined(pattern.Then, 10*time.Minute, true)).Within(honest) {
		t.Error("the same with its clues in another order is not within")
	}
}

// negated asks for what fits the first clue of joined without the second.
func negated(op pattern.Op, within time.Duration) *dossier.Question {
	q := joined(op, within, false)
	b := q.Branches[0]
	b.Right = &pattern.Node{Op: pattern.Not, Left: b.Right}
	return q
}

// counted asks for k of three values, of which two are of one clue.
func counted(k int) *dossier.Question {
	q := joined(pattern.Or, 0, false)
	q.Clues[0].Keys = append(q.Clues[0].Keys, dossier.AskedKey{K: 8})
	q.Branches = []*pattern.Node{{Op: pattern.AtLeast, Count: k, Left: &pattern.Node{Op: pattern.Or, Left: q.Branches[0], Right: q.Branches[1]}}}
	return q
}

// TestRidingOnRestrictedQuestions is an attack: somebody asks less narrowly than an
// honest detective did, who left something out or wanted several clues to fit.
func TestRidingOnRestrictedQuestions(t *testing.T) {
	rules := alone()
	everywhere := negated(pattern.And, 0)
	everywhere.Branches[0].Left, everywhere.Branches[0].Right.Left = everywhere.Branches[0].Right.Left, everywhere.Branches[0].Left
	for what, c := range map[string]struct{ honest, rogue *dossier.Question }{
		"without the not":    {negated(pattern.And, 0), question(19, service, 7)},
		"and, not and not":   {negated(pattern.And, 0), joined(pattern.And, 0, false)},
		"the other is not":   {negated(pattern.And, 0), everywhere},
		"not, but only soon": {negated(pattern.And, 0), negated(pattern.Then, time.Minute)},
		"not for less long":  {negated(pattern.Then, time.Hour), negated(pattern.Then, time.Minute)},
		"2 of, not 3 of":     {counted(3), counted(2)},
		"or, not 2 of":       {counted(2), joined(pattern.Or, 0, false)},
	} {
		if rules.DescribeAsked(c.rogue).Within(rules.DescribeAsked(c.honest)) {
			t.Errorf("%s: within", what)
		}
	}
	for what, q := range map[string]func() *dossier.Question{
		"and not":  func() *dossier.Question { return negated(pattern.And, 0) },
		"then not": func() *dossier.Question { return negated(pattern.Then, time.Hour) },
		"2 of":     func() *dossier.Question { return counted(2) },
	} {
		if !rules.DescribeAsked(q()).Within(rules.DescribeAsked(q())) {
			t.Errorf("%s: the same is not within", what)
		}
	}
}

func TestAddresses(t *testing.T) {
	mask := func(family key.AddressFamily, prefix uint8) key.Mask {
		return key.Mask{Family: family, Prefix: prefix, DPort: true}
	}
	for _, c := range []struct {
		q    *dossier.Question
		want int64
	}{
		{question(19, service, 7), 1},
		{question(19, service, 7, 8, 9), 3},
		{question(10, mask(key.IPv4, 24), 7), 256},
		{question(5, mask(key.IPv4, 12), 7, 8), 2 << 20},
		{question(5, mask(key.NoAddr, 0), 7), 1 << 32},
		{question(5, mask(key.IPv6, 128), 7), 1},
		{question(5, mask(key.IPv6, 48), 7), 1 << 16},
		{joined(pattern.Then, time.Hour, false), 1},
		{joined(pattern.Or, 0, false), 2},
		// What is negated does not make an answer smaller: it names all that fits the
		// rest, and says which of it fits the other, too.
		{negated(pattern.And, 0), 2},
		{negated(pattern.Then, time.Hour), 2},
		{counted(2), 3},
	} {
		if got := policy.Addresses(c.q); got != c.want {
			t.Errorf("%v: %d, want %d", c.q.Clues[0].Mask, got, c.want)
		}
	}
	rules := alone()
	if v := rules.Judge(noon, asker, question(2, mask(key.NoAddr, 0), 1), policy.History{}); v.Refusal != dossier.NotPermitted {
		t.Errorf("every address in one question: %q", v.Refusal)
	}
}
