package main

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"dragnet/clearinghouse"
	"dragnet/internal/cli"
)

func newObjection() *cobra.Command {
	cmd := &cobra.Command{Use: "objection", Short: "Object to what a clearinghouse publishes; as its operator, answer objections", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newObjectionFile(), newObjectionList(), newObjectionUphold(), newObjectionReject())
	return cmd
}

func newObjectionFile() *cobra.Command {
	var where clearingFlags
	var reason, contact string
	cmd := &cobra.Command{
		Use:   "file PREFIX --reason TEXT",
		Short: "Object to the listing of an address or prefix of yours",
		Long: `File sends an objection to the clearinghouse's operator and prints its name.
Everyone may object; nothing changes until the operator has answered.`,
		Example: "  dragnet objection file 198.51.100.7 --reason 'our vulnerability scanner' --contact abuse@example.org --clearinghouse https://203.0.113.1:8443 --server ed25519:3p7b...",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s := selectionFlags{hosts: args[0]}
			selection, err := s.toMessage()
			if err != nil {
				return err
			}
			prefix, err := netip.ParsePrefix(selection.Hosts)
			if err != nil {
				return cli.Usage(err)
			}
			c, err := where.dialClearinghouse()
			if err != nil {
				return err
			}
			defer c.Close()
			name, err := c.SubmitObjection(cmd.Context(), prefix, reason, contact)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), name)
			return err
		},
	}
	where.addFlags(cmd, false)
	cmd.Flags().StringVar(&reason, "reason", "", "why it should not be listed")
	cmd.Flags().StringVar(&contact, "contact", "", "how the operator can reach you")
	return cmd
}

func newObjectionList() *cobra.Command {
	var files []string
	var output *cli.Format
	cmd := &cobra.Command{
		Use:     "list --config FILE",
		Short:   "List objections, the oldest first",
		Example: "  dragnet objection list --config clearinghouse.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withCore(cmd.Context(), files, func(h *clearinghouse.Core) error {
				all, err := h.Objections(cmd.Context())
				if err != nil {
					return err
				}
				rows := cli.Rows[clearinghouse.Objection]{Header: []string{"objection", "prefix", "received", "state", "reason", "contact", "answer"}}
				for _, o := range all {
					rows.Items = append(rows.Items, o)
					rows.Cells = append(rows.Cells, []string{o.Name, o.Prefix.String(), formatSecond(o.Received), string(o.State), fmt.Sprintf("%q", o.Reason), fmt.Sprintf("%q", o.Contact), o.Answer})
				}
				return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
			})
		},
	}
	output = cli.OutputFlag(cmd)
	cmd.Flags().StringArrayVar(&files, "config", nil, "the clearinghouse's configuration; repeat to layer")
	return cmd
}

func newObjectionUphold() *cobra.Command {
	var files []string
	var why string
	var holds time.Duration
	cmd := &cobra.Command{
		Use:     "uphold OBJECTION --config FILE --why REASON",
		Short:   "Stop publishing the prefix for a while",
		Example: "  dragnet objection uphold f3kq7c2v --config clearinghouse.yaml --why 'research scanner, announced' --holds 2160h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if holds <= 0 || holds > 10*365*24*time.Hour {
				return cli.Usage(fmt.Errorf("--holds %v: want more than 0 and at most ten years", holds))
			}
			return answerObjection(cmd, files, args[0], time.Now().Add(holds), why)
		},
	}
	cmd.Flags().DurationVar(&holds, "holds", 90*24*time.Hour, "for how long")
	cmd.Flags().StringArrayVar(&files, "config", nil, "the clearinghouse's configuration; repeat to layer")
	cmd.Flags().StringVar(&why, "why", "", "the reason, kept with the objection")
	return cmd
}

func newObjectionReject() *cobra.Command {
	var files []string
	var why string
	cmd := &cobra.Command{
		Use:     "reject OBJECTION --config FILE --why REASON",
		Short:   "Leave what is published as it is",
		Example: "  dragnet objection reject f3kq7c2v --config clearinghouse.yaml --why 'five organisations saw it attack'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return answerObjection(cmd, files, args[0], time.Time{}, why)
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "the clearinghouse's configuration; repeat to layer")
	cmd.Flags().StringVar(&why, "why", "", "the reason, kept with the objection")
	return cmd
}

func answerObjection(cmd *cobra.Command, files []string, name string, until time.Time, why string) error {
	if why == "" {
		return cli.Usage(errors.New("say why: it is kept with the objection"))
	}
	return withCore(cmd.Context(), files, func(h *clearinghouse.Core) error {
		if err := h.Answer(cmd.Context(), name, until, why); err != nil {
			return err
		}
		return publishNow(cmd, h)
	})
}
