package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"dragnet/contain/ripcord"
	"dragnet/internal/cli"
	"dragnet/trace/daemon"
	"dragnet/trace/token"
	"dragnet/trace/walk"
	"dragnet/trap"
)

// checkResult is one line of doctor's output.
type checkResult struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, limited or broken
	Detail string `json:"detail"`
}

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what a role needs on this machine, and suggest fixes",
		Long: `Doctor checks what the role ident needs on this machine; with --ripcord FILE it
checks what the role ripcord needs with that configuration, and with --trap FILE what
keeps a trap's honeypots apart from others, as far as this machine can know: whether
a honeypot has another network card it cannot.`,
		Args: cobra.NoArgs,
	}
	load := identFlags(cmd)
	var gateway string
	cmd.Flags().StringVar(&gateway, "ripcord", "", "check the role ripcord, with this configuration file")
	var honeypots []string
	cmd.Flags().StringArrayVar(&honeypots, "trap", nil, "check the isolation of a trap's honeypots, with this configuration file; repeat to layer")
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		findings, err := examineRole(load, gateway, honeypots)
		if err != nil {
			return err
		}
		rows := cli.Rows{Header: []string{"check", "result", "detail"}}
		broken := 0
		for _, f := range findings {
			if f.Result == "broken" {
				broken++
			}
			rows.Items = append(rows.Items, f)
			rows.Cells = append(rows.Cells, []string{f.Check, f.Result, f.Detail})
		}
		if err := cli.WriteRows(cmd.OutOrStdout(), *format, rows); err != nil {
			return err
		}
		if broken > 0 {
			return cli.Found(fmt.Errorf("%d checks failed", broken))
		}
		return nil
	}
	return cmd
}

func examineRole(load func() (daemon.Configuration, error), gateway string, honeypots []string) (out []checkResult, err error) {
	add := func(name string, err error, fatal bool, good string) {
		f := checkResult{name, "ok", good}
		if err != nil {
			f.Result, f.Detail = "limited", err.Error()
			if fatal {
				f.Result = "broken"
			}
		}
		out = append(out, f)
	}
	switch {
	case gateway != "" && len(honeypots) > 0:
		return nil, cli.Usage(errors.New("--ripcord and --trap cannot be combined"))
	case gateway != "":
		config, err := ripcord.LoadConfiguration(gateway)
		if err != nil {
			return nil, err
		}
		for _, c := range ripcord.Examine(&config) {
			add(c.Name, c.Err, c.Fatal, c.Good)
		}
		return out, nil
	case len(honeypots) > 0:
		config, err := trap.LoadConfiguration(honeypots...)
		if err != nil {
			return nil, err
		}
		for _, c := range trap.Examine(config) {
			add(c.Name, c.Err, c.Fatal, c.Good)
		}
		return out, nil
	}
	config, err := load()
	if err != nil {
		return nil, err
	}
	return examineIdent(config), nil
}

func examineIdent(config daemon.Configuration) []checkResult {
	var out []checkResult
	add := func(check string, err error, bad, good string) {
		f := checkResult{check, "ok", good}
		if err != nil {
			f.Result, f.Detail = bad, err.Error()
		}
		out = append(out, f)
	}
	key, err := token.LoadKey(daemon.KeyFile(config.State))
	if err != nil {
		add("host key", err, "broken", "")
	} else {
		add("host key", nil, "", "give this to investigators: "+token.FormatKey(publicOf(key)))
		r, err := token.Verify(daemon.RecordsDir(config.State), publicOf(key))
		if err == nil && len(r.Problems) > 0 {
			err = fmt.Errorf("%d problems; see 'dragnet-agent token verify'", len(r.Problems))
		}
		if r.Records == 0 {
			err = nil // no daemon has run yet
		}
		add("records", err, "broken", fmt.Sprintf("%d records", r.Records))
	}
	if f, err := walk.New(config.Walk); err != nil {
		add("look-ups", err, "broken", "")
	} else {
		add("look-ups", f.Limits(), "limited", "eBPF pass, directions recorded")
		f.Close()
	}
	for _, address := range config.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			err = fmt.Errorf("%w (a running daemon is fine)", err)
			add("port "+address, err, "limited", "")
			continue
		}
		add("port "+address, l.Close(), "broken", "free")
	}
	if len(config.Askers) == 0 {
		add("askers", errors.New("no asker may request SV or recursion, so chains end here: list askers under 'askers' in the configuration"), "limited", "")
	} else {
		add("askers", nil, "", fmt.Sprintf("%d networks", len(config.Askers)))
	}
	return out
}
