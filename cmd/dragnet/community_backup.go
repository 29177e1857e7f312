package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/community"
	"dragnet/wire/roster"
)

func newCommunityBackup() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "backup COPY --config FILE...",
		Short: "Copy what makes a clearinghouse the same one on another machine",
		Long: `Backup copies the key, the roster and the databases of a clearinghouse to COPY, which
must not exist or be empty, the databases as of one moment. The clearinghouse may
be running. COPY is as secret as the key in it.

It does not copy the configuration, the file of members and the key that signs the
roster, which lie where you keep them, nor state in PostgreSQL (use pg_dump).`,
		Example: "  dragnet community backup /mnt/backup/clearinghouse-2026-11-22 --config /etc/dragnet/community/clearinghouse.yaml",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := clearinghouseConfiguration(files)
			if err != nil {
				return err
			}
			whole, err := community.Backup(cmd.Context(), c, args[0])
			if err != nil {
				return err
			}
			if !whole {
				fmt.Fprintln(cmd.ErrOrStderr(), "the state is in PostgreSQL: back it up with pg_dump, at about the same time")
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "the clearinghouse's configuration; repeat to layer")
	return cmd
}

func clearinghouseConfiguration(files []string) (*community.Configuration, error) {
	if len(files) == 0 {
		return nil, cli.Usage(errors.New("want --config FILE: the clearinghouse's own configuration"))
	}
	c, err := community.LoadConfiguration(files...)
	if err != nil {
		return nil, cli.Hint(err, checkHint)
	}
	return &c, nil
}

func newCommunityRestore() *cobra.Command {
	var files []string
	var newer string
	cmd := &cobra.Command{
		Use:   "restore COPY --config FILE...",
		Short: "Restore a clearinghouse from its backup, with the same identity",
		Long: `Restore checks COPY, the databases in it and the signature of the roster, and copies
it to the directory that the configuration names, which must not exist or be
empty. Members notice nothing: the clearinghouse has the key that they know.

If the roster was signed again after the backup, give the newest one that any member
has with --roster (roster.held in its data directory); members refuse an older
one, and one that does not descend from theirs. What was reported or published
after the backup is lost: members report again what they want listed.`,
		Example: "  dragnet community restore /mnt/backup/clearinghouse-2026-11-22 --config /etc/dragnet/community/clearinghouse.yaml --roster roster.held",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := clearinghouseConfiguration(files)
			if err != nil {
				return err
			}
			var bundle []byte
			if newer != "" {
				if info, err := os.Stat(newer); err != nil {
					return err
				} else if info.Size() > int64(roster.MaxBundle) {
					return fmt.Errorf("%s has %d bytes; at most %d", newer, info.Size(), roster.MaxBundle)
				}
				if bundle, err = os.ReadFile(newer); err != nil {
					return err
				}
			}
			out, err := community.Restore(cmd.Context(), args[0], c, bundle)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "restored the clearinghouse with the key %s and version %d of the roster\n", out.Key, out.Roster)
			return err
		},
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "the clearinghouse's configuration; repeat to layer")
	cmd.Flags().StringVar(&newer, "roster", "", "a newer roster than that of the backup, as members hold it")
	return cmd
}
