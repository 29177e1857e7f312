package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/api"
	"dragnet/node/centre"
	"dragnet/node/decisions"
	"dragnet/node/layout"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

// defaultData is the data directory of a node without --data.
const defaultData = "/var/lib/dragnet"

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
	data := cmd.Flags().String("data", defaultData, "data directory of the node, or the URL of its PostgreSQL database")
	node := cmd.Flags().String("node", "", "address of a running node: unix:///PATH or https://HOST:PORT (default: $"+nodeVariable+", or the socket of a node on this machine)")
	return func() (*openLedger, error) {
		if cmd.Flags().Changed("data") && *node != "" {
			return nil, cli.Usage(errors.New("--data and --node name two places; give one"))
		}
		address := *node
		if address == "" && !cmd.Flags().Changed("data") {
			address = findNode()
		}
		if address != "" {
			return dialLedger(address)
		}
		return openLedgerAt(cmd.Context(), *data)
	}
}

// nodeVariable names the environment variable with the address of the node to use
// where no flag says it.
const nodeVariable = "DRAGNET_NODE"

// findNode returns the address of the node to use by default: the environment's, or
// that of a node of this machine; empty if there is none.
func findNode() string {
	if address := os.Getenv(nodeVariable); address != "" {
		return address
	}
	for _, socket := range []string{"/run/dragnet/node.sock", layout.Directory(defaultData).Socket()} {
		if info, err := os.Stat(socket); err == nil && info.Mode().Type() == os.ModeSocket {
			return "unix://" + socket
		}
	}
	return ""
}

func dialLedger(address string) (*openLedger, error) {
	c, err := api.Dial(address, "")
	if err != nil {
		return nil, cli.Usage(err)
	}
	return &openLedger{decisions: c.Decisions, findings: c.Findings, node: address, Close: func() error { c.Close(); return nil }}, nil
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

// explain removes the protocol's words from an error, and says what to do about it:
// hint if something was not found.
func (o *openLedger) explain(err error, hint string) error {
	e, ok := errors.AsType[*connect.Error](err)
	if !ok || e.Code() == connect.CodeCanceled {
		return err
	}
	plain := errors.New(e.Message())
	switch {
	case e.Code() == connect.CodeInvalidArgument:
		return cli.Usage(plain)
	case e.Code() == connect.CodeNotFound && hint != "":
		return cli.Hint(plain, "%s", hint)
	case o.node == "":
		return plain
	}
	plain = fmt.Errorf("%s: %w", o.node, plain)
	if e.Code() == connect.CodeUnavailable || e.Code() == connect.CodePermissionDenied {
		return cli.Hint(plain, "is the node running, and may you use its socket? See 'api' in its configuration; --data DIR reads a data directory without it")
	}
	return plain
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
