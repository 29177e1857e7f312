package main

import (
	"errors"
	"fmt"
	"io"
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
	var asParquet, asArrow string
	cmd := &cobra.Command{
		Use:   "export [FILTER] --parquet FILE | --arrow FILE",
		Short: "Write stored flows as Parquet or Arrow, for other programs",
		Long: `Export writes the stored flows that match a filter to a Parquet file, which
DuckDB, Spark, pandas and ClickHouse read, or to an Arrow IPC file (Feather), which
polars, pandas and R map into memory. What a source did not know is null.
FILE appears when it is complete; one that exists is replaced then.

Exported are all columns that are stored, so it reads a data directory or a
database, not a node over its API. A node may run on the directory meanwhile.

` + filterHelp,
		Example: `  dragnet flow export --parquet flows.parquet
  dragnet flow export state=failed --from 2026-11-22 --parquet failed.parquet
  duckdb -c "SELECT src_addr, count(*) FROM 'failed.parquet' GROUP BY 1 ORDER BY 2 DESC LIMIT 10"`,
		RunE: func(cmd *cobra.Command, args []string) error {
			file, open := asParquet, newParquet
			if asArrow != "" {
				file, open = asArrow, newArrow
			}
			if file == "" {
				return cli.Hint(cli.Usage(errors.New("no file to write to")), "name one: --parquet flows.parquet")
			}
			if err := s.parseWords(args); err != nil {
				return err
			}
			n, err := s.exportFlows(cmd, file, open)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: %s\n", file, cli.Plural(n, "flow"))
			return nil
		},
	}
	s.at.addDataFlag(cmd, "data directory")
	s.addFilterFlags(cmd)
	cmd.Flags().StringVar(&asParquet, "parquet", "", "file to write as Parquet")
	cmd.Flags().StringVar(&asArrow, "arrow", "", "file to write as Arrow IPC")
	cmd.MarkFlagsMutuallyExclusive("parquet", "arrow")
	return cmd
}

// flowWriter writes one format.
type flowWriter interface {
	Write(*flow.Flow) error
	Close() error
}

func newParquet(w io.Writer) (flowWriter, error) { return parquet.NewWriter(w), nil }
func newArrow(w io.Writer) (flowWriter, error)   { return parquet.NewArrowWriter(w) }

// exportFlows writes a file beside its name, and names it when it is whole.
func (s *selection) exportFlows(cmd *cobra.Command, file string, open func(io.Writer) (flowWriter, error)) (n int, err error) {
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
	w, err := open(f)
	if err != nil {
		return 0, err
	}
	err = s.withStore(cmd, func(log store.Reader, chosen query.Selection) (flow.Coverage, error) {
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
