package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	"google.golang.org/protobuf/types/known/durationpb"

	"dragnet/internal/cli"
	nodev1 "dragnet/wire/node/v1"
	"dragnet/wire/node/v1/nodev1connect"
)

func newAgent() *cobra.Command {
	cmd := &cobra.Command{Use: "agent", Short: "Enrol agents and operators at a node, list, configure and revoke them", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newAgentToken(), newAgentList(), newAgentRevoke(), newAgentConfigure())
	return cmd
}

// withMembers runs f on the members of a data directory or node.
func withMembers(n *nodeFlags, cmd *cobra.Command, f func(m nodev1connect.MemberServiceClient) error) error {
	m, done, err := n.openMembers(cmd)
	if err != nil {
		return err
	}
	return errors.Join(n.explainError(f(m)), done())
}

// memberVerb adds the arguments and flags that the verbs share.
func memberVerb(cmd *cobra.Command, n *nodeFlags, arguments int) {
	cmd.Args = cobra.ExactArgs(arguments)
	n.addFlags(cmd)
	cmd.Flags().StringVar(&n.state, "state", "", "PostgreSQL database of the node's control state, if it is not in the data directory")
}

func newAgentToken() *cobra.Command {
	n := nodeFlags{create: true}
	var role, name string
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "token --name NAME --role ROLE",
		Short: "Make a one-time token for enrolling an agent or operator",
		Long: `Token prints a one-time token. The first to redeem it becomes a member of the
node: an agent of the role or, with --role operator, an operator with the same
access over TLS as on the node's Unix socket. The token also identifies the node.
It is as secret as a password, and expires when it is redeemed or after --for.`,
		Example: `  dragnet agent token --name edge-1 --role guard
  dragnet agent token --node unix:///run/dragnet/node.sock --name alice --role operator`,
	}
	memberVerb(cmd, &n, 0)
	cmd.Flags().StringVar(&name, "name", "", "name of the agent or operator: lower-case letters, digits, '.', '_', '-'")
	cmd.Flags().StringVar(&role, "role", "", "guard, ident, ripcord, sensor, trap, or operator")
	cli.CompleteFlag(cmd, "role", "guard", "ident", "ripcord", "sensor", "trap", "operator")
	cmd.Flags().DurationVar(&life, "for", time.Hour, "how long the token can be redeemed, up to 720h")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if name == "" || role == "" || life < time.Second {
			return cli.Usage(errors.New("--name, --role, and --for of at least 1s are needed"))
		}
		return withMembers(&n, cmd, func(m nodev1connect.MemberServiceClient) error {
			got, err := m.MakeToken(cmd.Context(), &nodev1.MakeTokenRequest{Name: name, Role: role, Life: durationpb.New(life)})
			if err != nil {
				return err
			}
			next := "dragnet-agent enrol " + role
			if role == "operator" {
				next = "dragnet operator enrol"
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "redeem it with: %s https://NODE:9121 TOKEN\n", next)
			_, err = fmt.Fprintln(cmd.OutOrStdout(), got.Token)
			return err
		})
	}
	return cmd
}

// listedMember is a row of agent list as JSON; times are empty for never.
type listedMember struct {
	Name          string `json:"name"`
	Role          string `json:"role"`
	Status        string `json:"status"`
	Host          string `json:"host"`
	Release       string `json:"release"`
	Enrolled      string `json:"enrolled"`
	Seen          string `json:"seen"`
	Until         string `json:"certificate_until"`
	Revoked       string `json:"revoked"`
	Configuration string `json:"configuration"`
	Problem       string `json:"problem"`
	Waiting       uint64 `json:"waiting_bytes"`
	Dropped       uint64 `json:"dropped"`
	Received      uint64 `json:"received"`
	Refused       uint64 `json:"refused"`
	Missed        uint64 `json:"missed"`
}

// quiet is how long after its last contact an agent is listed as away: agents ask
// for their configuration every half minute.
const quiet = 2 * time.Minute

