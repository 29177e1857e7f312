package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/detect/coresidence"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/internal/plot"
	"dragnet/node/ingest"
	"dragnet/simulate/cloud"
)

func newCoresidence() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "coresidence",
		Short: "Find tenants of a cloud who verify co-residence",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newCoresidenceDetect(), newCoresidenceCorrelate(), newCoresidenceExplain(), newCoresidenceTrain(), newCoresidenceJudge(),
		newCoresidenceCreations(), newCoresidenceMachines(), newCoresidenceAttack(), newCoresidenceSimulate())
	return cmd
}

// coresidenceOptions are the flags of detect.
type coresidenceOptions struct {
	c                      coresidence.Configuration
	machines, from, to, vm string
	svg                    string
	interval               time.Duration
	output                 *cli.Format
}

func newCoresidenceDetect() *cobra.Command {
	o := coresidenceOptions{c: coresidence.DefaultConfiguration(), interval: time.Second}
	cmd := &cobra.Command{
		Use:   "detect SOURCE...",
		Short: "Find machines that begin to transmit at the same times",
		Long: `Detect compares the times at which virtual machines begin to transmit over the
external network, every pair of them, and each with the other machines of its
tenant. A tenant who verifies co-residence has a master download from a victim
while flooders send, so that they are synchronised far beyond chance. The victim
is synchronised too, as it answers; the column "explained by" then names the
machines that asked it. Exit code 3 means that an alarm has no such explanation.

A SOURCE is a file or directory of Zeek conn logs or captures, a data directory,
or the address of a ClickHouse database. The list of machines is CSV with the
columns address and tenant, and if known name; addresses are those on the external
network. Standard error reports what was compared, and how to show one alarm.`,
		Example: `  dragnet coresidence detect conn.log --machines machines.csv
  dragnet coresidence detect /var/lib/dragnet --machines machines.csv --from 2026-11-22 --interval 10s --svg plots
  dragnet coresidence detect conn.log --machines machines.csv --machine 10.3.0.1 -o json`,
		Args: cobra.MinimumNArgs(1),
	}
	o.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&o.vm, "machine", "", "report only alarms about this address")
	f.StringVar(&o.svg, "svg", "", "also draw each alarm into this directory")
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return o.detectCoresidence(cmd, args) }
	return cmd
}

// addFlags adds those that say what is read and compared.
func (o *coresidenceOptions) addFlags(cmd *cobra.Command) {
	o.output = cli.OutputFlag(cmd)
	o.addSpan(cmd)
	o.addComparison(cmd)
}

// addComparison adds the flags that say how machines are compared.
func (o *coresidenceOptions) addComparison(cmd *cobra.Command) {
	f := cmd.Flags()
	f.Float64Var(&o.c.Rate, "rate", o.c.Rate, "share of the alarms that may be false")
	f.IntVar(&o.c.Lags, "lags", o.c.Lags, "largest delay between two machines, in intervals")
	f.IntVar(&o.c.Quiet, "quiet", o.c.Quiet, "keep-alives: transmissions of less than this many 64ths of an interval")
	f.DurationVar(&o.interval, "interval", o.interval, "length of an interval; no shorter than flows are exported")
}

// addSpan adds the flags that say what is read.
func (o *coresidenceOptions) addSpan(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.machines, "machines", "", "CSV file that lists the machines with their tenants")
	o.addWindow(cmd)
}

func (o *coresidenceOptions) addWindow(cmd *cobra.Command) {
	cmd.Flags().StringVar(&o.from, "from", "", "use flows from this time on, such as 2026-11-22, 2026-11-22T10:00:00Z or -24h (default the first flow)")
	cmd.Flags().StringVar(&o.to, "to", "", "use flows before this time (default the last flow)")
}

func (o *coresidenceOptions) detectCoresidence(cmd *cobra.Command, sources []string) error {
	a, found, skipped, err := o.analyse(cmd.Context(), sources)
	if err != nil {
		return err
	}
	found.Alarms = o.chooseAlarms(found.Alarms)
	if err := o.writeAlarms(cmd, found); err != nil {
		return err
	}
	o.writeAccount(cmd.ErrOrStderr(), a, found, skipped)
	for _, alarm := range found.Alarms {
		if alarm.ExplainedBy == nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "to see the first one in detail: %s\n", o.command(sources, a, alarm))
			break
		}
	}
	if o.svg != "" {
		if err := drawAlarms(cmd.ErrOrStderr(), o.svg, a, found.Alarms); err != nil {
			return err
		}
	}
	if n := countUnexplained(found.Alarms); n > 0 {
		return cli.Found(fmt.Errorf("%s", cli.Plural(n, "alarm")))
	}
	return nil
}

