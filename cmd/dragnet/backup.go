package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/node/layout"
	"dragnet/store/disk"
)

func newBackup() *cobra.Command {
	return &cobra.Command{
		Use:   "backup DATADIR COPY",
		Short: "Copy a data directory, as of one moment",
		Long: `Backup copies all of DATADIR to COPY, which must not exist or be empty: the flows,
findings, decisions, enrolments, questions asked, the roster and epochs held, and
the keys, which make the copy as secret as the original. A node may be running.
An interrupted copy has all flows or none. 'dragnet restore' puts it back.

It does not copy what the configuration keeps elsewhere: control state in
PostgreSQL (use pg_dump), flows in ClickHouse (use BACKUP DATABASE), a key file
that 'witness.key' names, and the configuration itself.`,
		Example: "  dragnet backup /var/lib/dragnet /mnt/backup/dragnet-2026-11-22",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := ownDirectory(args[0], "use its BACKUP DATABASE"); err != nil {
				return err
			}
			if err := copyDirectory(cmd, args[0], args[1]); err != nil {
				return err
			}
			if layout.Directory(args[0]).StateElsewhere() {
				fmt.Fprintln(cmd.ErrOrStderr(), "findings, decisions and enrolments are not in this directory; also back up the database that 'state' names")
			}
			return nil
		},
	}
}

func newRestore() *cobra.Command {
	return &cobra.Command{
		Use:   "restore COPY DATADIR",
		Short: "Restore a data directory from a copy that 'dragnet backup' made",
		Long: `Restore checks COPY, and copies it to DATADIR, which must not exist or be empty.
No node may run on DATADIR. The copy has no record of questions answered after
the backup: until such a question expires, a detective could have it answered
again.`,
		Example: "  dragnet restore /mnt/backup/dragnet-2026-11-22 /var/lib/dragnet",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !disk.Is(args[0]) {
				return cli.Hint(fmt.Errorf("%s is not a copy of a data directory", args[0]), "name what 'dragnet backup' wrote")
			}
			progress := cli.NewProgress("checking flows", 0)
			found, err := disk.Check(cmd.Context(), args[0], func(n int) { progress.Add(int64(n)) })
			progress.Done()
			if err != nil {
				return err
			}
			for _, f := range found {
				fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s; flows lost: %d\n", f.File, f.Problem, f.Flows)
			}
			if len(found) > 0 {
				return cli.Hint(cli.Found(fmt.Errorf("%s is damaged in %d places", args[0], len(found))), "restore another copy, or move this one to DATADIR to use what is whole")
			}
			return copyDirectory(cmd, args[0], args[1])
		},
	}
}

func copyDirectory(cmd *cobra.Command, from, to string) error {
	store, err := disk.Open(from)
	if err != nil {
		return err
	}
	size, err := store.Bytes(cmd.Context())
	if err := errors.Join(err, store.Close()); err != nil {
		return err
	}
	progress := cli.NewProgress("copying bytes", size)
	defer progress.Done()
	return layout.Directory(from).Copy(cmd.Context(), to, func(n int) { progress.Add(int64(n)) })
}
