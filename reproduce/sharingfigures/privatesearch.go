package sharingfigures

import (
	"context"
	"fmt"
	"time"

	"dragnet/ask/survey"
	"dragnet/flow"
	"dragnet/flow/key"
	"dragnet/reproduce/report"
	"dragnet/simulate/border"
)

func privateSearch() report.Reproduction {
	r := report.Reproduction{
		Name: "sharing-private-search", Title: "Loose matching beside exact and fully private ways of asking",
		Source: "Allman et al. 2006, section 3.2 (last paragraph), which points to private stream searching",
	}
	r.Run = func(ctx context.Context, env report.Environment) (*report.Report, error) {
		return runPrivateSearch(ctx, env, report.New(r), trialSize{rows: 200_000, evaluated: 3000, dictionary: 64, filtered: 400, keyBits: 2048})
	}
	return r
}

// trialSize is the amount of data for each method: slow ones get fewer rows.
type trialSize struct{ rows, evaluated, dictionary, filtered, keyBits int }

// trial is one log and one question about it.
type trial struct {
	size   trialSize
	log    rowLog
	mask   key.Mask
	hash   key.Hash
	keyer  *key.Keyer
	tuples []key.Tuple // distinct, in order of appearance
	asked  key.Tuple
	flows  int           // of the tuple asked
	hashed time.Duration // to compute the keys of all rows, on one core
}

// measurement is one row of the table.
type measurement struct {
	name               string
	prepare            time.Duration // the asker's work before
	rows               int
	perRows            time.Duration // the witness's work over those rows
	once               time.Duration // and what does not grow with them
	question, answer   int           // bytes
	found              int           // records or tuples that matched
	witness, detective string        // what each learns
}

func (o measurement) rowRate() float64 { return float64(o.rows) / o.perRows.Seconds() }

// rowLog is a log in memory.
type rowLog []flow.Flow

// Scan calls fn with all flows in batches.
func (l rowLog) Scan(ctx context.Context, _ flow.Window, _ flow.Columns, fn func([]flow.Flow) error) (flow.Coverage, error) {
	var cov flow.Coverage
	const batch = 4096
	for from := 0; from < len(l); from += batch {
		part := l[from:min(from+batch, len(l))]
		cov.Saw(part)
		if err := fn(part); err != nil {
			return cov, err
		}
	}
	return cov, ctx.Err()
}

func newTrial(ctx context.Context, size trialSize) (*trial, error) {
	c := border.DefaultConfiguration()
	c.Connections = size.rows
	day, err := border.New(c)
	if err != nil {
		return nil, err
	}
	t := &trial{size: size, mask: key.Mask{Family: key.IPv4, Prefix: 32, DPort: true, Proto: true}}
	count := map[key.Tuple]int{}
	if _, err := day.Scan(ctx, flow.AllTime, 0, func(b []flow.Flow) error {
		for i := range b {
			t.log = append(t.log, b[i])
			tuple, _ := t.mask.Tuple(&b[i], key.Out)
			if count[tuple]++; count[tuple] == 1 {
				t.tuples = append(t.tuples, tuple)
			}
		}
		return nil
	}); err != nil {
		return nil, err
	}
	// Ask about a rare tuple that occurs: the first one with a few connections.
	for _, tuple := range t.tuples {
		if n := count[tuple]; n >= 3 && n <= 6 {
			t.asked, t.flows = tuple, n
			break
		}
	}
	if t.flows == 0 {
		return nil, fmt.Errorf("no tuple of %d rows has three to six connections", size.rows)
	}
	t.hash = key.Hash{Kind: key.Linear, Bits: uint8(survey.RecommendedBits(len(t.tuples)))}
	if t.keyer, err = key.NewKeyer(t.mask, key.Out, t.hash, key.OneShotSalt(t.mask, "trial")); err != nil {
		return nil, err
	}
	began, want, n := time.Now(), t.keyer.Tuple(t.asked), 0
	for i := range t.log {
		if k, ok := t.keyer.Flow(&t.log[i]); ok && k == want {
			n++
		}
	}
	if t.hashed = time.Since(began); n < t.flows {
		return nil, fmt.Errorf("%d rows have the key of a tuple with %d connections", n, t.flows)
	}
	return t, nil
}