// machineList reads the list of machines, and the window of the flags.
func (o *coresidenceOptions) machineList() (vms []coresidence.VM, window flow.Window, err error) {
	if o.machines == "" {
		return nil, window, cli.Hint(cli.Usage(errors.New("--machines is missing")), "list the machines in a CSV file whose first line is: address,tenant,name")
	}
	if vms, err = readFile(o.machines, coresidence.ReadVMs); err != nil {
		return nil, window, err
	}
	window, err = o.window()
	return vms, window, err
}

// window is that of the flags.
func (o *coresidenceOptions) window() (window flow.Window, err error) {
	window = flow.AllTime
	for _, x := range []struct {
		flag, text string
		into       *flow.Time
	}{{"--from", o.from, &window.From}, {"--to", o.to, &window.To}} {
		if x.text != "" {
			if *x.into, err = parseTime(x.flag, x.text); err != nil {
				return window, cli.Usage(err)
			}
		}
	}
	return window, nil
}

// analyse reads the sources and compares all machines.
func (o *coresidenceOptions) analyse(ctx context.Context, sources []string) (*coresidence.Activity, coresidence.Result, uint64, error) {
	if err := o.c.Validate(); err != nil {
		return nil, coresidence.Result{}, 0, cli.Usage(err)
	}
	vms, window, err := o.machineList()
	if err != nil {
		return nil, coresidence.Result{}, 0, err
	}
	a, skipped, err := o.readActivity(ctx, sources, vms, window)
	if err != nil {
		return nil, coresidence.Result{}, 0, err
	}
	found, err := coresidence.Detect(ctx, a, o.c)
	return a, found, skipped, err
}

func readFile[T any](name string, parse func(io.Reader) (T, error)) (v T, err error) {
	f, err := os.Open(name)
	if err != nil {
		return v, err
	}
	defer f.Close()
	if v, err = parse(f); err != nil {
		return v, fmt.Errorf("%s: %w", name, err)
	}
	return v, nil
}

// readActivity reads the sources, twice if the flags do not give the span: to find
// the span, and to fill its intervals.
func (o *coresidenceOptions) readActivity(ctx context.Context, sources []string, vms []coresidence.VM, w flow.Window) (*coresidence.Activity, uint64, error) {
	if w.From == flow.MinTime || w.To == 0 {
		first, last := flow.MaxTime, flow.MinTime
		_, err := scanAll(ctx, sources, w, 0, "finding the span", func(f *flow.Flow) {
			first, last = min(first, f.Start), max(last, f.Start)
		})
		if err != nil {
			return nil, 0, err
		}
		if first > last {
			return nil, 0, cli.Hint(errors.New("no flow was read"), "check the sources with 'dragnet flow import', and --from and --to")
		}
		if w.From == flow.MinTime {
			w.From = first
		}
		if w.To == 0 {
			w.To = last + 1
		}
	}
	if o.interval <= 0 || w.To <= w.From {
		return nil, 0, cli.Usage(errors.New("--interval must be positive, and --to later than --from"))
	}
	intervals := (w.To-w.From-1)/flow.Time(o.interval) + 1
	if intervals > 1<<16 {
		return nil, 0, cli.Hint(cli.Usage(fmt.Errorf("%d intervals of %s are more than %d", intervals, o.interval, 1<<16)), "choose a longer --interval, or a shorter span by --from and --to")
	}
	a, err := coresidence.NewActivity(vms, w.From, o.interval, int(intervals))
	if err != nil {
		return nil, 0, cli.Usage(err)
	}
	skipped, err := scanAll(ctx, sources, w, flow.Lasting|flow.Counts, "reading flows", func(f *flow.Flow) {
		a.Add([]flow.Flow{*f})
	})
	return a, skipped, err
}

