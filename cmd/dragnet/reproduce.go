package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/reproduce"
	"dragnet/reproduce/report"
)

func newReproduce() *cobra.Command {
	var data, out string
	var quick bool
	var output *cli.Format
	var lab report.Lab
	cmd := &cobra.Command{
		Use:   "reproduce [NAME]",
		Short: "Reproduce a table or figure of the papers, next to the paper's numbers",
		Long: `Reproduce runs the experiment behind a table or figure of one of the papers this
program is built from, and prints its numbers next to the paper's, with the
differences and their reasons. Without NAME it lists all reproductions.`,
		Example: `  dragnet reproduce
  dragnet reproduce sharing-figure-1 --out figures`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listReproductions(cmd, *output)
			}
			if lab.Runs < 0 || lab.Runs > 100 || lab.Rounds < 1 || lab.Rounds > 1000 {
				return cli.Usage(fmt.Errorf("--lab %d --lab-rounds %d: 0 to 100 runs of 1 to 1000 rounds are possible", lab.Runs, lab.Rounds))
			}
			r, ok := reproduce.Find(args[0])
			if !ok {
				return cli.Hint(cli.Usage(fmt.Errorf("unknown reproduction %q", args[0])), "'dragnet reproduce' lists them")
			}
			if quick && !r.HasQuick {
				return cli.Usage(fmt.Errorf("%s has one size; --quick is for those whose names begin with pads-", r.Name))
			}
			return runReproduction(cmd, *output, r, report.Environment{Data: data, Quick: quick, Lab: lab}, out)
		},
	}
	for _, r := range reproduce.All() {
		cmd.ValidArgs = append(cmd.ValidArgs, cobra.CompletionWithDesc(r.Name, r.Title))
	}
	output = cli.OutputFlag(cmd)
	cmd.Flags().StringVar(&data, "data", "", "folder of shared captures and logs (default $DRAGNET_DATA; without it, what needs it is left out)")
	cmd.Flags().IntVar(&lab.Runs, "lab", 0, "coresidence-tables and -figures: also this many runs on Open vSwitch in network namespaces; needs root, and minutes for each")
	cmd.Flags().IntVar(&lab.Rounds, "lab-rounds", 40, "tests of each flooder in such a run")
	cmd.Flags().BoolVar(&quick, "quick", false, "pads-...: fewer samples and widths, in minutes, which shows shapes but no small errors")
	cmd.Flags().StringVar(&out, "out", "", "also write the figures as SVG files into this directory")
	return cmd
}

func listReproductions(cmd *cobra.Command, f cli.Format) error {
	type item struct {
		Name   string `json:"name"`
		Title  string `json:"title"`
		Source string `json:"source"`
	}
	rows := cli.Rows[item]{Header: []string{"name", "title", "source"}}
	for _, r := range reproduce.All() {
		rows.Items = append(rows.Items, item{r.Name, r.Title, r.Source})
		rows.Cells = append(rows.Cells, []string{r.Name, r.Title, r.Source})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

func runReproduction(cmd *cobra.Command, f cli.Format, r report.Reproduction, env report.Environment, out string) error {
	if env.Data == "" {
		env.Data = os.Getenv("DRAGNET_DATA")
	}
	progress := newStageProgress()
	env.Progress = progress.addDone
	result, err := r.Run(cmd.Context(), env)
	progress.endStage()
	if err != nil {
		return fmt.Errorf("reproduce %s: %w", r.Name, err)
	}
	if out != "" {
		paths, err := result.WritePlots(out)
		for _, path := range paths {
			fmt.Fprintln(cmd.ErrOrStderr(), "wrote", path)
		}
		if err != nil {
			return err
		}
	}
	return result.Write(cmd.OutOrStdout(), f)
}
