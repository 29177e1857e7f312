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
	var output *cli.Format
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
			r, ok := reproduce.Find(args[0])
			if !ok {
				return cli.Hint(cli.Usage(fmt.Errorf("unknown reproduction %q", args[0])), "'dragnet reproduce' lists them")
			}
			return runReproduction(cmd, *output, r, data, out)
		},
	}
	output = cli.OutputFlag(cmd)
	cmd.Flags().StringVar(&data, "data", "", "folder of shared captures and logs (default $DRAGNET_DATA; without it, what needs it is left out)")
	cmd.Flags().StringVar(&out, "out", "", "also write the figures as SVG files into this directory")
	return cmd
}

func listReproductions(cmd *cobra.Command, f cli.Format) error {
	type item struct {
		Name   string `json:"name"`
		Title  string `json:"title"`
		Source string `json:"source"`
	}
	rows := cli.Rows{Header: []string{"name", "title", "source"}}
	for _, r := range reproduce.All() {
		rows.Items = append(rows.Items, item{r.Name, r.Title, r.Source})
		rows.Cells = append(rows.Cells, []string{r.Name, r.Title, r.Source})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

func runReproduction(cmd *cobra.Command, f cli.Format, r report.Reproduction, data, out string) error {
	if data == "" {
		data = os.Getenv("DRAGNET_DATA")
	}
	progress := newStageProgress()
	result, err := r.Run(cmd.Context(), report.Environment{Data: data, Progress: progress.addDone})
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