// scanAll calls each with every flow, one at a time, and returns the number of
// lines or packets that could not be used.
func scanAll(ctx context.Context, sources []string, w flow.Window, cols flow.Columns, what string, each func(*flow.Flow)) (skipped uint64, err error) {
	progress := cli.NewProgress(what, 0)
	defer progress.Done()
	for _, path := range sources {
		log, err := ingest.Open(path)
		if err != nil {
			return 0, err
		}
		cov, err := log.Scan(ctx, w, cols, flow.SerializeCalls(func(flows []flow.Flow) error {
			progress.Add(int64(len(flows)))
			for i := range flows {
				each(&flows[i])
			}
			return nil
		}))
		if err != nil {
			return 0, err
		}
		skipped += cov.Skipped
	}
	return skipped, nil
}

func (o *coresidenceOptions) chooseAlarms(all []coresidence.Alarm) []coresidence.Alarm {
	if o.vm == "" {
		return all
	}
	about := func(vm coresidence.VM) bool { return vm.Address.String() == o.vm }
	return slices.DeleteFunc(all, func(a coresidence.Alarm) bool { return !slices.ContainsFunc(a.Machines(), about) })
}

func countUnexplained(all []coresidence.Alarm) (n int) {
	for _, a := range all {
		if a.ExplainedBy == nil {
			n++
		}
	}
	return n
}

func nameOf(vm coresidence.VM) string {
	if vm.Name == "" {
		return vm.Address.String()
	}
	return vm.Name + " (" + vm.Address.String() + ")"
}

func namesOf(vms []coresidence.VM) string {
	var names []string
	for _, vm := range vms {
		names = append(names, nameOf(vm))
	}
	return strings.Join(names, ", ")
}

func (o *coresidenceOptions) writeAlarms(cmd *cobra.Command, found coresidence.Result) error {
	rows := cli.Rows[coresidence.Alarm]{Header: []string{"tenant", "machine", "with", "p", "hits", "expected", "lag", "explained by"}, Document: found}
	for _, a := range found.Alarms {
		tenant, by := a.VM.Tenant, ""
		if !a.SameTenant {
			tenant += ", " + a.Others[0].Tenant
		}
		if a.ExplainedBy != nil {
			by = a.ExplainedBy.String()
		}
		rows.Items = append(rows.Items, a)
		rows.Cells = append(rows.Cells, []string{
			tenant, namesOf(append([]coresidence.VM{a.VM}, a.With...)), namesOf(a.Others), fmt.Sprintf("%.2g", a.P), fmt.Sprintf("%d of %d", a.Hits, a.Onsets), fmt.Sprintf("%.1f", a.Expected), lagOf(a), by,
		})
	}
	return cli.WriteRows(cmd.OutOrStdout(), *o.output, rows)
}

func lagOf(a coresidence.Alarm) string {
	if a.Tolerance > 0 {
		return fmt.Sprintf("%+d to %+d", a.Lag-a.Tolerance, a.Lag+a.Tolerance)
	}
	return fmt.Sprintf("%+d", a.Lag)
}

// writeAccount reports what was compared, which matters most if nothing was found.
func (o *coresidenceOptions) writeAccount(w io.Writer, a *coresidence.Activity, r coresidence.Result, skipped uint64) {
	end := a.Start + flow.Time(a.Length)*flow.Time(a.Intervals)
	fmt.Fprintf(w, "read %d flows of %d machines, of which %d transmitted, from %s to %s: %d intervals of %s, %d without any flow\n",
		a.Flows, r.VMs, r.Active, formatSecond(a.Start), formatSecond(end), r.Intervals, a.Length, r.Intervals-r.Observed)
	fmt.Fprintf(w, "compared %d pairs of one tenant, %d pairs of two, and %d machines with the rest of their tenant, each up to %d intervals apart\n", r.SamePairs, r.CrossPairs, r.Groups, o.c.Lags)
	if r.Interrupted > 0 {
		fmt.Fprintf(w, "warning: the switches of %s exported nothing for a while; those intervals do not count for them\n", cli.Plural(r.Interrupted, "machine"))
	}
	if r.LargeTenants > 0 {
		fmt.Fprintf(w, "%s had too many machines to compare each with all others\n", cli.Plural(r.LargeTenants, "tenant"))
	}
	if r.Dropped > 0 {
		fmt.Fprintf(w, "warning: %d conspicuous pairs were not tested because the table was full; choose a shorter span\n", r.Dropped)
	}
	if skipped > 0 {
		fmt.Fprintf(w, "warning: %d lines or packets could not be used\n", skipped)
	}
	if a.Flows == 0 {
		fmt.Fprintln(w, "warning: no flow concerns a listed machine; are their external addresses listed?")
	}
}

