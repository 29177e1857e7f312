package main

import (
	"context"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/simulate/worm"
)

func newWorm() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "worm",
		Short: "Simulate or compute how a worm spreads against DAW's limits, and audit these on logs",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newWormSimulate(), newWormPredict(), newWormAudit())
	return cmd
}

// wormFlags adds the flags of a world, a worm and a defence.
func wormFlags(cmd *cobra.Command, c *worm.Configuration) {
	f := cmd.Flags()
	f.IntVar(&c.Networks, "networks", c.Networks, "customer networks (k)")
	f.Float64Var(&c.Hosts, "hosts", c.Hosts, "vulnerable hosts per network on average (z)")
	f.Float64Var(&c.Space, "space", c.Space, "addresses (N)")
	f.Float64Var(&c.Rate, "rate", c.Rate, "scans per second of an infected host")
	f.Float64Var(&c.Lambda, "lambda", c.Lambda, "failures per second an address may have")
	f.Float64Var(&c.Omega, "omega", c.Omega, "failures a day an address may have")
	f.Float64Var(&c.Phi, "phi", c.Phi, "failures a day a network may have")
	f.Float64Var(&c.Days, "days", c.Days, "days at the limit until a block (n)")
	f.Float64Var(&c.Until, "share", c.Until, "stop when this share of the hosts is infected")
}

func newWormSimulate() *cobra.Command {
	c := worm.DefaultConfiguration()
	c.Until = 0.05
	var runs int
	var perScan bool
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Simulate a worm's spread, over many seeds",
		Long: `Simulate runs a worm among the customer networks of an ISP and prints, over many
seeds, when it infected the given share of hosts and how far it spread.

Budgets: "once" spreads omega (phi) evenly over each day, "twice" the bound
2*omega (2*phi) of the theorems, "agent" follows the limiter through the day.`,
		Example: `  dragnet worm simulate --defence temporal --runs 200
  dragnet worm simulate --defence full --budget agent --share 1 -o json
  dragnet worm simulate --strategy flash --list-live 0.1 --defence both`,
		Args: cobra.NoArgs,
	}
	output := cli.OutputFlag(cmd)
	wormFlags(cmd, &c)
	f := cmd.Flags()
	f.StringVar((*string)(&c.Strategy), "strategy", string(c.Strategy), "random, local, permutation, hit-list or flash")
	f.StringVar((*string)(&c.Defence), "defence", string(c.Defence), "none, basic, temporal, spatial, both or full")
	f.StringVar((*string)(&c.Budget), "budget", string(c.Budget), "once, twice or agent")
	f.BoolVar(&c.Equal, "equal", c.Equal, "networks of equal instead of exponential sizes")
	f.BoolVar(&c.Instant, "instant", c.Instant, "a network falls as a whole with its first host")
	f.Float64Var(&c.LocalShare, "local-share", c.LocalShare, "share of scans within the own network (strategy local)")
	f.Float64Var(&c.LocalSpace, "local-space", c.LocalSpace, "addresses of a network (strategy local)")
	f.IntVar(&c.List, "list", c.List, "length of the hit list")
	f.Float64Var(&c.ListLive, "list-live", c.ListLive, "share of the list that is vulnerable")
	f.Float64Var(&c.Tau, "tau", c.Tau, "failures a day up to which the spatial limit spares a host")
	f.Float64Var(&c.Replies, "replies", c.Replies, "share of failing scans that the edge learns of (p1+p2+p3')")
	f.Float64Var(&c.Deployed, "deployed", c.Deployed, "share of networks behind an edge with DAW")
	f.IntVar(&c.Zones, "zones", c.Zones, "defence zones")
	f.Float64Var(&c.ZonePhi, "zone-phi", c.ZonePhi, "failures a day that may leave a zone; 0 sets no limit")
	f.Float64Var(&c.MaxDays, "max-days", c.MaxDays, "end of a run in days")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "seed of the first run; the others take those after it")
	f.IntVar(&runs, "runs", 100, "number of runs")
	f.BoolVar(&perScan, "per-scan", false, "pass every scan through the limiter itself: slow, for spaces up to 2^24")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.Validate(); err != nil {
			return cli.Usage(err)
		}
		if runs < 1 || runs > 1_000_000 {
			return cli.Usage(fmt.Errorf("--runs %d: want 1 to 1000000", runs))
		}
		results, err := simulateWorm(cmd.Context(), c, runs, perScan)
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "seeds %d to %d\n", c.Seed, c.Seed+uint64(runs)-1)
		return writeWormRuns(cmd, *output, c, results)
	}
	return cmd
}

