package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/ask/witness/audit"
	"dragnet/internal/cli"
	"dragnet/internal/state"
	"dragnet/node"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
	"dragnet/wire/treehead"
)

func newQuestionList() *cobra.Command {
	var configs []string
	var address, head string
	var after int64
	var limit int
	var verify bool
	cmd := &cobra.Command{
		Use:   "list --config FILE...",
		Short: "Show what others asked of our node, and what it answered",
		Long: `List shows every question that reached the node's witness from a detective of
the roster: who asked, what the question reveals, and whether it was answered or
why not. Each entry is hashed together with the one before.

--verify computes the hashes again, prints the number of entries and the last
hash, and exits with 3 if an entry was changed, removed or inserted. Keep that
line elsewhere: --head ENTRIES:HASH checks the record against it, which also shows
whether the whole record, or its end, was replaced.

A member's node shows the state of its record to the clearinghouse, which signs it
if it continues what it was shown before. With --config, --verify also checks that
the record continues all that the clearinghouse has seen, and asks it for the last.`,
		Example: "  dragnet question list --config /etc/dragnet/node.yaml\n  dragnet question list --config /etc/dragnet/node.yaml --verify",
		Args:    cobra.NoArgs,
	}
	output := cli.OutputFlag(cmd)
	f := cmd.Flags()
	f.StringArrayVar(&configs, "config", nil, "the node's configuration file; repeat to layer")
	f.StringVar(&address, "state", "", "the node's database, a file or a postgres:// URL, in place of --config")
	f.Int64Var(&after, "after", 0, "list entries after this one")
	f.IntVar(&limit, "limit", 0, "at most this many entries; 0 shows all")
	f.BoolVar(&verify, "verify", false, "check the record instead of listing it")
	f.StringVar(&head, "head", "", "with --verify: a line ENTRIES:HASH that was printed before")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		d, db, err := openAuditLog(cmd.Context(), address, configs)
		if err != nil {
			return err
		}
		defer db.Close()
		if verify {
			if err := verifyHeads(cmd, d, address, configs); err != nil {
				return err
			}
			return verifyAuditLog(cmd, d, *output, head)
		}
		return listAuditLog(cmd, d, *output, after, limit)
	}
	return cmd
}

// openAuditLog opens an audit log, and never creates one.
func openAuditLog(ctx context.Context, address string, configs []string) (*audit.Trail, *state.DB, error) {
	if address == "" {
		c, err := node.LoadConfiguration(configs...)
		if err != nil {
			return nil, nil, err
		}
		address = cmp.Or(c.State.Reveal(), c.Directory().State())
	}
	if !state.IsPostgres(address) {
		if _, err := os.Stat(address); errors.Is(err, fs.ErrNotExist) {
			return nil, nil, cli.Hint(fmt.Errorf("%w at %s", errNoAuditLog, address), "name the node's configuration with --config")
		}
	}
	db, err := state.Open(ctx, address)
	if err != nil {
		return nil, nil, err
	}
	d, err := audit.Open(ctx, db)
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return d, db, nil
}

// listedEntry is the JSON form of one entry.
type listedEntry struct {
	Number int64 `json:"entry"`
	audit.TrailEntry
}

func listAuditLog(cmd *cobra.Command, d *audit.Trail, f cli.Format, after int64, limit int) error {
	rows := cli.Rows[listedEntry]{Header: []string{"entry", "time", "event", "organisation", "asker", "via", "seen", "refusal", "answers", "bytes"}}
	err := d.List(cmd.Context(), after, func(number int64, e audit.TrailEntry) bool {
		rows.Items = append(rows.Items, listedEntry{number, e})
		var seen []string
		for _, c := range e.Clues {
			seen = append(seen, strings.TrimSpace(fmt.Sprintf("%s %s %s", c.End, c.Mask, c.State)))
		}
		rows.Cells = append(rows.Cells, []string{
			fmt.Sprint(number), formatSecond(e.Time), e.Event, e.Organisation, e.Asker[:min(len(e.Asker), 16)], e.Via, orDash(strings.Join(seen, ", ")),
			orDash(e.Refusal), fmt.Sprint(e.Answers), fmt.Sprint(e.Bytes),
		})
		return limit == 0 || len(rows.Cells) < limit
	})
	if err != nil {
		return err
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

// verifyHeads checks the record against what the clearinghouse has seen of it.
func verifyHeads(cmd *cobra.Command, d *audit.Trail, address string, configs []string) error {
	if address != "" {
		return nil // the configuration says whose record it is
	}
	c, err := node.LoadConfiguration(configs...)
	if err != nil || c.Witness.Clearinghouse.URL == "" {
		return err
	}
	own, err := identity.Load(cmp.Or(c.Witness.Key, c.Directory().WitnessKey()))
	if err != nil {
		return err
	}
	server, err := identity.ParsePublic(c.Witness.Clearinghouse.Key)
	if err != nil {
		return err
	}
	var heads []treehead.TreeHead
	kept, err := d.Heads(cmd.Context())
	if err != nil {
		return err
	}
	for _, text := range kept {
		h, err := treehead.OpenCosigned(text, own.Public(), server)
		if err != nil {
			return cli.Found(fmt.Errorf("%w: a head that was kept: %w", audit.ErrTampered, err))
		}
		heads = append(heads, h)
	}
	client, err := reporting.Dial(c.Witness.Clearinghouse.URL, []identity.Public{server}, own)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), 20*time.Second)
	defer cancel()
	switch _, _, text, err := client.CosignHead(ctx, "", 0, nil); {
	case err != nil:
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: the clearinghouse was not asked what it has seen of the record: %v\n", err)
	case text != "":
		h, err := treehead.Open(text, own.Public())
		if err != nil {
			return err
		}
		heads = append(heads, h)
	}
	err = d.VerifyHeads(cmd.Context(), heads)
	if errors.Is(err, audit.ErrTampered) {
		return cli.Found(err)
	}
	if err == nil && len(heads) > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "it continues the %d entries that the clearinghouse has seen\n", heads[len(heads)-1].Size)
	}
	return err
}

func verifyAuditLog(cmd *cobra.Command, d *audit.Trail, f cli.Format, noted string) error {
	var before *audit.Head
	if noted != "" {
		entries, hash, ok := strings.Cut(noted, ":")
		n, err := strconv.ParseInt(entries, 10, 64)
		if _, bad := hex.DecodeString(hash); !ok || err != nil || bad != nil || n < 0 {
			return cli.Usage(fmt.Errorf("--head %q: want ENTRIES:HASH as --verify prints it", noted))
		}
		before = &audit.Head{Entries: n, Hash: hash}
	}
	head, err := d.Verify(cmd.Context(), before)
	if errors.Is(err, audit.ErrTampered) {
		return cli.Found(err)
	}
	if err != nil {
		return err
	}
	if f == cli.Table {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d:%s\n", head.Entries, head.Hash)
		return err
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, cli.Rows[audit.Head]{Items: []audit.Head{head}, Document: head})
}
