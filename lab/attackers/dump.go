// Package attackers has programs that attack the promises of this system as an
// outsider or a member would, against the real parts, and measure what they get.
// The documentation's figures are theirs. Nothing here is part of a node.
package attackers

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"dragnet/ask/detective"
	"dragnet/ask/witness"
	"dragnet/ask/witness/audit"
	"dragnet/ask/witness/policy"
	"dragnet/dossier"
	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/flow/key"
)

// Dump is a detective of the roster that wants to list the hosts of a witness: it
// asks which hosts were contacted from each of a list of prefixes, many in one
// question, as much as the witness lets it day by day.
type Dump struct {
	Witness *witness.Witness
	Trail   *audit.Trail
	Rules   *policy.Rules
	// Prefixes are asked in this order; all are IPv4 and of one length.
	Prefixes []netip.Prefix
	// Condition, in the language of patterns, narrows every question.
	Condition string
	// First is the first day.
	First time.Time

	learnt  map[netip.Addr]bool
	asked   int // prefixes done
	refused map[dossier.Refusal]int
}

// keysPerQuestion is how many prefixes are asked together.
const keysPerQuestion = 112

// Run asks for a number of days and returns the hosts learnt by the end of each.
func (d *Dump) Run(ctx context.Context, days int) ([]map[netip.Addr]bool, error) {
	d.learnt, d.refused = map[netip.Addr]bool{}, map[dossier.Refusal]int{}
	var out []map[netip.Addr]bool
	for day := range days {
		if err := d.askForADay(ctx, d.First.AddDate(0, 0, day)); err != nil {
			return nil, err
		}
		until := map[netip.Addr]bool{}
		for a := range d.learnt {
			until[a] = true
		}
		out = append(out, until)
	}
	return out, nil
}

// Refused counts the refusals by reason.
func (d *Dump) Refused() map[dossier.Refusal]int { return d.refused }

// patience is how many single prefixes in turn may be refused for the budget before
// the day is given up: one that opens many hosts is refused where the next is not.
const patience = 20

// askForADay asks until the budget is used up. Where many prefixes at once are
// refused, it asks for fewer; a single one that is refused is left out.
func (d *Dump) askForADay(ctx context.Context, now time.Time) error {
	many, over := keysPerQuestion, 0
	for d.asked < len(d.Prefixes) {
		many = min(many, len(d.Prefixes)-d.asked)
		refusal, err := d.ask(ctx, now, d.Prefixes[d.asked:d.asked+many])
		if err != nil {
			return err
		}
		d.refused[refusal]++
		switch {
		case refusal == dossier.Answered:
			d.asked += many
			many, over = min(many+many/4+1, keysPerQuestion), 0
		case many > 1:
			many /= 2
		case refusal == dossier.OverBudget && over == patience:
			d.asked -= patience
			return nil
		case refusal == dossier.OverBudget:
			d.asked++
			over++
		default:
			d.asked++ // too common, or not permitted at all
		}
	}
	return nil
}

func (d *Dump) ask(ctx context.Context, now time.Time, prefixes []netip.Prefix) (dossier.Refusal, error) {
	list := func(string) (io.ReadCloser, error) {
		var b strings.Builder
		for _, p := range prefixes {
			fmt.Fprintln(&b, p)
		}
		return io.NopCloser(strings.NewReader(b.String())), nil
	}
	p, err := pattern.Parse("in src=@list "+d.Condition, list)
	if err != nil {
		return 0, err
	}
	q, err := detective.New(detective.Configuration{
		Mode: dossier.OPRF, Hash: d.sharpestHash(prefixes[0].Bits()), Style: detective.SelfDescribing, Window: flow.AllTime,
		Epoch: now.Format(time.DateOnly), Quorum: 1,
	}, p)
	if err != nil {
		return 0, err
	}
	testimony, refusal, err := d.answer(ctx, now, q.Question())
	if err != nil || refusal != dossier.Answered {
		return refusal, err
	}
	if _, err := q.OpenTestimony(ctx, d.Witness.Name(), testimony); err != nil {
		return 0, err
	}
	for _, h := range q.Result().Hosts {
		d.learnt[h.Host.Addr] = true
	}
	return dossier.Answered, nil
}

// sharpestHash has the most bits that the floor permits.
func (d *Dump) sharpestHash(prefix int) key.Hash {
	h := key.Hash{Kind: key.Linear, Bits: key.MaxBits}
	m := key.Mask{Family: key.IPv4, Prefix: uint8(prefix)}
	for h.Bits > 1 && policy.Candidates(h, m) < d.Rules.Floor {
		h.Bits--
	}
	return h
}

// answer does what a witness's service does with a question that has come in an
// envelope: the audit trail judges and counts it, the witness answers.
func (d *Dump) answer(ctx context.Context, now time.Time, question []byte) (sealed []byte, refusal dossier.Refusal, err error) {
	v := audit.VerifiedQuestion{
		Asker:   policy.Asker{ID: "attacker", Class: "org:attacker"},
		Expires: now.Add(time.Hour), ID: dossier.IDOf(question), Question: &dossier.Question{}, Via: "direct",
	}
	rand.Read(v.Nonce[:]) // it never fails
	if err := v.Question.UnmarshalBinary(question); err != nil {
		return nil, 0, err
	}
	c, err := d.Trail.Begin(ctx, now, d.Rules, v)
	if err == audit.ErrFlood {
		return nil, dossier.OverBudget, nil
	}
	if err != nil || c.Verdict.Refusal != dossier.Answered {
		return nil, c.Verdict.Refusal, err
	}
	sealed, t, err := d.Witness.Testify(ctx, question, func(hosts int) (dossier.Refusal, error) {
		return d.Trail.ChargeHosts(ctx, now, d.Rules, &c, hosts)
	})
	if err != nil {
		return nil, 0, err
	}
	err = d.Trail.Finish(ctx, now, c, audit.Settlement{Refusal: t.Refusal, Answers: len(t.Answers), Bytes: int64(len(sealed))})
	return sealed, t.Refusal, err
}
