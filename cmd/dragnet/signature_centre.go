package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/internal/state"
	"dragnet/node/centre"
	"dragnet/node/layout"
)

// openState opens a node's database.
func openState(ctx context.Context, data string) (*state.DB, error) {
	address := data
	if !state.IsPostgres(address) {
		address = layout.Directory(data).State()
		if _, err := os.Stat(address); err != nil {
			return nil, cli.Hint(err, "name the node's data directory with --data")
		}
	}
	return state.Open(ctx, address)
}

func newSignatureCentre() *cobra.Command {
	var at nodeFlags
	var write, sign string
	cmd := &cobra.Command{
		Use:   "centre",
		Short: "List the signatures that a node learnt from its traps",
		Long: `Centre lists what the node's signature centre learnt from the captures of enrolled
traps: an exact signature from the first copy of an attack, a PADS once there are
enough variants. The column "problem" says why a signature is withheld, or that it
was not tested since no clean traffic is configured (centre.clean).

With --write it writes those that were tested and match no clean traffic as
signature files; 'dragnet signature match' and 'signature export' read them. It
does not write those of other organisations, whose names begin with shared-.

Another organisation's node takes these files if it trusts the key that sealed
them, which --sign names: put them where its centre.shared finds them.`,
		Example: "  dragnet signature centre --data /var/lib/dragnet\n  dragnet signature centre --write signatures --sign key.pem",
		Args:    cobra.NoArgs,
	}
	output := cli.OutputFlag(cmd)
	at.addDataFlag(cmd, "data directory of the node, or the URL of its PostgreSQL database")
	cmd.Flags().StringVar(&write, "write", "", "directory to write signature files to")
	cmd.Flags().StringVar(&sign, "sign", "", "Ed25519 private key (PEM) that seals what is written")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		db, err := openState(cmd.Context(), at.data)
		if err != nil {
			return err
		}
		err = centre.Migrate(cmd.Context(), db)
		var all []centre.Listed
		if err == nil {
			all, err = centre.ListSignatures(cmd.Context(), db)
		}
		if err := errors.Join(err, db.Close()); err != nil {
			return err
		}
		rows := cli.Rows[centre.Listed]{Header: []string{"signature", "method", "samples", "learned", "status", "problem"}}
		written := 0
		for _, l := range all {
			rows.Items = append(rows.Items, l)
			rows.Cells = append(rows.Cells, []string{l.Name, l.Method, fmt.Sprint(l.Samples), l.Learned.Format("2006-01-02T15:04:05Z"), string(l.Status), orDash(l.Problem)})
			if write != "" && l.Problem == "" && !l.IsShared() {
				x, _, err := dossier.OpenSignature(l.File)
				if err == nil {
					err = os.MkdirAll(write, 0o755)
				}
				if err == nil {
					err = writeSignature(x, filepath.Join(write, l.Name+".signature.json"), sign)
				}
				if err != nil {
					return err
				}
				written++
			}
		}
		if len(all) == 0 {
			fmt.Fprintln(cmd.ErrOrStderr(), "no trap has sent a capture to this node")
		}
		if write != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %d of %d signatures; the others were not tested, match clean traffic, or were shared by others\n", written, len(all))
		}
		return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
	}
	return cmd
}
