package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/dossier/pattern"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/node/ingest"
	"dragnet/node/query"
	"dragnet/store"
)

func newFlow() *cobra.Command {
	cmd := &cobra.Command{Use: "flow", Short: "Import flows into a data directory, and query them", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newFlowImport(), newFlowList(), newFlowStat(), newFlowExport())
	return cmd
}

// sourceHelp lists what can be read.
const sourceHelp = `A SOURCE is a file or directory of Zeek conn logs (TSV or JSON), Suricata's
eve.json, Squid's access.log, nginx's with the log_format of the manual, AWS VPC
flow logs (text or Parquet), Hubble's flows, nfdump's files or captures (pcap or
pcapng), recognised by content; logs and captures may be compressed with gzip or
zstd.`

// currentDay returns the epoch of the salts for a question asked today.
func currentDay() string { return time.Now().UTC().Format(time.DateOnly) }

func newFlowImport() *cobra.Command {
	var at nodeFlags
	var keepDays float64
	var keepBytes int64
	var output *cli.Format
	cmd := &cobra.Command{
		Use:   "import SOURCE...",
		Short: "Import logs and captures into a data directory, each line once",
		Long: `Import adds the flows of logs and captures to the data directory --data, which it
creates if it does not exist; or to a ClickHouse database, given by its address,
such as clickhouse://user@host:9000/flows.

` + sourceHelp + `

A log is recognised by its content: if it was imported before, only the lines
added since are imported, also after it was renamed or compressed. When the
command ends with exit code 0, everything it counted is safely on the disk; if it
is interrupted, run it again.

Flows are removed when they are older than --keep-days, counted from the newest
flow stored.`,
		Example: `  dragnet flow import /opt/zeek/logs
  dragnet flow import --data evidence monday.pcap conn.log.gz --keep-days 0`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keepDays < 0 || keepBytes < 0 {
				return cli.Usage(errors.New("--keep-days and --keep-bytes cannot be negative; 0 keeps everything"))
			}
			keep := store.Keep{Age: time.Duration(keepDays * 24 * float64(time.Hour)), Bytes: keepBytes}
			return runImport(cmd, *output, at.data, args, keep)
		},
	}
	output = cli.OutputFlag(cmd)
	at.addDataFlag(cmd, "data directory, or the address of a ClickHouse database")
	cmd.Flags().Float64Var(&keepDays, "keep-days", 30, "remove flows this much older than the newest; 0 keeps all")
	cmd.Flags().Int64Var(&keepBytes, "keep-bytes", 0, "remove the oldest flows beyond this size on disk; 0 keeps all")
	return cmd
}

func runImport(cmd *cobra.Command, f cli.Format, dir string, sources []string, keep store.Keep) (err error) {
	var files []string
	for _, s := range sources {
		more, err := ingest.Files(s)
		if err != nil {
			return err
		}
		files = append(files, more...)
	}
	place, err := ingest.OpenWriter(cmd.Context(), dir, currentDay())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, place.Close()) }()
	known, err := place.Sources(cmd.Context())
	if err != nil {
		return err
	}
	m := ingest.NewImporter(known, place)
	progress := cli.NewProgress("importing flows", 0)
	m.Progress = func(n int) { progress.Add(int64(n)) }
	done, err := importAll(cmd.Context(), m, files)
	progress.Done()
	if err != nil {
		return err
	}
	removed, err := place.Prune(cmd.Context(), keep, time.Now())
	if err != nil {
		return err
	}
	for _, problem := range m.Coverage.Problems {
		fmt.Fprintln(cmd.ErrOrStderr(), problem)
	}
	if n := flowsOf(removed); n > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "removed %d flows beyond the retention limits\n", n)
	}
	return writeImported(cmd.OutOrStdout(), f, done)
}

func importAll(ctx context.Context, m *ingest.Importer, files []string) ([]ingest.Imported, error) {
	var done []ingest.Imported
	for _, file := range files {
		one, err := m.Import(ctx, file)
		if err != nil {
			return nil, err
		}
		done = append(done, one)
	}
	return done, m.Commit()
}