func simulateWorm(ctx context.Context, c worm.Configuration, runs int, perScan bool) ([]*worm.Outbreak, error) {
	progress := cli.NewProgress("simulating", int64(runs))
	defer progress.Done()
	if !perScan {
		return worm.Ensemble(ctx, c, runs, func(*worm.Outbreak) { progress.Add(1) })
	}
	var all []*worm.Outbreak
	for i := range runs {
		one := c
		one.Seed += uint64(i)
		r, err := worm.PerScan(ctx, one)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
		progress.Add(1)
	}
	return all, nil
}

// wormRun is one run as it is printed; a share never reached has no time.
type wormRun struct {
	Seed    uint64   `json:"seed"`
	Share   float64  `json:"share"`
	Reached *float64 `json:"reached_days"`
	Last    float64  `json:"last_infection_days"`
	*worm.Outbreak
}

func writeWormRuns(cmd *cobra.Command, f cli.Format, c worm.Configuration, results []*worm.Outbreak) error {
	runs := make([]wormRun, len(results))
	var reached, shares, networks []float64
	stopped, scans := 0, 0.0
	for i, r := range results {
		runs[i] = wormRun{Seed: c.Seed + uint64(i), Share: r.Share(), Last: r.Last / worm.Day, Outbreak: r}
		when := r.When(c.Until) / worm.Day
		if !math.IsInf(when, 0) {
			runs[i].Reached = &when
		}
		reached, shares, networks = append(reached, when), append(shares, r.Share()), append(networks, float64(r.Networks))
		scans += r.Scans
		if r.Stopped {
			stopped++
		}
	}
	rows := cli.Rows[wormRun]{Header: []string{"seed", "reached_days", "infected", "vulnerable", "networks", "last_infection_days", "stopped"}}
	rows.Document = struct {
		Configuration worm.Configuration `json:"configuration"`
		Items         []wormRun          `json:"items"`
	}{c, runs}
	for i, r := range runs {
		rows.Items = append(rows.Items, runs[i])
		rows.Cells = append(rows.Cells, []string{fmt.Sprint(r.Seed), formatDays(reached[i]), fmt.Sprint(r.Infected), fmt.Sprint(r.Vulnerable), fmt.Sprint(r.Networks), formatDays(r.Last), fmt.Sprint(r.Stopped)})
	}
	if f != cli.Table {
		return cli.WriteRows(cmd.OutOrStdout(), f, rows)
	}
	var summary [][]string
	for _, q := range []struct {
		name   string
		values []float64
	}{{fmt.Sprintf("days until %g of the hosts", c.Until), reached}, {"infected share", shares}, {"infected networks", networks}} {
		x := worm.QuartilesOf(q.values)
		summary = append(summary, []string{q.name, formatDays(x.Low), formatDays(x.Median), formatDays(x.High)})
	}
	if err := cli.WriteTable(cmd.OutOrStdout(), []string{"quantity", "lower quartile", "median", "upper quartile"}, summary); err != nil {
		return err
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "\n%d of %d runs ended because no infected host was left to scan; %.3g scans in all\n", stopped, len(runs), scans)
	return err
}

func formatDays(v float64) string {
	if math.IsInf(v, 0) {
		return "never"
	}
	return fmt.Sprintf("%.4g", v)
}

