package sharingfigures

import (
	"dragnet/ask/survey"
	"dragnet/reproduce/report"
)

// addComment adds a description of the tables.
func addComment(r *report.Report, seeds, changed, logs []*day, data bool) {
	first := seeds[0]
	p, joint := first.productRow(), changed[len(changed)-1]
	r.Say(`The paper's log (ICSI's border, 27 July 2006) was not published, so its numbers can be set beside
ours, not checked. The synthetic day has as many connections, but its mixture of scans, web, name and mail traffic
is assumed (see 'go doc dragnet/simulate/border'); it was written down before it was measured and not fitted to the paper's numbers.
The interval is over seeds only: it says how much chance does, not how wrong the assumptions may be. For that, see
the table of assumptions.`)
	r.Say(`Where we differ: on the synthetic day %s of connections and %s of keys are unique, against the paper's 11 %% and about two thirds;
the paper's day collided more. Two things decide this. First, how many tuples share the leading
bytes of their address: addresses from the whole Internet seldom have the same product, but tuples of the site's own
addresses differ in the last bytes and the port only, and swapping two bytes, or a zero for a one, gives the same product. So the
size of the address space that is scanned moves the share of keys. Second, how many connections are scans: these mostly
collide, while a popular server outside has many connections on one key that is mostly its own; so the share of scans moves the share of connections.
With a scanned /16 and five times the scans, %s of connections and %s of keys are unique, and %s of keys stand for at most 10 tuples. These two variants were
looked for after the first result was seen, to explain it: they show what the paper's day may have been like, not that it was.`,
		survey.Percent(p.UniqueConnections), survey.Percent(p.UniqueKeys), survey.Percent(joint.productRow().UniqueConnections),
		survey.Percent(joint.productRow().UniqueKeys), survey.Percent(joint.productRow().Sizes.UpTo(10)))
	r.Say(`The paper expects that a smaller window lessens the ambiguity. Over the first hour, %s of connections are unique instead of %s,
but fewer of the keys are (%s instead of %s): the scanned tuples, which collide, are there after an hour, while tuples that come once, most of them unique, go on coming all day.`,
		survey.Percent(changed[0].productRow().UniqueConnections), survey.Percent(p.UniqueConnections),
		survey.Percent(changed[0].productRow().UniqueKeys), survey.Percent(p.UniqueKeys))
	if len(logs) > 0 {
		l := logs[0]
		r.Say(`On %s, a real log of one server under constant scanning, %s of keys and %s of connections are unique.`,
			l.name, survey.Percent(l.productRow().UniqueKeys), survey.Percent(l.productRow().UniqueConnections))
	} else if !data {
		r.Say(`The shared logs were left out: name their folder with --data or DRAGNET_DATA.`)
	}
	compareHashes(r, first.result)
}

// compareHashes adds the conclusions for choosing a hash.
func compareHashes(r *report.Report, day *survey.Result) {
	product, linear := &day.Hashes[0], day.Recommend()
	if linear == nil {
		return
	}
	know := func(h *survey.Row, what string) string {
		if c := h.Knowing(what); c != nil {
			return survey.Count(c.P5)
		}
		return "an unmeasured number of"
	}
	r.Say(`The other hashes: how many answers the product draws follows the traffic (median %.0f, most %.0f), and cannot be set. With %s the detective sets it (median %.0f, most %.0f),
and all questions are protected alike: a reader of the question who guesses the service is left with %s candidates or more in 19 of 20 questions under the product, with %s under %s.
One who also knows that the address lies in %s is left with %s and %s: against such a reader only fewer bits help, at most as many as the unknown part of the address has, less log2 of the candidates wanted.
A modulus that is a power of two is the worst of both: products are mostly multiples of powers of two, so they crowd on few keys.`,
		product.Answers.Median, product.Answers.Max, linear.Hash, linear.Answers.Median, linear.Answers.Max,
		know(product, "service"), know(linear, "service"), linear.Hash, day.Near, know(product, "near+service"), know(linear, "near+service"))
}
