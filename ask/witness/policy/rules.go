// Package policy decides which questions a witness answers when strangers ask:
// who may ask, what, how much, and together with how many others. It is pure:
// the moment and what was asked before are arguments, so that every rule can be
// tested without a clock or a network.
//
// A question passes all rules or is refused by the first that it breaks. No
// rule can be passed by asking more often: more history never turns a refusal
// for budget into an answer.
package policy

import (
	"fmt"
	"slices"
	"time"

	"dragnet/dossier"
	"dragnet/flow/key"
	"dragnet/internal/conf"
)

// Rules are what the operator wants, usually in a separate file.
type Rules struct {
	// Detectives narrows who may ask to these identities (hex, as the roster
	// lists them); empty lets all detectives of the roster ask. A detective that is not
	// on the roster never gets an answer.
	Detectives []string `yaml:"detectives"`
	// Masks are the components that a clue may fix, such as
	// addr4/32+dport+proto; empty permits every mask. A mask permits also those
	// that fix the same components with a shorter prefix, down to /24 (IPv6: /48).
	Masks []string `yaml:"masks"`
	// SingleClues answers the clues of a pattern one by one, so that the
	// detective joins: it then learns of hosts that fit only one of them.
	SingleClues bool `yaml:"single_clues"`
	// PaperMode answers questions sealed from the tuple alone: who records
	// question and answer can then guess at leisure.
	PaperMode bool `yaml:"paper_mode"`
	// Independent is how many detectives of different organisations must have
	// asked the same before any of them gets an answer.
	Independent int `yaml:"independent"`
	// IndependentWithin is how long a question counts towards Independent.
	IndependentWithin time.Duration `yaml:"independent_within"`
	// KeyPrefix is how many bits of two keys must agree for the questions to
	// count as the same: detectives may ask with keys of different sizes.
	KeyPrefix int `yaml:"key_prefix"`
	// Floor is the number of candidates that each key must leave to a reader
	// who guesses the service.
	Floor float64 `yaml:"floor"`
	// TooCommon is the share of flows in the window (0..1) above which a
	// question is refused as too common; 0 never refuses. Counted are the flows
	// that fit a clue, of hosts that can fit the pattern.
	TooCommon float64 `yaml:"too_common"`
	// MaxWindow bounds the time span of a question; 0 permits any, also an
	// open one.
	MaxWindow time.Duration `yaml:"max_window"`
	// EpochDays is how many days old the salts of a question may be.
	EpochDays int `yaml:"epoch_days"`
	// PerOrganisation bounds what the detectives of one organisation may ask in
	// BudgetWithin, however many keys it has.
	PerOrganisation Budget `yaml:"per_organisation"`
	// PerRoster bounds what all detectives together may ask in BudgetWithin.
	PerRoster Budget `yaml:"per_roster"`
	// BudgetWithin is the time over which budgets are counted.
	BudgetWithin time.Duration `yaml:"budget_within"`
}

// BudgetSpan is the grain in which use is counted: what was used at the beginning
// of BudgetWithin may count for that much longer.
const BudgetSpan = time.Hour

// Budget bounds what is asked and what is learnt by it; each key is one guess that
// the witness's help makes possible.
type Budget struct {
	// Questions bounds how many are asked. An organisation's refused questions
	// count towards its own budget only.
	Questions int `yaml:"questions"`
	// Keys bounds the keys in those that were answered.
	Keys int `yaml:"keys"`
	// Bytes bounds the sealed answers.
	Bytes int64 `yaml:"bytes"`
	// Addresses bounds the addresses that answers may be about: a key of a
	// prefix of 24 bits counts 256, one without an address 2^32. IPv6 is
	// counted in networks of 64 bits.
	Addresses int64 `yaml:"addresses"`
	// Hosts bounds the hosts that answers name; one named twice counts twice.
	Hosts int `yaml:"hosts"`
}

// Default is strict enough for an open community: what two organisations ask is
// answered, about addresses or networks that they name. Each may ask a few
// questions a minute all day, but not walk through an address space, nor list the
// witness's hosts within days (docs/explanation/asking.md has the measurement).
func Default() Rules {
	return Rules{
		Detectives: []string{}, Masks: []string{
			"addr4/32", "addr4/32+dport", "addr4/32+proto", "addr4/32+dport+proto",
			"addr6/128", "addr6/128+dport", "addr6/128+proto", "addr6/128+dport+proto",
		},
		Independent: 2, IndependentWithin: 24 * time.Hour, KeyPrefix: 12,
		Floor: 100, TooCommon: 0.25, EpochDays: 30,
		PerOrganisation: Budget{Questions: 2000, Keys: 20_000, Bytes: 1 << 30, Addresses: 1 << 20, Hosts: 500},
		PerRoster:       Budget{Questions: 50_000, Keys: 500_000, Bytes: 16 << 30, Addresses: 1 << 24, Hosts: 5000},
		BudgetWithin:    24 * time.Hour,
	}
}

