package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

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

// defaultData is the data directory of a node without --data.
const defaultData = "/var/lib/dragnet"

// nodeVariable names the environment variable with the address of the node to use
// where no flag says it.
const nodeVariable = "DRAGNET_NODE"

// nodeFlags say where a verb works: on a running node, or on a data directory.
type nodeFlags struct {
	// node is the address of the running node; data is used if it is empty.
	node, data string
	// state is another place of the node's control state.
	state string
	// hasData says that the verb works on a data directory, too.
	hasData bool
	// create has a data directory created if it does not exist.
	create bool
}

const nodeUsage = "address of a running node: unix:///PATH or https://HOST:PORT (default: $" + nodeVariable + ", the context's, or the socket of a node on this machine)"

// addFlags adds --node and --data.
func (n *nodeFlags) addFlags(cmd *cobra.Command) {
	n.addNodeFlag(cmd)
	n.addDataFlag(cmd, "data directory of the node")
}

func (n *nodeFlags) addNodeFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&n.node, "node", "", nodeUsage)
	fromContext(cmd, "node")
}

func (n *nodeFlags) addDataFlag(cmd *cobra.Command, usage string) {
	n.hasData = true
	cmd.Flags().StringVar(&n.data, "data", defaultData, usage)
	if err := cmd.MarkFlagDirname("data"); err != nil {
		panic(err) // no such flag
	}
	fromContext(cmd, "data")
}

// choose settles where the verb works.
func (n *nodeFlags) choose(cmd *cobra.Command) error {
	byData := cmd.Flags().Changed("data")
	switch {
	case byData && n.node != "":
		return cli.Usage(errors.New("--data and --node name two places; give one"))
	case n.node == "" && !byData:
		n.node = findNode()
		if _, err := os.Stat(defaultData); errors.Is(err, fs.ErrNotExist) && n.node == "" && !n.create {
			return cli.Hint(cli.Usage(fmt.Errorf("no node runs on this machine, and there is no %s", defaultData)), "name a node with --node, or a data directory with --data; 'dragnet context set' keeps either")
		}
	}
	if n.node != "" {
		n.data = ""
	}
	return nil
}

// place names what choose settled on.
func (n *nodeFlags) place() string { return cmp.Or(n.node, n.data) }

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

// dialNode connects to the node.
func (n *nodeFlags) dialNode() (*api.Client, error) {
	c, err := api.Dial(n.node, "")
	if err != nil {
		return nil, cli.Usage(err)
	}
	return c, nil
}

// openMembers opens the members in the data directory, or of the node.
func (n *nodeFlags) openMembers(cmd *cobra.Command) (nodev1connect.MemberServiceClient, func() error, error) {
	if err := n.choose(cmd); err != nil {
		return nil, nil, err
	}
	if n.node != "" {
		c, err := n.dialNode()
		if err != nil {
			return nil, nil, err
		}
		return c.Members, func() error { c.Close(); return nil }, nil
	}
	at := layout.Directory(n.data)
	if n.create {
		if err := at.Create(); err != nil {
			return nil, nil, err
		}
	}
	if s, err := disk.Open(n.data); err != nil { // it is not created, and permission is asked first
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

// instead is what else there is to do about a node that does not answer.
func (n *nodeFlags) instead() string {
	if n.hasData {
		return "; --data DIR reads a data directory without it"
	}
	return ""
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
			return cli.Hint(fmt.Errorf("%s: %w", n.node, plain), "is the node running, and may you use its socket? See 'api' in its configuration%s", n.instead())
		}
	case connect.CodeCanceled:
		return err
	}
	if n.node != "" {
		return fmt.Errorf("%s: %w", n.node, plain)
	}
	return plain
}