func flowsOf(removed []store.Removed) (n uint64) {
	for _, r := range removed {
		n += r.Flows
	}
	return n
}

func writeImported(w io.Writer, f cli.Format, done []ingest.Imported) error {
	rows := cli.Rows[ingest.Imported]{Header: []string{"file", "status", "flows", "skipped"}}
	refused := 0
	for _, d := range done {
		rows.Items = append(rows.Items, d)
		rows.Cells = append(rows.Cells, []string{d.File, string(d.Status), fmt.Sprint(d.Flows), fmt.Sprint(d.Skipped)})
		if d.Status == ingest.Refused || d.Status == ingest.Busy {
			refused++
		}
	}
	if err := cli.WriteRows(w, f, rows); err != nil || refused == 0 {
		return err
	}
	return cli.Hint(fmt.Errorf("%s not imported", cli.Plural(refused, "file")), "the lines above name each and say why; the others were imported")
}

// selection holds what list and stat share: a place, a filter, a window.
type selection struct {
	at       nodeFlags
	from, to string
	filter   *pattern.Filter
	window   flow.Window
	text     string
	files    map[string]string // content of the files that the text names as @FILE
}

const filterHelp = `--data may be the address of a ClickHouse database; see 'dragnet flow import'.

A FILTER is written like a clue without "in" or "out": src= dst= host= sport=
dport= proto= state=, all of which must fit. Addresses may be prefixes;
dport=22,6660-6669 means any of these, @FILE any value listed in a file. State is
established, failed, or one of Zeek's conn_state (state=S0,REJ); icmp beside IPv6
addresses is icmp6, as in Zeek's logs.`

func (s *selection) addFlags(cmd *cobra.Command) {
	s.at.addFlags(cmd)
	s.addFilterFlags(cmd)
}

func (s *selection) addFilterFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.from, "from", "", "earliest start of a flow, such as 2026-11-22, 2026-11-22T10:00:00Z or -24h")
	cmd.Flags().StringVar(&s.to, "to", "", "flows start before this")
}

// parseWords reads the words of the filter.
func (s *selection) parseWords(words []string) (err error) {
	s.text, s.files = strings.Join(words, " "), map[string]string{}
	if s.filter, err = pattern.ParseFilter(s.text, s.openList); err != nil {
		return cli.Hint(cli.Usage(err), "a filter is such as: src=192.0.2.0/24 dport=22 proto=tcp")
	}
	s.window = flow.AllTime
	if s.from != "" {
		if s.window.From, err = parseTime("--from", s.from); err != nil {
			return cli.Usage(err)
		}
	}
	if s.to != "" {
		if s.window.To, err = parseTime("--to", s.to); err != nil {
			return cli.Usage(err)
		}
	}
	return nil
}

// openList reads a file that the filter names, and keeps its content for a node.
func (s *selection) openList(name string) (io.ReadCloser, error) {
	f, err := pattern.FromDisk(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxListFile))
	s.files[name] = string(content)
	return io.NopCloser(strings.NewReader(s.files[name])), err
}

// maxListFile is above the limit of a list, so that a larger one is refused.
const maxListFile = 2 << 20

// withStore runs f on the store at place, and prints its progress and what was
// damaged.
func (s *selection) withStore(cmd *cobra.Command, f func(store.Reader, query.Selection) (flow.Coverage, error)) (err error) {
	log, err := ingest.OpenReader(cmd.Context(), s.at.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	progress := cli.NewProgress("reading flows", 0)
	defer progress.Done()
	cov, err := f(log, query.Selection{Filter: s.filter, Window: s.window, Read: func(n int) { progress.Add(int64(n)) }})
	for _, problem := range cov.Problems {
		fmt.Fprintln(cmd.ErrOrStderr(), problem)
	}
	return err
}