// Validate reports all invalid settings.
func (r *Rules) Validate() error {
	var p conf.Problems
	for i, m := range r.Masks {
		_, err := key.ParseMask(m)
		p.Error(fmt.Sprintf("masks[%d]", i), err)
	}
	p.Check(r.Independent >= 1 && r.Independent <= 1000, "independent", "is %d; want 1 to 1000 detectives", r.Independent)
	p.Check(r.KeyPrefix >= 1 && r.KeyPrefix <= key.MaxBits, "key_prefix", "is %d; want 1 to %d bits", r.KeyPrefix, key.MaxBits)
	p.Check(r.Floor >= 1, "floor", "is %g; want at least 1 candidate", r.Floor)
	p.Check(r.TooCommon >= 0 && r.TooCommon <= 1, "too_common", "is %g; want a share between 0 and 1", r.TooCommon)
	p.Check(r.MaxWindow >= 0, "max_window", "is %v; want at least 0", r.MaxWindow)
	p.Check(r.EpochDays >= 0, "epoch_days", "is %d; want at least 0", r.EpochDays)
	p.Check(r.IndependentWithin > 0, "independent_within", "is %v; want a positive duration", r.IndependentWithin)
	p.Check(r.BudgetWithin >= BudgetSpan, "budget_within", "is %v; want at least %v", r.BudgetWithin, BudgetSpan)
	p.Section("per_organisation", r.PerOrganisation.validate())
	p.Section("per_roster", r.PerRoster.validate())
	return p.Join()
}

// Asker is a detective as the roster knows it.
type Asker struct {
	// ID is the identity of its key, in hex.
	ID string
	// Class is the organisation behind the detective: two detectives of one
	// class are not independent.
	Class string
}

// Usage is what was asked and answered within a period.
type Usage struct {
	Questions, Keys int
	Bytes           int64
	// Addresses are those opened (function Addresses), Hosts those named.
	Addresses int64
	Hosts     int
}

// isExceeded reports whether one more question exceeds the budget.
func (b Budget) isExceeded(u Usage, keys int, addresses int64) bool {
	return u.Questions >= b.Questions || u.Keys+keys > b.Keys || u.Bytes >= b.Bytes || u.Addresses+addresses > b.Addresses || u.Hosts >= b.Hosts
}

// String describes the usage for the operator.
func (u Usage) String() string {
	return fmt.Sprintf("%d questions with %d keys for %d bytes, about %d addresses, naming %d hosts", u.Questions, u.Keys, u.Bytes, u.Addresses, u.Hosts)
}

// History is the usage before the question.
type History struct {
	// Own and All are what the asker's organisation and all together used within
	// BudgetWithin. All.Questions leaves out those that were refused.
	Own, All Usage
	// Others counts the classes besides the asker's that asked the same within
	// IndependentWithin: whose questions open all that this one may open (Asked)
	// in a window around its own.
	Others int
	// Epochs are the published epochs by day; nil if the community publishes
	// none, and a day is its own epoch.
	Epochs map[string]string
}

// Ruling says whether to answer.
type Ruling struct {
	// Refusal is dossier.Answered if the question may be answered.
	Refusal dossier.Refusal
	// Reason is for the witness's operator, not for the asker.
	Reason string
}

// Judge applies the rules in order: first those that no history can satisfy, last
// those that depend on other askers.
func (r *Rules) Judge(now time.Time, a Asker, q *dossier.Question, h History) Ruling {
	if len(r.Detectives) > 0 && !slices.Contains(r.Detectives, a.ID) {
		return refuse(dossier.NotPermitted, "detective %s is not among policy.detectives", a.ID)
	}
	if v := r.judgeForm(now, q, h.Epochs); v.Refusal != dossier.Answered {
		return v
	}
	n, opened := Keys(q), Addresses(q)
	switch {
	case r.PerOrganisation.isExceeded(h.Own, n, opened):
		return refuse(dossier.OverBudget, "the organisation had %s already", h.Own)
	case r.PerRoster.isExceeded(h.All, n, opened):
		return refuse(dossier.OverBudget, "all organisations had %s already", h.All)
	case h.Others+1 < r.Independent:
		return refuse(dossier.AwaitingOthers, "%d of %d independent detectives asked this", h.Others+1, r.Independent)
	}
	return Ruling{}
}

// JudgeHosts rules on an answer that names a number of hosts, given the usage before.
func (r *Rules) JudgeHosts(hosts int, h History) Ruling {
	switch {
	case h.Own.Hosts+hosts > r.PerOrganisation.Hosts:
		return refuse(dossier.OverBudget, "the answer names %d hosts, and the organisation was named %d already", hosts, h.Own.Hosts)
	case h.All.Hosts+hosts > r.PerRoster.Hosts:
		return refuse(dossier.OverBudget, "the answer names %d hosts, and all organisations were named %d already", hosts, h.All.Hosts)
	}
	return Ruling{}
}

func refuse(why dossier.Refusal, format string, args ...any) Ruling {
	return Ruling{why, fmt.Sprintf(format, args...)}
}

func (b *Budget) validate() error {
	var p conf.Problems
	p.Check(b.Questions >= 1, "questions", "is %d; want at least 1", b.Questions)
	p.Check(b.Keys >= 1, "keys", "is %d; want at least 1", b.Keys)
	p.Check(b.Bytes >= 1, "bytes", "is %d; want at least 1", b.Bytes)
	p.Check(b.Addresses >= 1, "addresses", "is %d; want at least 1", b.Addresses)
	p.Check(b.Hosts >= 1, "hosts", "is %d; want at least 1", b.Hosts)
	return p.Join()
}