// drawAlarms draws the transmissions of the machines of each alarm over time.
func drawAlarms(w io.Writer, dir string, a *coresidence.Activity, alarms []coresidence.Alarm) error {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	for n, alarm := range alarms {
		path := filepath.Join(dir, fmt.Sprintf("alarm-%d.svg", n+1))
		f, err := os.Create(path)
		if err != nil {
			return err
		}
		err = plot.WritePage(f, 1, alarmChart(a, alarm))
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		fmt.Fprintln(w, "wrote", path)
	}
	return nil
}

// around is how many intervals are drawn before the first that counted, and after
// the last.
const around = 30

// alarmChart has a curve of r(t) for each machine, one above the other, and a dot
// at each interval that counted.
func alarmChart(a *coresidence.Activity, alarm coresidence.Alarm) plot.Chart {
	first, last := 0, a.Intervals-1
	if n := len(alarm.Intervals); n > 0 {
		at := func(t flow.Time) int { return int((t - a.Start) / flow.Time(a.Length)) }
		first, last = max(0, at(alarm.Intervals[0])-around), min(last, at(alarm.Intervals[n-1])+around)
	}
	seconds := func(t int) float64 { return float64(t) * a.Length.Seconds() }
	vms := alarm.Machines()
	c := plot.Chart{
		Title: fmt.Sprintf("p = %.2g: %d of %d together, %.1f expected", alarm.P, alarm.Hits, alarm.Onsets, alarm.Expected),
		X:     plot.Axis{Label: "seconds after " + formatSecond(a.Start), Min: seconds(first), Max: seconds(last + 1)},
		// The legend has room above the curves.
		Y: plot.Axis{Label: "share of the interval, by machine", Min: -0.2, Max: 1.2 * float64(len(vms)) / (0.92 - 0.05*float64(min(len(vms), 9)))},
	}
	for k, vm := range vms {
		s := plot.Series{Name: nameOf(vm), Kind: plot.Step}
		for t, r := range a.ShareOf(vm)[first : last+1] {
			s.X, s.Y = append(s.X, seconds(first+t)), append(s.Y, r+1.2*float64(k))
		}
		c.Series = append(c.Series, s)
	}
	dots := plot.Series{Name: "began together", Kind: plot.Dots}
	for _, t := range alarm.Intervals {
		dots.X, dots.Y = append(dots.X, time.Duration(t-a.Start).Seconds()), append(dots.Y, -0.1)
	}
	c.Series = append(c.Series, dots)
	return c
}

func newCoresidenceSimulate() *cobra.Command {
	c := cloud.Paper(20, false, 1)
	cmd := &cobra.Command{
		Use:   "simulate DIR",
		Short: "Make the flows of a cloud with or without an attack",
		Long: `Simulate writes the flows of a small cloud into DIR, as conn.log and machines.csv
for 'coresidence detect': web servers and clients, and a tenant whose master
measures downloads while flooders send. No packet is sent.`,
		Example: `  dragnet coresidence simulate cloud
  dragnet coresidence simulate quiet --flooders 0 --servers 100 --clients 40`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			run, err := cloud.Simulate(c)
			if err != nil {
				return cli.Usage(err)
			}
			if err := os.MkdirAll(args[0], 0o777); err != nil {
				return err
			}
			return errors.Join(writeFile(filepath.Join(args[0], "conn.log"), run.WriteLog), writeFile(filepath.Join(args[0], "machines.csv"), run.WriteVMs))
		},
	}
	f := cmd.Flags()
	f.IntVar(&c.Servers, "servers", c.Servers, "web servers")
	f.IntVar(&c.Inside, "clients", c.Inside, "clients that are machines of the cloud")
	f.IntVar(&c.Outside, "outside", c.Outside, "clients elsewhere")
	f.IntVar(&c.Flooders, "flooders", c.Flooders, "flooders of the attacker; 0 means no attack")
	f.IntVar(&c.Tests, "tests", c.Tests, "tests of each flooder")
	f.BoolVar(&c.HighRate, "high-rate", c.HighRate, "ten times the flows of a server")
	f.IntVar(&c.Lag, "lag", c.Lag, "largest random delay of a flooder, in seconds")
	f.IntVar(&c.Seconds, "seconds", c.Seconds, "length of the run")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "the same seed gives the same flows")
	return cmd
}

func writeFile(name string, write func(io.Writer) error) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}
