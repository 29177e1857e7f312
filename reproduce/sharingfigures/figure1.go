package sharingfigures

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"dragnet/ask/survey"
	"dragnet/flow"
	"dragnet/internal/plot"
	"dragnet/node/ingest"
	"dragnet/reproduce/report"
	"dragnet/simulate/border"
)

// size of the experiment; tests run a smaller one.
type size struct {
	border        border.Configuration
	seeds         []uint64
	asked, sealed int
}

func fullSize() size {
	return size{border: border.DefaultConfiguration(), seeds: []uint64{1, 2, 3}, asked: 16, sealed: 8}
}

// sharedLogs are real logs in the folder of shared data.
var sharedLogs = [...]string{"zeek-logs/missing_host", "zeek-logs/proxy_rolling"}

// day is one log under the paper's hash.
type day struct {
	name   string
	config border.Configuration
	result *survey.Result
}

func (d *day) productRow() *survey.Row { return &d.result.Hashes[0] }

// logVariants change assumptions of the synthetic day to see their effect. The
// last one combines the two found to move it towards the paper's day.
func logVariants(base border.Configuration) []*day {
	at := func(name string, change func(*border.Configuration)) *day {
		c := base
		change(&c)
		return &day{name: name, config: c}
	}
	large := func(c *border.Configuration) { c.Site = netip.PrefixFrom(c.Site.Addr(), 16).Masked() }
	scanned := func(c *border.Configuration) { c.Shares.Scanned *= 5 }
	return []*day{
		at("its first hour", func(c *border.Configuration) { c.Connections /= 24; c.Duration /= 24 }),
		at("four times the peer-to-peer", func(c *border.Configuration) { c.Shares.Peers *= 4 }),
		at("five times the backscatter", func(c *border.Configuration) { c.Shares.Backscatter *= 5 }),
		at("site of a /16, scanned whole", large),
		at("five times the scans", scanned),
		at("/16 and five times the scans", func(c *border.Configuration) { large(c); scanned(c) }),
	}
}

// runFigure1 surveys, in order: the synthetic day under every hash, other seeds
// and variants of it under the paper's, and the shared logs.
func runFigure1(ctx context.Context, env report.Environment, r *report.Report, s size) (*report.Report, error) {
	first := &day{name: "synthetic day", config: s.border}
	first.config.Seed = s.seeds[0]
	c := survey.DefaultConfiguration()
	c.Asked, c.Sealed, c.Near, c.Progress = s.asked, s.sealed, s.border.Site, env.Progress
	if err := first.runSurvey(ctx, c); err != nil {
		return nil, err
	}
	seeds := []*day{first}
	for _, seed := range s.seeds[1:] {
		config := s.border
		config.Seed = seed
		seeds = append(seeds, &day{name: fmt.Sprintf("seed %d", seed), config: config})
	}
	changed := logVariants(first.config)
	if err := surveyAll(ctx, env, slices.Concat(seeds[1:], changed)); err != nil {
		return nil, err
	}
	logs, err := surveyLogs(ctx, env)
	if err != nil {
		return nil, err
	}
	r.Tables = append(r.Tables, comparisonTable(seeds, logs), sensitivityTable(first, changed))
	for _, t := range first.result.Tables() {
		r.Tables = append(r.Tables, report.Table{Title: "Synthetic day, seed " + fmt.Sprint(first.config.Seed) + ". " + t.Title, Header: t.Header, Rows: t.Cells})
	}
	r.Plots = []report.Plot{
		{Name: r.Name, Title: "The paper's hash on several logs", Drawings: []plot.Drawing{productChart(seeds, changed, logs)}},
		{Name: r.Name + "-hashes", Title: "All hashes on the synthetic day", Drawings: []plot.Drawing{first.result.Figure("Tuples per key: synthetic day, all hashes")}},
	}
	addComment(r, seeds, changed, logs, env.Data != "")
	return r, nil
}

func (d *day) runSurvey(ctx context.Context, c survey.Configuration) error {
	log, err := border.New(d.config)
	if err != nil {
		return err
	}
	d.result, err = survey.Run(ctx, c, log)
	return err
}

// productOnly surveys the paper's hash and nothing slow.
func productOnly(ctx context.Context, log flow.Log, progress func(string, int)) (*survey.Result, error) {
	c := survey.DefaultConfiguration()
	c.Hashes, c.Asked, c.Sealed, c.Progress = []string{"product"}, 0, 0, progress
	return survey.Run(ctx, c, log)
}

// surveyAll runs two at a time: each takes up to about 100 MB.
func surveyAll(ctx context.Context, env report.Environment, days []*day) error {
	var mu sync.Mutex
	g, failed := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, d := range days {
		g.Go(func() error {
			log, err := border.New(d.config)
			if err != nil {
				return err
			}
			d.result, err = productOnly(failed, log, func(_ string, n int) {
				mu.Lock()
				defer mu.Unlock()
				env.Progress("other seeds and assumptions", n)
			})
			return err
		})
	}
	return g.Wait()
}

func surveyLogs(ctx context.Context, env report.Environment) ([]*day, error) {
	if env.Data == "" {
		return nil, nil
	}
	var out []*day
	for _, name := range sharedLogs {
		log, err := ingest.Open(filepath.Join(env.Data, filepath.FromSlash(name)))
		if err != nil {
			return nil, fmt.Errorf("shared log: %w", err)
		}
		result, err := productOnly(ctx, log, env.Progress)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, &day{name: filepath.Base(name), result: result})
	}
	return out, nil
}
