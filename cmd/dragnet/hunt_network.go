package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"dragnet/ask/detective"
	"dragnet/ask/inquiry"
	"dragnet/dossier/pattern"
	"dragnet/internal/cli"
	"dragnet/node/hunt"
)

// overNetwork reports whether the sources are witnesses of other organisations.
func overNetwork(sources []string) (bool, error) {
	remote := 0
	for _, s := range sources {
		if strings.HasPrefix(s, "https://") {
			remote++
		}
	}
	if remote > 0 && remote < len(sources) {
		return false, errors.New("--witness: files and https:// witnesses cannot be asked together; ask in two hunts")
	}
	return remote > 0, nil
}

func huntNetwork(cmd *cobra.Command, f cli.Format, n networkFlags, today bool, d detective.Configuration, p *pattern.Pattern, urls []string, force bool) error {
	c, err := n.makeConfiguration()
	if err != nil {
		return err
	}
	if today {
		if d.Epoch, err = publishedEpoch(cmd.Context(), &c, d.Epoch); err != nil {
			return err
		}
	}
	if err := readRoster(cmd.Context(), cmd.ErrOrStderr(), &c); err != nil {
		return err
	}
	c.Detective, c.Selection = d, inquiry.WitnessSelection{Names: urls}
	if !force {
		c.Asking = refuseBelowFloor
	}
	stderr := cmd.ErrOrStderr()
	c.Note = func(note inquiry.Note) {
		if note.Detail != "" {
			fmt.Fprintf(stderr, "%s: %s: %s\n", note.Witness, note.Status, note.Detail)
		}
	}
	out, err := inquiry.Run(cmd.Context(), c, p)
	if err != nil {
		return err
	}
	fmt.Fprintln(stderr, out.Tally)
	if err := hunt.WriteResult(cmd.OutOrStdout(), f, &out.Result); err != nil {
		return err
	}
	if out.Tally.Count(inquiry.Answered)+out.Tally.Count(inquiry.Refused) == 0 {
		return errors.New("no witness answered")
	}
	return nil
}
