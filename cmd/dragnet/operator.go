package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/api"
	"dragnet/wire/channel"
	"dragnet/wire/enrol"
)

func newOperator() *cobra.Command {
	cmd := &cobra.Command{Use: "operator", Short: "Work on a node from another machine", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newOperatorEnrol())
	return cmd
}

func newOperatorEnrol() *cobra.Command {
	var folder string
	var replace bool
	cmd := &cobra.Command{
		Use:   "enrol NODE TOKEN",
		Short: "Redeem a token for a certificate, which --node then uses",
		Long: `Enrol redeems a token that 'dragnet agent token --role operator' made, and keeps
the certificate in your configuration folder, where --node NODE finds it. TOKEN -
is read from standard input, where other users of this machine cannot see it.
The certificate lasts 90 days; enrol again before it expires.`,
		Example: "  dragnet operator enrol https://node.example.org:9121 -",
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&folder, "folder", "", "folder of the certificate (default below your configuration folder)")
	cmd.Flags().BoolVar(&replace, "replace", false, "replace an enrolment that was revoked or has expired")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		text := []byte(args[1])
		if args[1] == "-" {
			var err error
			if text, err = readAll(cmd.InOrStdin(), "-"); err != nil {
				return err
			}
		}
		token, err := enrol.ParseToken(strings.TrimSpace(string(text)))
		if err != nil {
			return cli.Usage(err)
		}
		if err := channel.CheckNode(args[0]); err != nil {
			return cli.Usage(err)
		}
		if folder == "" {
			if folder, err = api.OperatorFolder(args[0]); err != nil {
				return err
			}
		}
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		m, err := channel.Enrol(cmd.Context(), folder, args[0], token, channel.Applicant{Role: api.OperatorRole, Host: host, Release: cli.Release, Replace: replace})
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "enrolled as %s in %s\n", m.Name, folder)
		return nil
	}
	return cmd
}
