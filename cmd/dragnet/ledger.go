package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/user"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/centre"
	"dragnet/node/decisions"
	"dragnet/node/layout"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// openLedger is what a node found and decided: a running node's, or that of a data
// directory, with the same calls.
type openLedger struct {
	decisions nodev1connect.DecisionServiceClient
	findings  nodev1connect.FindingServiceClient
	// node is the address of the running node; empty for a data directory.
	node  string
	Close func() error
}

// ledgerFlags adds the flags that name a ledger, and returns what opens it.
func ledgerFlags(cmd *cobra.Command) func() (*openLedger, error) {
	at := &nodeFlags{}
	at.addNodeFlag(cmd)
	at.addDataFlag(cmd, "data directory of the node, or the URL of its PostgreSQL database")
	return func() (*openLedger, error) {
		if err := at.choose(cmd); err != nil {
			return nil, err
		}
		if at.node != "" {
			return dialLedger(at)
		}
		return openLedgerAt(cmd.Context(), at.data)
	}
}

// ledgerTask is what a verb does with a ledger.
type ledgerTask func(cmd *cobra.Command, book *openLedger, args []string) error

// runOnLedger adds the flags that name a ledger, and has cmd open it and do a task.
func runOnLedger(cmd *cobra.Command, task ledgerTask) {
	open := ledgerFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		book, err := open()
		if err != nil {
			return err
		}
		defer book.Close()
		return task(cmd, book, args)
	}
}

// operatorTask is what a verb changes in a ledger; who does it is recorded.
type operatorTask func(cmd *cobra.Command, book *openLedger, who string, args []string) error

// changeLedger is runOnLedger for a task that says who does it: --who, which goes to
// the place named.
func changeLedger(cmd *cobra.Command, place string, task operatorTask) {
	who := cmd.Flags().String("who", "", "who does this, for the "+place+" (default: the user)")
	runOnLedger(cmd, func(cmd *cobra.Command, book *openLedger, args []string) error {
		name, err := book.operatorName(*who)
		if err != nil {
			return err
		}
		return task(cmd, book, name, args)
	})
}

func dialLedger(at *nodeFlags) (*openLedger, error) {
	c, err := at.dialNode()
	if err != nil {
		return nil, err
	}
	return &openLedger{decisions: c.Decisions, findings: c.Findings, node: at.node, Close: func() error { c.Close(); return nil }}, nil
}

func openLedgerAt(ctx context.Context, data string) (*openLedger, error) {
	d, err := layout.OpenLedger(ctx, data)
	if err != nil {
		return nil, cli.Hint(err, "name the node's data directory with --data; 'dragnet run node' creates it")
	}
	s := decisions.NewServer(decisions.Dependencies{
		Ledger: d, Log: slog.New(slog.DiscardHandler),
		SetAside: func(ctx context.Context, signature string) (string, error) {
			db, err := openState(ctx, data)
			if err != nil {
				return "", err
			}
			aside, err := centre.SetAside(ctx, db, signature)
			return aside, errors.Join(err, db.Close())
		},
	})
	return &openLedger{decisions: s, findings: s, Close: d.Close}, nil
}

// explain is explainError for the calls of a ledger. hint says what to do about
// something that was not found, which is not a mistake on the command line.
func (o *openLedger) explain(err error, hint string) error {
	if e, ok := errors.AsType[*connect.Error](err); ok && e.Code() == connect.CodeNotFound && hint != "" {
		return cli.Hint(errors.New(e.Message()), "%s", hint)
	}
	at := nodeFlags{node: o.node, hasData: true}
	return at.explainError(err)
}

// Finding returns a finding by its identity.
func (o *openLedger) Finding(ctx context.Context, id string) (dossier.Finding, error) {
	got, err := o.findings.GetFinding(ctx, &nodev1.GetFindingRequest{Id: id})
	if err != nil {
		return dossier.Finding{}, o.explain(err, "see 'dragnet finding list'")
	}
	return decisions.ReadFinding(got.Finding)
}

// operatorName returns the name of the user of the command line, for the record;
// empty if the node knows it by the operator's certificate.
func (o *openLedger) operatorName(flag string) (string, error) {
	if flag != "" || o.node != "" {
		return flag, nil
	}
	u, err := user.Current()
	if err != nil {
		return "", cli.Usage(fmt.Errorf("say who you are with --who: %w", err))
	}
	return u.Username, nil
}

// readMessages converts what a node sent.
func readMessages[M, T any](all []M, read func(M) (T, error)) ([]T, error) {
	out := make([]T, 0, len(all))
	for _, m := range all {
		v, err := read(m)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return out, nil
}
