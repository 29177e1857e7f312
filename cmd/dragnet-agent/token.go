package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/trace/daemon"
	"dragnet/trace/record"
	"dragnet/trace/token"
)

func publicOf(key ed25519.PrivateKey) ed25519.PublicKey { return key.Public().(ed25519.PublicKey) }

// tokenRow is a row of token list as JSON.
type tokenRow struct {
	Time    time.Time `json:"time"`
	Token   string    `json:"token"`
	Kind    string    `json:"kind"`
	Asker   string    `json:"asker"`
	Local   string    `json:"local"`
	Remote  string    `json:"remote"`
	User    string    `json:"user"`
	Outcome string    `json:"outcome"`
}

func newTokenList() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the tokens of this host, oldest first",
		Args:  cobra.NoArgs,
	}
	load := identFlags(cmd)
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := load()
		if err != nil {
			return err
		}
		rows := cli.Rows[tokenRow]{Header: []string{"time", "token", "kind", "asker", "local", "remote", "user", "outcome"}}
		err = token.Each(daemon.RecordsDir(config.State), func(e token.Entry) error {
			l := toRow(e)
			rows.Items = append(rows.Items, l)
			rows.Cells = append(rows.Cells, []string{l.Time.Format(time.RFC3339), l.Token, l.Kind, l.Asker, l.Local, l.Remote, l.User, l.Outcome})
			return nil
		})
		if err != nil {
			return cli.Hint(err, "name the folder of the daemon with --state or --config")
		}
		return cli.WriteRows(cmd.OutOrStdout(), *format, rows)
	}
	return cmd
}

func toRow(e token.Entry) tokenRow {
	l := tokenRow{Time: e.Time, Token: e.Token}
	if e.Problem != nil {
		l.Outcome = e.Problem.Error()
		return l
	}
	r, err := record.Parse(e.Record)
	if err != nil {
		l.Outcome = err.Error()
		return l
	}
	l.Kind, l.Asker, l.Local, l.Remote, l.Outcome = r.Kind, r.Asker.String(), r.Local.String(), r.Remote.String(), r.Outcome
	if r.UID != nil {
		l.User = r.User
		if l.User == "" {
			l.User = strconv.FormatUint(uint64(*r.UID), 10)
		}
	}
	return l
}

func newTokenRedeem() *cobra.Command {
	var out, reason string
	cmd := &cobra.Command{
		Use:   "redeem TOKEN",
		Short: "Write the signed redemption of a token",
		Long: `Redeem writes a signed redemption for an investigator: the record, the proof that
it belongs to the token, and the answers of previous hosts, signed with the key of
this host. The first digits of a token are enough where no other begins with them.
It reveals what a user did on this host: give it only to those entitled
to it.`,
		Args: cobra.ExactArgs(1),
	}
	cmd.Flags().StringVar(&out, "out", "", "file to write (default standard output)")
	cmd.Flags().StringVar(&reason, "for", "", "to whom and why; becomes part of the redemption")
	load := identFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		config, key, err := loadHostKey(load)
		if err != nil {
			return err
		}
		whole, err := token.Complete(daemon.RecordsDir(config.State), args[0])
		if err != nil {
			return cli.Usage(err)
		}
		host, err := os.Hostname()
		if err != nil {
			return err
		}
		l, err := token.Redeem(daemon.RecordsDir(config.State), key, whole, host, reason, time.Now())
		if err != nil {
			return err
		}
		if err := writeRedemption(cmd, out, l); err != nil {
			return err
		}
		if r, err := l.Open(); err == nil && r.Problem != "" {
			return cli.Found(errors.New(r.Problem))
		}
		return nil
	}
	return cmd
}

func writeRedemption(cmd *cobra.Command, path string, l token.SignedRedemption) error {
	if path == "" {
		return cli.WriteJSON(cmd.OutOrStdout(), l)
	}
	var b strings.Builder
	if err := cli.WriteJSON(&b, l); err != nil {
		return err
	}
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write signed redemption: %w", err)
	}
	return nil
}
