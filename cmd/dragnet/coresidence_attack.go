package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/lab/cloudlab"
	"dragnet/simulate/cloud"
)

func newCoresidenceAttack() *cobra.Command {
	c, paper, export := cloudlab.Short(), false, string(cloudlab.NetFlow)
	cmd := &cobra.Command{
		Use:   "attack DIR",
		Short: "Build a small cloud on this machine, and verify co-residence in it",
		Long: `Attack builds a cloud of network namespaces, with bridges of Open vSwitch as its
servers, and lets a master and flooders verify co-residence in it for real. It
attacks nothing else: it takes no address, and the namespaces have no way out.
What the switches export is written to DIR, as conn.log and machines.csv for
'coresidence detect'; standard output shows how sure the attacker is. All is
removed at the end. It needs root, and Debian's openvswitch-switch and iproute2.`,
		Example: `  sudo dragnet coresidence attack lab
  dragnet coresidence detect lab/conn.log --machines lab/machines.csv --interval 500ms`,
		Args: cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.BoolVar(&paper, "paper", false, "as many machines as the paper's test bed, and more rounds; takes minutes")
	f.IntVar(&c.Rounds, "rounds", c.Rounds, "rounds of tests, one of each flooder")
	f.IntVar(&c.Flooders, "flooders", c.Flooders, "flooders; the first is co-resident with the victim")
	f.BoolVar(&c.HighRate, "high-rate", false, "ten flows instead of one")
	f.IntVar(&c.Lag, "lag", 0, "largest random delay of a flooder, in intervals")
	f.DurationVar(&c.Interval, "interval", c.Interval, "interval of the detector")
	f.StringVar(&export, "export", export, "protocol of the switches: netflow, ipfix or sflow")
	f.IntVar(&c.Sampling, "sampling", c.Sampling, "sFlow exports one packet of this many")
	f.Uint64Var(&c.Seed, "seed", c.Seed, "decides who does what when")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.Export = cloudlab.Export(export)
		if paper {
			p := cloudlab.Paper()
			c.Bridges, c.Servers, c.Inside, c.Outside = p.Bridges, p.Servers, p.Inside, p.Outside
			if !cmd.Flags().Changed("rounds") {
				c.Rounds = p.Rounds
			}
		}
		if err := c.Validate(); err != nil {
			return cli.Usage(err)
		}
		if err := cloudlab.Ready(); err != nil {
			return err
		}
		if err := os.MkdirAll(args[0], 0o777); err != nil {
			return err
		}
		run, err := attackLab(cmd, c)
		if err != nil {
			return err
		}
		if err := errors.Join(writeFile(filepath.Join(args[0], "conn.log"), run.WriteLog), writeFile(filepath.Join(args[0], "machines.csv"), run.WriteVMs)); err != nil {
			return err
		}
		return printCertainty(cmd, *output, run)
	}
	return cmd
}

func attackLab(cmd *cobra.Command, c cloudlab.Configuration) (run *cloud.Run, err error) {
	w, err := cloudlab.New(cmd.Context(), c)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	fmt.Fprintf(cmd.ErrOrStderr(), "%d rounds, about %.0f s\n", c.Rounds, float64(c.Rounds*(1+c.Flooders))*5.2*c.Interval.Seconds())
	return w.Attack()
}

// printCertainty shows for each flooder the attacker's statistic (equation 1).
func printCertainty(cmd *cobra.Command, f cli.Format, run *cloud.Run) error {
	rows := cli.Rows[certainty]{Header: []string{"flooder", "co-resident", "tests", "mean alpha_min"}}
	for k, levels := range run.Levels {
		sum := 0.0
		for _, x := range levels {
			sum += x
		}
		item := certainty{run.Flooders[k].String(), k == 0, len(levels), sum / float64(max(1, len(levels)))}
		rows.Items = append(rows.Items, item)
		rows.Cells = append(rows.Cells, []string{item.Flooder, fmt.Sprint(item.CoResident), fmt.Sprint(item.Tests), fmt.Sprintf("%.3g", item.Level)})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

// certainty is one line of it in JSON.
type certainty struct {
	Flooder    string  `json:"flooder"`
	CoResident bool    `json:"co_resident"`
	Tests      int     `json:"tests"`
	Level      float64 `json:"mean_alpha_min"`
}