func newWormPredict() *cobra.Command {
	c := worm.DefaultConfiguration()
	c.Until = 0.05
	first := 1.0
	cmd := &cobra.Command{
		Use:   "predict",
		Short: "Compute the closed forms and theorems for a worm and DAW's limits",
		Long: `Predict prints what the closed forms give: how long a worm takes with and without
each limit, whether blocking stops it, and which limits reach a target.`,
		Example: `  dragnet worm predict
  dragnet worm predict --networks 20000 --hosts 20 --phi 7000 -o json`,
		Args: cobra.NoArgs,
	}
	output := cli.OutputFlag(cmd)
	wormFlags(cmd, &c)
	cmd.Flags().Float64Var(&first, "first", first, "hosts infected at the start (v)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := c.Validate(); err != nil {
			return cli.Usage(err)
		}
		v := c.Hosts * float64(c.Networks)
		if first <= 0 || first >= c.Until*v {
			return cli.Usage(fmt.Errorf("--first %g: want more than 0 and fewer than the %g hosts asked about", first, c.Until*v))
		}
		return cli.WriteRows(cmd.OutOrStdout(), *output, predictSpread(c, first))
	}
	return cmd
}

// prediction is one line of 'worm predict'. Values that are infinite print as
// null in JSON.
type prediction struct {
	Quantity string   `json:"quantity"`
	Value    *float64 `json:"value"`
	Unit     string   `json:"unit"`
	Formula  string   `json:"formula"`
}

func predictSpread(c worm.Configuration, first float64) cli.Rows[prediction] {
	a, k, z := c.Until, float64(c.Networks), c.Hosts
	v := k * z
	rows := cli.Rows[prediction]{Header: []string{"quantity", "value", "unit", "formula"}}
	add := func(quantity string, value float64, unit, formula string) {
		p := prediction{Quantity: quantity, Unit: unit, Formula: formula}
		if !math.IsInf(value, 0) && !math.IsNaN(value) {
			p.Value = &value
		}
		rows.Items = append(rows.Items, p)
		rows.Cells = append(rows.Cells, []string{quantity, formatDays(value), unit, formula})
	}
	rate := func(r float64) float64 { return worm.TimeTo(a, first, r, v, c.Space) }
	add("time without defence", rate(c.Rate)/60, "min", "t(a) = N/(rV) (ln a/(1-a) - ln v/(V-v))")
	add("time, basic limit", rate(min(c.Rate, c.Lambda))/3600, "h", "t(a) with r = lambda")
	add("time, temporal limit", rate(min(c.Rate, 2*c.Omega/worm.Day))/worm.Day, "d", "t(a) with r = 2 Omega/D")
	add("time, spatial limit, equal networks", worm.NetworkTime(a, k, v, c.Phi, 2, c.Space)/worm.Day, "d", "N D/(2 Phi V) ln(a(k-1)/(1-a))")
	add("time, as in table 2-2", worm.TableTime(a, k, z, c.Phi, 2, c.Space)/worm.Day, "d", "N D/(2 Phi k z') ln(a(V-1)/(1-a)), z' = E[min(X, 30)]")
	add("phi for a week", worm.PhiFor(a, k, v, 7*worm.Day, c.Space), "per day", "Phi at which the spatial limit's time is 7 d")
	add("infected per network before its block", worm.Reproduction(c.Days, c.Phi, v, c.Space), "networks", "2 n Phi V/N; below 1 the worm stops")
	add("networks infected in all", worm.FinalNetworks(c.Days, c.Phi, v, c.Space), "networks", "1/(1 - 2 n Phi V/N)")
	add("scans per host that stop the worm below the share", max(0, (1-first/(a*v))*c.Space/v), "scans", "theorem 1: r dT < (1 - v/(aV)) N/V")
	add("prescan of all addresses by one host", worm.PrescanDays(c.Omega, c.Space)/365, "years", "N/(2 Omega) days")
	return rows
}
