package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/internal/run"
	"dragnet/internal/state"
	"dragnet/node/agents"
	"dragnet/node/api"
	"dragnet/node/layout"
	"dragnet/store/disk"
	"dragnet/wire/node/v1/nodev1connect"
)

// nodeFlags say where a verb works: on a data directory, the first argument, or
// on a running node.
type nodeFlags struct {
	node, state string
	// create has a data directory created if it does not exist.
	create bool
	// instead is added to the hint about a node that does not answer: what else
	// there is to do.
	instead string
}

func (n *nodeFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.node, "node", "", "address of a node to ask instead of a data directory: unix:///PATH or https://HOST:PORT")
}

// checkArgs requires DATADIR unless --node is given, and between min and max further
// arguments; max < 0 sets no bound.
func (n *nodeFlags) checkArgs(min, max int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if n.node == "" {
			if len(args) == 0 {
				return errors.New("name a data directory, or a node with --node")
			}
			args = args[1:]
		}
		if len(args) < min || max >= 0 && len(args) > max {
			return fmt.Errorf("wrong number of arguments: %d", len(args))
		}
		return nil
	}
}

// splitArgs returns the data directory, empty with --node, and the other arguments.
func (n *nodeFlags) splitArgs(args []string) (dir string, rest []string) {
	if n.node != "" {
		return "", args
	}
	return args[0], args[1:]
}

// dialNode connects to the node.
func (n *nodeFlags) dialNode() (*api.Client, error) {
	c, err := api.Dial(n.node, "")
	if err != nil {
		return nil, cli.Usage(err)
	}
	return c, nil
}

// openMembers opens the members in the data directory, or of the node.
func (n *nodeFlags) openMembers(cmd *cobra.Command, dir string) (nodev1connect.MemberServiceClient, func() error, error) {
	if n.node != "" {
		c, err := n.dialNode()
		if err != nil {
			return nil, nil, err
		}
		return c.Members, func() error { c.Close(); return nil }, nil
	}
	at := layout.Directory(dir)
	if n.create {
		if err := at.Create(); err != nil {
			return nil, nil, err
		}
	}
	if s, err := disk.Open(dir); err != nil { // it is not created, and permission is asked first
		return nil, nil, err
	} else if err := s.Close(); err != nil {
		return nil, nil, err
	}
	db := state.New(cmp.Or(n.state, at.State()))
	registry := agents.New(agents.Dependencies{DB: db, Authority: at.Authority(), Log: slog.New(slog.DiscardHandler)})
	parts := run.Parts{db, registry}
	if err := parts.Start(cmd.Context()); err != nil {
		return nil, nil, err
	}
	return registry.Operators(), func() error { return parts.Stop(context.WithoutCancel(cmd.Context())) }, nil
}

// explainError removes the protocol's words from an error of a node, and adds a
// hint to some.
func (n *nodeFlags) explainError(err error) error {
	e, ok := errors.AsType[*connect.Error](err)
	if !ok {
		return err
	}
	plain := errors.New(e.Message())
	switch e.Code() {
	case connect.CodeInvalidArgument, connect.CodeNotFound:
		return cli.Usage(plain)
	case connect.CodeUnavailable, connect.CodePermissionDenied:
		if n.node != "" {
			return cli.Hint(fmt.Errorf("%s: %w", n.node, plain), "is the node running, and may you use its socket? See 'api' in its configuration%s", n.instead)
		}
	case connect.CodeCanceled:
		return err
	}
	if n.node != "" {
		return fmt.Errorf("%s: %w", n.node, plain)
	}
	return plain
}
