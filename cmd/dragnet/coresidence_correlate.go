package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dragnet/detect/coresidence"
	"dragnet/internal/cli"
)

func newCoresidenceCorrelate() *cobra.Command {
	o := coresidenceOptions{c: coresidence.DefaultConfiguration(), interval: time.Second}
	least, limit := 0.8, 10_000
	cmd := &cobra.Command{
		Use:   "correlate SOURCE...",
		Short: "List machines whose transmissions correlate, as the paper does",
		Long: `Correlate computes Pearson's correlation of the shares of time in which machines
transmit, for every pair: the time domain as the paper has it. It considers neither
delays nor chance, and two machines that talk to each other correlate; 'coresidence
detect' is the test. Sources and the list of machines are those of 'detect'.`,
		Example: `  dragnet coresidence correlate conn.log --machines machines.csv --least 0.7`,
		Args:    cobra.MinimumNArgs(1),
	}
	o.output = cli.OutputFlag(cmd)
	o.addSpan(cmd)
	f := cmd.Flags()
	f.DurationVar(&o.interval, "interval", o.interval, "length of an interval; no shorter than flows are exported")
	f.Float64Var(&least, "least", least, "smallest correlation that is listed")
	f.IntVar(&limit, "limit", limit, "the most pairs to list, the strongest first")
	cmd.RunE = func(cmd *cobra.Command, sources []string) error {
		if !(least > 0 && least <= 1) || limit < 1 {
			return cli.Usage(errors.New("--least is not between 0 and 1, or --limit not positive"))
		}
		vms, window, err := o.machineList()
		if err != nil {
			return err
		}
		a, skipped, err := o.readActivity(cmd.Context(), sources, vms, window)
		if err != nil {
			return err
		}
		found, dropped, err := coresidence.Correlations(cmd.Context(), a, least, limit)
		if err != nil {
			return err
		}
		slices.SortStableFunc(found, func(x, y coresidence.Correlated) int { return cmp.Compare(y.Rho, x.Rho) })
		rows := cli.Rows[coresidence.Correlated]{Header: []string{"machine", "with", "same tenant", "rho"}}
		for _, c := range found {
			rows.Items = append(rows.Items, c)
			rows.Cells = append(rows.Cells, []string{nameOf(c.First), nameOf(c.Second), fmt.Sprint(c.SameTenant), fmt.Sprintf("%.3f", c.Rho)})
		}
		if err := cli.WriteRows(cmd.OutOrStdout(), *o.output, rows); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "correlated %d pairs of %d machines over %d intervals of %s, from %d flows\n", len(vms)*(len(vms)-1)/2, len(vms), a.Intervals, a.Length, a.Flows)
		if dropped > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d more pairs are not listed (--limit)\n", dropped)
		}
		if skipped > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d lines or packets could not be used\n", skipped)
		}
		return nil
	}
	return cmd
}
