package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"dragnet/detect/coresidence"
	"dragnet/flow"
	"dragnet/internal/cli"
)

// readFlows are the flows of the sources that concern a listed machine, each as
// one switch saw it; without a list, all.
func (o *coresidenceOptions) readFlows(ctx context.Context, sources []string, vms []coresidence.VM, w flow.Window) (flows []flow.Flow, skipped uint64, err error) {
	const most = 4 << 20
	listed := map[netip.Addr]bool{}
	for _, vm := range vms {
		listed[vm.Address] = true
	}
	over := false
	skipped, err = scanAll(ctx, sources, w, flow.AllColumns, "reading flows", func(f *flow.Flow) {
		switch {
		case len(vms) > 0 && !listed[f.Orig] && !listed[f.Resp]:
		case len(flows) == most:
			over = true
		default:
			flows = append(flows, *f)
		}
	})
	if err == nil && over {
		err = cli.Hint(fmt.Errorf("more than %d flows", most), "take a shorter span by --from and --to")
	}
	return coresidence.Unique(flows), skipped, err
}

func newCoresidenceTrain() *cobra.Command {
	o := coresidenceOptions{}
	method, options, file, length := string(coresidence.DBSCAN), coresidence.DefaultFlowOptions(), "", 10*time.Second
	cmd := &cobra.Command{
		Use:   "train SOURCE...",
		Short: "Learn how legitimate flows and sessions look",
		Long: `Train groups the flows of a time without attack (k-means, single linkage, or
DBSCAN), and counts which groups follow each other in sessions. 'coresidence
judge' compares other flows with them. A third of the flows is held out, to
measure how far legitimate flows lie from the rest. With --machines only flows of
these machines count.`,
		Example: `  dragnet coresidence train quiet/conn.log --machines quiet/machines.csv --model model.json
  dragnet coresidence train /var/lib/dragnet --method k-means --k 12 --to 2026-11-22 --model model.json`,
		Args: cobra.MinimumNArgs(1),
	}
	o.addSpan(cmd)
	f := cmd.Flags()
	f.StringVar(&file, "model", "", "file to write")
	f.StringVar(&method, "method", method, `"k-means", "single linkage" or "DBSCAN"`)
	f.IntVar(&options.K, "k", options.K, "groups of k-means")
	f.Float64Var(&options.Radius, "radius", options.Radius, "distance of neighbours, in standard deviations")
	f.IntVar(&options.Least, "least", options.Least, "neighbours of a core, and smallest group")
	f.DurationVar(&length, "session", length, "time within which flows of two machines form a session")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return cli.Usage(errors.New("--model is missing: name the file to write"))
		}
		var vms []coresidence.VM
		window, err := o.window()
		if err == nil && o.machines != "" {
			vms, err = readFile(o.machines, coresidence.ReadVMs)
		}
		if err != nil {
			return err
		}
		flows, skipped, err := o.readFlows(cmd.Context(), args, vms, window)
		if err != nil {
			return err
		}
		m, err := coresidence.Train(flows, coresidence.Method(method), options, length)
		if err != nil {
			return err
		}
		if err := writeFile(file, m.Write); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s: %d flows in %s by %s; %d lines or packets could not be used\n", file, len(flows), cli.Plural(m.Groups(), "group"), method, skipped)
		return nil
	}
	return cmd
}

