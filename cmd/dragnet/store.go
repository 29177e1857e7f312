package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/store/clickhouse"
	"dragnet/store/disk"
	nodev1 "dragnet/wire/node/v1"
)

func newStore() *cobra.Command {
	cmd := &cobra.Command{Use: "store", Short: "Check, repair and index a data directory", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newStoreCheck(), newStoreRepair(), newStoreIndex())
	return cmd
}

// ownDirectory refuses a database, which has its own tools for the task.
func ownDirectory(place, instead string) error {
	if clickhouse.Is(place) {
		return cli.Hint(fmt.Errorf("%s is not a data directory: ClickHouse manages its own files", clickhouse.Redact(place)), "%s", instead)
	}
	return nil
}

func newStoreCheck() *cobra.Command {
	var at nodeFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Read all of a data directory and report damage",
		Long: `Check reads every flow stored and compares every index with what it indexes.
Everything not reported as damaged stays readable by every command.
Exit code 0: no damage found. 3: damage found. 1: the check could not run.`,
		Example: "  dragnet store check",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := at.choose(cmd); err != nil {
				return err
			}
			if err := ownDirectory(at.data, "use its CHECK TABLE flows"); err != nil {
				return err
			}
			found, read, err := checkStore(cmd, &at)
			if err != nil {
				return err
			}
			rows := cli.Rows[disk.Fault]{Header: []string{"file", "problem", "flows", "advice"}}
			for _, f := range found {
				rows.Items = append(rows.Items, f)
				rows.Cells = append(rows.Cells, []string{f.File, f.Problem, fmt.Sprint(f.Flows), f.Advice})
			}
			if err := cli.WriteRows(cmd.OutOrStdout(), *output, rows); err != nil {
				return err
			}
			if len(found) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "no damage found in %s\n", read)
				return nil
			}
			return cli.Found(fmt.Errorf("%s: findings: %d", at.place(), len(found)))
		},
	}
	output = cli.OutputFlag(cmd)
	at.addFlags(cmd)
	return cmd
}

// checkStore checks a data directory here, or has a node check its own; read says what
// was checked.
func checkStore(cmd *cobra.Command, at *nodeFlags) (found []disk.Fault, read string, err error) {
	if at.node == "" {
		found, flows, err := checkDirectory(cmd.Context(), at.data)
		return found, cli.Plural(flows, "flow") + " and their indexes", err
	}
	client, err := at.dialNode()
	if err != nil {
		return nil, "", err
	}
	defer client.Close()
	got, err := client.Store.CheckStore(cmd.Context(), &nodev1.CheckStoreRequest{})
	if err != nil {
		return nil, "", at.explainError(err)
	}
	for _, d := range got.Damages {
		found = append(found, disk.Fault{File: d.File, Problem: d.Problem, Flows: int(d.Flows), Advice: d.Advice})
	}
	return found, "the store of " + at.node, nil
}

// checkDirectory checks a data directory, and counts the flows read.
func checkDirectory(ctx context.Context, dir string) (found []disk.Fault, flows int, err error) {
	progress := cli.NewProgress("checking flows", 0)
	defer progress.Done()
	var read atomic.Int64
	found, err = disk.Check(ctx, dir, func(n int) {
		read.Add(int64(n))
		progress.Add(int64(n))
	})
	return found, int(read.Load()), err
}

func newStoreRepair() *cobra.Command {
	var at nodeFlags
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "repair",
		Short: "Restore the lost or damaged catalogue of a data directory",
		Long: `Repair restores the catalogue, which lists the segments and the imported logs,
and the file that marks a data directory. There are two copies of the catalogue;
if one is left, nothing is lost. If both are lost, it is made again from the
segments: all flows are kept, but not which logs they came from. A segment that
cannot be read is set aside under another name, and reported. Stop the node first.

Damaged segments cannot be repaired here: copy them from a backup.`,
		Example: "  dragnet store repair",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := ownDirectory(at.data, "use its own tools"); err != nil {
				return err
			}
			progress := cli.NewProgress("reading flows", 0)
			repaired, err := disk.Repair(cmd.Context(), at.data, func(n int) { progress.Add(int64(n)) })
			progress.Done()
			rows := cli.Rows[disk.Repaired]{Header: []string{"file", "problem", "done"}}
			for _, m := range repaired {
				rows.Items = append(rows.Items, m)
				rows.Cells = append(rows.Cells, []string{m.File, m.Problem, m.Done})
			}
			if len(repaired) == 0 && err == nil {
				fmt.Fprintln(cmd.ErrOrStderr(), "marker and catalogue are whole; 'dragnet store check' reads the segments")
			}
			return errors.Join(err, cli.WriteRows(cmd.OutOrStdout(), *output, rows))
		},
	}
	output = cli.OutputFlag(cmd)
	at.addDataFlag(cmd, "data directory")
	return cmd
}

func newStoreIndex() *cobra.Command {
	var at nodeFlags
	var epoch string
	var again bool
	cmd := &cobra.Command{
		Use:   "index",
		Short: "Compute the keys of standard questions for today's salts",
		Long: `Index hashes all stored flows for the standard questions of an epoch, by
convention the day in UTC. Standard questions with its salts are then answered by
look-up; others, and those of another day, by hashing all flows, which gives the
same answers more slowly. Newly imported flows get keys of their day at once.`,
		Example: "  dragnet store index",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if err := ownDirectory(at.data, "it hashes columns for each question and keeps no index"); err != nil {
				return err
			}
			if !disk.Is(at.data) {
				return fmt.Errorf("%s is not a data directory", at.data)
			}
			if epoch == "" {
				epoch = currentDay()
			}
			store, err := disk.OpenWriter(at.data)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, store.Close()) }()
			writer, err := store.NewWriter(epoch)
			if err != nil {
				return cli.Usage(err)
			}
			defer func() { err = errors.Join(err, writer.Close()) }()
			cov, err := store.Coverage(cmd.Context())
			if err != nil {
				return err
			}
			progress := cli.NewProgress("indexing flows", int64(cov.Flows))
			defer progress.Done()
			return writer.Reindex(cmd.Context(), epoch, again, func(n int) { progress.Add(int64(n)) })
		},
	}
	at.addDataFlag(cmd, "data directory")
	cmd.Flags().StringVar(&epoch, "epoch", "", "whose salts, such as 2026-11-22 (default today, UTC)")
	cmd.Flags().BoolVar(&again, "again", false, "also index runs that have keys of that epoch, such as after damage")
	return cmd
}