func runPrivateSearch(ctx context.Context, env report.Environment, r *report.Report, size trialSize) (*report.Report, error) {
	t, err := newTrial(ctx, size)
	if err != nil {
		return nil, err
	}
	var all []measurement
	for _, try := range []func(context.Context) (measurement, error){t.runLoose, t.intersectBucket, t.intersectWhole, t.searchPrivately} {
		env.Progress("trying", 1)
		o, err := try(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, o)
	}
	table := report.Table{
		Title: fmt.Sprintf("One question about one of %d tuples in %d rows (%s), on this machine", len(t.tuples), len(t.log), survey.Label(t.hash)),
		Header: []string{
			"way", "witness, rows/s", "and once", "10^8 rows take", "asker prepares", "question, bytes", "answer, bytes", "witness learns", "detective learns",
		},
	}
	for _, o := range all {
		table.Rows = append(table.Rows, []string{
			o.name, survey.Count(o.rowRate()), formatRough(o.once.Seconds()), formatRough(o.once.Seconds() + 1e8/o.rowRate()), formatRough(o.prepare.Seconds()), fmt.Sprint(o.question), fmt.Sprint(o.answer), o.witness, o.detective,
		})
	}
	r.Tables = append(r.Tables, table)
	t.addComment(r, all)
	return r, nil
}

func formatRough(seconds float64) string {
	switch {
	case seconds < 0.001:
		return fmt.Sprintf("%.0f µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.0f ms", seconds*1e3)
	case seconds < 120:
		return fmt.Sprintf("%.1f s", seconds)
	case seconds < 2*3600:
		return fmt.Sprintf("%.0f min", seconds/60)
	case seconds < 48*3600:
		return fmt.Sprintf("%.0f h", seconds/3600)
	}
	return fmt.Sprintf("%.0f days", seconds/86400)
}

// addComment adds a description of the table.
func (t *trial) addComment(r *report.Report, all []measurement) {
	loose, bucket, whole, search := all[0], all[1], all[2], all[3]
	r.Say(`All four were asked about the same tuple (%d connections) of a synthetic border log, and all found it. The first three ran on the whole log, except that the third
evaluated %d tuples and is scaled to all; private stream searching filtered %d rows. The machine may be shared: trust the orders of magnitude.`,
		t.flows, min(t.size.evaluated, len(t.tuples)), search.rows)
	r.Say(`Loose matching hashes every row, and makes an OPRF evaluation and a seal per colliding tuple, of which there are about as many whatever the log's size, since the bits follow it. The intersection inside the bucket is as
ambiguous to the witness and sends %d bytes instead of %d, but says only whether the tuple was seen: the hosts need a second round, in which the witness sees which tag is of interest.
Our answers are that second round, sent at once. Over the whole log the intersection shows the witness nothing but the mask, at %s times the work per question; the tags
serve for many questions only if the witness keeps one key, and then the asker can tell which tuples came back.`,
		bucket.answer, loose.answer, survey.Count(loose.rowRate()/whole.rowRate()))
	r.Say(`Private stream searching hides the key too, at %s times the work of loose matching: every row costs an exponentiation modulo a number of %d bits, whether it matches or not.
Hiding the key among few entries hides little, and the question grows by %d bytes with each entry: as many entries as loose matching has keys (2^%d) would be %s bytes.
It is the naive scheme: batching and smaller payloads gain some factors, not the four or more orders of magnitude.`,
		survey.Count(loose.rowRate()/search.rowRate()), 2*t.size.keyBits, search.question/t.size.dictionary, t.hash.Bits,
		survey.Count(float64(search.question/t.size.dictionary)*float64(uint64(1)<<t.hash.Bits)))
}