func newCoresidenceJudge() *cobra.Command {
	o := coresidenceOptions{c: coresidence.DefaultConfiguration()}
	var file string
	cmd := &cobra.Command{
		Use:   "judge SOURCE...",
		Short: "Find machines with flows or sessions unlike those of training",
		Long: `Judge counts for each machine the flows that lie outside every cluster of the
model, and the sessions that are unusual by the order or the number of their
flows; of legitimate ones, one in twenty would count. It lists machines with more
of them than chance gives. An attacker who shapes flows like a server's is not
found by flows, and at a low rate not by sessions; 'coresidence detect' looks at
times. Exit code 3 means that a machine was found.`,
		Example: `  dragnet coresidence judge conn.log --machines machines.csv --model model.json`,
		Args:    cobra.MinimumNArgs(1),
	}
	o.output = cli.OutputFlag(cmd)
	o.addSpan(cmd)
	cmd.Flags().StringVar(&file, "model", "", "file that 'coresidence train' wrote")
	cmd.Flags().Float64Var(&o.c.Rate, "rate", o.c.Rate, "share of the listed machines that may be listed wrongly, in each domain")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if file == "" {
			return cli.Hint(cli.Usage(errors.New("--model is missing")), "'dragnet coresidence train' writes it")
		}
		if err := o.c.Validate(); err != nil {
			return cli.Usage(err)
		}
		vms, window, err := o.machineList()
		if err != nil {
			return err
		}
		m, err := readFile(file, coresidence.ReadModel)
		if err != nil {
			return err
		}
		flows, skipped, err := o.readFlows(cmd.Context(), args, vms, window)
		if err != nil {
			return err
		}
		odd, sessions, err := m.JudgeSessions(flows, vms, o.c.Rate)
		if err != nil {
			return err
		}
		odd = slices.Concat(m.JudgeFlows(flows, vms, o.c.Rate), odd)
		if err := writeOdd(cmd.OutOrStdout(), *o.output, odd); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "judged %d flows and %d sessions of %d machines by a model of %d flows (%s); %d lines or packets could not be used\n", len(flows), sessions, len(vms), m.Trained, m.Method, skipped)
		if len(odd) > 0 {
			return cli.Found(errors.New(cli.Plural(len(odd), "odd count")))
		}
		return nil
	}
	return cmd
}

func writeOdd(w io.Writer, f cli.Format, odd []coresidence.OddMachine) error {
	rows := cli.Rows[coresidence.OddMachine]{Header: []string{"tenant", "machine", "domain", "odd", "p"}}
	for _, x := range odd {
		rows.Items = append(rows.Items, x)
		rows.Cells = append(rows.Cells, []string{x.VM.Tenant, nameOf(x.VM), x.Domain, fmt.Sprintf("%d of %d", x.Outside, x.Seen), fmt.Sprintf("%.2g", x.P)})
	}
	return cli.WriteRows(w, f, rows)
}

func newCoresidenceCreations() *cobra.Command {
	span, most := time.Hour, 10
	cmd := &cobra.Command{
		Use:   "creations MACHINES",
		Short: "Count the machines that each tenant created within a span",
		Long: `Creations is the baseline that the paper rejects: who creates many machines within
a short time may look for a victim, or run a web shop. It reads the column
"created" of the list of machines (RFC 3339). Exit code 3 means that a tenant
created more than --most.`,
		Example: `  dragnet coresidence creations machines.csv --span 1h --most 10`,
		Args:    cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(cmd)
	cmd.Flags().DurationVar(&span, "span", span, "length of the span")
	cmd.Flags().IntVar(&most, "most", most, "machines that are not remarkable")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		vms, err := readFile(args[0], coresidence.ReadVMs)
		if err != nil {
			return err
		}
		unknown := 0
		for _, vm := range vms {
			if vm.Created.IsZero() {
				unknown++
			}
		}
		var all []creation
		for tenant, n := range coresidence.Creations(vms, span) {
			all = append(all, creation{tenant, n, n > most})
		}
		slices.SortFunc(all, func(a, b creation) int { return cmp.Or(b.Most-a.Most, cmp.Compare(a.Tenant, b.Tenant)) })
		rows, over := cli.Rows[creation]{Header: []string{"tenant", "created within " + span.String(), "remarkable"}}, 0
		for _, c := range all {
			rows.Items = append(rows.Items, c)
			rows.Cells = append(rows.Cells, []string{c.Tenant, fmt.Sprint(c.Most), fmt.Sprint(c.Over)})
			if c.Over {
				over++
			}
		}
		if err := cli.WriteRows(cmd.OutOrStdout(), *output, rows); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "looked at %d machines, of which %d have no time of creation\n", len(vms), unknown)
		if over > 0 {
			return cli.Found(errors.New(cli.Plural(over, "tenant") + " created many"))
		}
		return nil
	}
	return cmd
}

// creation is one line of it in JSON.
type creation struct {
	Tenant string `json:"tenant"`
	Most   int    `json:"most"`
	Over   bool   `json:"remarkable"`
}
