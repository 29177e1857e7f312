package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/wire/channel"
	"dragnet/wire/enrol"
)

func newEnrol() *cobra.Command {
	var state string
	var replace bool
	cmd := &cobra.Command{
		Use:   "enrol ROLE NODE TOKEN",
		Short: "Redeem a one-time token for this agent's certificate",
		Long: `Enrol registers this host's agent of ROLE with the node, with a token that
'dragnet agent token' made there. The key never leaves this host; key and
certificate are kept in a folder that only its owner may read, one for each
role. TOKEN - is read from standard input, where other users cannot see it.

The role renews the certificate automatically. Enrol again if it was revoked, or
if the agent was away for longer than the certificate is valid.`,
		Example: "  dragnet-agent enrol guard https://node.example.org:9121 -",
		Args:    cobra.ExactArgs(3),
	}
	cmd.Flags().StringVar(&state, "state", "", "folder of the role (default "+filepath.Join(channel.DefaultConfiguration().State, "ROLE")+")")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace an enrolment that was revoked or has expired")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		role, node := args[0], args[1]
		text := args[2]
		if text == "-" {
			const most = 4096
			b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), most))
			if err != nil {
				return err
			}
			text = string(b)
		}
		token, err := enrol.ParseToken(text)
		if err != nil {
			return cli.Usage(err)
		}
		if err := channel.CheckNode(node); err != nil {
			return cli.Usage(err)
		}
		if state == "" {
			state = filepath.Join(channel.DefaultConfiguration().State, role)
			// Roles run as separate users, who must get through this folder.
			if err := os.MkdirAll(filepath.Dir(state), 0o755); err != nil {
				return err
			}
		}
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		m, err := channel.Enrol(cmd.Context(), state, node, token, channel.Applicant{Role: role, Host: host, Release: cli.Release, Replace: replace})
		if errors.Is(err, enrol.ErrOtherNode) {
			return cli.Hint(err, "check the address; if it is right, the connection to the node is intercepted")
		}
		if err != nil {
			return err
		}
		if err := giveToOwner(state); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "enrolled as %s, role %s, in %s\n", m.Name, m.Role, state)
		return nil
	}
	return cmd
}

// giveToOwner gives the files in a folder to the folder's owner: the role runs under
// another user than root, who enrols it again.
func giveToOwner(dir string) error {
	if os.Geteuid() != 0 {
		return nil
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	for _, f := range files {
		if err := os.Lchown(filepath.Join(dir, f.Name()), int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}
