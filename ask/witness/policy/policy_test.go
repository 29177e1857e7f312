package policy_test

import (
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

// question asks one clue of a mask, with the standing salt.
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
			rules, q := policy.Default(), question(19, service, 7)
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
		Bytes: rapid.Int64Range(0, 20<<30).Draw(t, name+" bytes"),
	}
}

// TestMoreHistoryNeverHelps: having asked more never turns a refusal into an
// answer, and more others asking never turns an answer into a refusal.
func TestMoreHistoryNeverHelps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := policy.Default()
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
		rules := policy.Default()
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

// TestFingerprint: who asks the same is counted together whatever the size of
// the keys, their order and the blinding; who asks something else is not.
func TestFingerprint(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := policy.Default()
		full := rapid.SliceOfNDistinct(rapid.Uint64Range(0, 1<<31-1), 1, 5, func(k uint64) uint64 { return k % (1 << 12) }).Draw(t, "keys")
		ask := func(bits uint8, order func([]uint64) []uint64) *dossier.Question {
			q := question(bits, service)
			for _, k := range order(full) {
				q.Clues[0].Keys = append(q.Clues[0].Keys, dossier.AskedKey{K: key.K(k & (1<<bits - 1)), Blinded: []byte(rapid.String().Draw(t, "blinding"))})
			}
			return q
		}
		same := func(k []uint64) []uint64 { return k }
		one := ask(uint8(rapid.IntRange(12, 31).Draw(t, "bits")), same)
		two := ask(uint8(rapid.IntRange(12, 31).Draw(t, "other bits")), func([]uint64) []uint64 { return rapid.Permutation(full).Draw(t, "order") })
		if rules.Fingerprint(one) != rules.Fingerprint(two) {
			t.Fatal("the same question has two fingerprints")
		}
		for what, change := range map[string]func(*dossier.Question){
			"key":   func(q *dossier.Question) { q.Clues[0].Keys[0].K ^= 1 },
			"state": func(q *dossier.Question) { q.Clues[0].State = pattern.Failed },
			"end":   func(q *dossier.Question) { q.Clues[0].End = key.In },
			"salt":  func(q *dossier.Question) { q.Clues[0].Salt[0]++ },
		} {
			other := ask(20, same)
			change(other)
			if len(full) == 1 && rules.Fingerprint(one) == rules.Fingerprint(other) {
				t.Fatalf("another %s has the same fingerprint", what)
			}
		}
	})
}
