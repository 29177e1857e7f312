package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/trace/daemon"
	"dragnet/trace/token"
	"dragnet/trace/walk"
)

// finding is one line of doctor.
type finding struct {
	Check  string `json:"check"`
	Result string `json:"result"` // ok, limited or broken
	Detail string `json:"detail"`
}

func newDoctor() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Check what the role ident needs on this machine, and say what to do",
		Args:  cobra.NoArgs,
	}
	load := identFlags(cmd)
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := load()
		if err != nil {
			return err
		}
		rows := cli.Rows{Header: []string{"check", "result", "detail"}}
		broken := 0
		for _, f := range examine(config) {
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

func examine(config daemon.Configuration) []finding {
	var out []finding
	add := func(check string, err error, bad, good string) {
		f := finding{check, "ok", good}
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
		add("askers", errors.New("nobody may ask for SV or recursion: chains end here; see 'askers' in the configuration"), "limited", "")
	} else {
		add("askers", nil, "", fmt.Sprintf("%d networks", len(config.Askers)))
	}
	return out
}
