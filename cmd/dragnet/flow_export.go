package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/query"
	"dragnet/store"
	"dragnet/store/parquet"
)

func newFlowExport() *cobra.Command {
	var s selection
	var file string
	cmd := &cobra.Command{
		Use:   "export DATADIR [FILTER] --parquet FILE",
		Short: "Write stored flows as Parquet, for other programs",
		Long: `Export writes the stored flows that match a filter to a Parquet file, which
DuckDB, Spark, pandas and ClickHouse read. What a source did not know is null.
FILE appears when it is complete; one that exists is replaced then.

Exported are all columns that are stored, so it reads a data directory or a
database, not a node over its API. A node may run on the directory meanwhile.

` + filterHelp,
		Example: `  dragnet flow export /var/lib/dragnet --parquet flows.parquet
  dragnet flow export /var/lib/dragnet state=failed --from 2026-11-22 --parquet failed.parquet
  duckdb -c "SELECT src_addr, count(*) FROM 'failed.parquet' GROUP BY 1 ORDER BY 2 DESC LIMIT 10"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file == "" {
				return cli.Hint(cli.Usage(errors.New("no file to write to")), "name one: --parquet flows.parquet")
			}
			if err := s.parseWords(args[1:]); err != nil {
				return err
			}
			n, err := s.exportFlows(cmd, args[0], file)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", file, cli.Plural(n, "flow"))
			return nil
		},
	}
	s.addFilterFlags(cmd)
	cmd.Args = cobra.MinimumNArgs(1)
	cmd.Flags().StringVar(&file, "parquet", "", "file to write")
	return cmd
}

// exportFlows writes a file beside its name, and names it when it is whole.
func (s *selection) exportFlows(cmd *cobra.Command, place, file string) (n int, err error) {
	f, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*.part")
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	defer f.Close()
	w := parquet.NewWriter(f)
	err = s.withStore(cmd, place, func(log store.Reader, chosen query.Selection) (flow.Coverage, error) {
		return query.EachFlow(cmd.Context(), log, chosen, func(one *flow.Flow) error {
			n++
			return w.Write(one)
		})
	})
	if err != nil {
		return 0, err
	}
	if err := errors.Join(w.Close(), f.Chmod(0o640), f.Sync()); err != nil {
		return 0, fmt.Errorf("write %s: %w", file, err)
	}
	return n, os.Rename(f.Name(), file)
}