func listMember(m *nodev1.Member, now time.Time) listedMember {
	at := func(t *timestamppb.Timestamp) string {
		if t == nil {
			return ""
		}
		return t.AsTime().Truncate(time.Second).Format(time.RFC3339)
	}
	l := listedMember{
		Name: m.Name, Role: m.Role, Status: "here", Host: m.Host, Release: m.Release, Enrolled: at(m.Enrolled), Seen: at(m.Seen), Until: at(m.Until),
		Revoked: at(m.Revoked), Configuration: m.Configuration, Problem: m.Problem, Waiting: m.WaitingBytes, Dropped: m.Dropped,
		Received: m.Received, Refused: m.Refused, Missed: m.Missed,
	}
	switch {
	case m.Revoked != nil:
		l.Status = "revoked"
	case m.Until != nil && now.After(m.Until.AsTime()):
		l.Status = "expired"
	case m.Seen == nil || now.Sub(m.Seen.AsTime()) > quiet:
		l.Status = "away"
	}
	return l
}

func newAgentList() *cobra.Command {
	var n nodeFlags
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List agents and operators with their state",
		Long:    "List prints the members of a node: whether they are here, away, expired or revoked,\nwhich configuration they use, and how many items they sent.",
		Example: "  dragnet agent list",
	}
	memberVerb(cmd, &n, 0)
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withMembers(&n, cmd, func(m nodev1connect.MemberServiceClient) error {
			rows := cli.Rows[listedMember]{Header: []string{"name", "role", "status", "seen", "until", "configuration", "received", "missed", "problem"}}
			for cursor := ""; ; {
				page, err := m.ListMembers(cmd.Context(), &nodev1.ListMembersRequest{PageSize: 1000, Cursor: cursor})
				if err != nil {
					return err
				}
				for _, member := range page.Members {
					l := listMember(member, time.Now())
					rows.Items = append(rows.Items, l)
					rows.Cells = append(rows.Cells, []string{l.Name, l.Role, l.Status, orDash(l.Seen), orDash(l.Until), orDash(l.Configuration),
						fmt.Sprint(l.Received), fmt.Sprint(l.Missed), orDash(l.Problem)})
				}
				if cursor = page.NextCursor; cursor == "" {
					if len(rows.Items) == 0 {
						fmt.Fprintf(cmd.ErrOrStderr(), "no agent is enrolled at %s; 'dragnet agent token' admits one\n", n.place())
					}
					return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
				}
			}
		})
	}
	return cmd
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func newAgentRevoke() *cobra.Command {
	var n nodeFlags
	cmd := &cobra.Command{
		Use:     "revoke NAME",
		Short:   "Invalidate an agent's or operator's certificates and tokens at once",
		Example: "  dragnet agent revoke edge-1",
	}
	memberVerb(cmd, &n, 1)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withMembers(&n, cmd, func(m nodev1connect.MemberServiceClient) error {
			_, err := m.RevokeMember(cmd.Context(), &nodev1.RevokeMemberRequest{Name: args[0]})
			return err
		})
	}
	return cmd
}

func newAgentConfigure() *cobra.Command {
	var n nodeFlags
	var name string
	var format uint32
	cmd := &cobra.Command{
		Use:   "configure ROLE FILE",
		Short: "Set the configuration of the agents of a role",
		Long: `Configure sends the content of FILE to all agents of ROLE, or to one, at once or
when they connect again. An agent that cannot use it keeps its configuration, and
'dragnet agent list' shows why. Configure prints the version under which the list
shows this content. FILE - is standard input.`,
		Example: "  dragnet agent configure guard guard.yaml --name edge-1",
	}
	memberVerb(cmd, &n, 2)
	cmd.Flags().StringVar(&name, "name", "", "only this agent of the role, in place of the role's configuration")
	cmd.Flags().Uint32Var(&format, "format", 1, "version of the content's format")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return withMembers(&n, cmd, func(m nodev1connect.MemberServiceClient) error {
			body, err := readAll(cmd.InOrStdin(), args[1])
			if err != nil {
				return err
			}
			got, err := m.ConfigureRole(cmd.Context(), &nodev1.ConfigureRoleRequest{Role: args[0], Name: name, Format: format, Body: body})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), got.Version)
			return err
		})
	}
	return cmd
}

// readAll reads a file, or standard input for "-".
func readAll(in io.Reader, path string) ([]byte, error) {
	if path == "-" {
		return io.ReadAll(in)
	}
	return os.ReadFile(path)
}
