package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"dragnet/clearinghouse"
	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/node/community"
	"dragnet/wire/identity"
	"dragnet/wire/reporting"
)

// clearingFlags name a clearinghouse, and the member who asks it.
type clearingFlags struct {
	url, server, key string
}

func (f *clearingFlags) addFlags(cmd *cobra.Command, member bool) {
	cmd.Flags().StringVar(&f.url, "clearinghouse", "", "address of the clearinghouse, such as https://203.0.113.1:8443 (default: the context's)")
	fromContext(cmd, "clearinghouse")
	cmd.Flags().StringVar(&f.server, "server", "", "public key of the clearinghouse's server (default: the context's)")
	fromContext(cmd, "server")
	if member {
		cmd.Flags().StringVar(&f.key, "key", "", "private key of the member who reports (default: the context's)")
		fromContext(cmd, "key")
	}
}

func (f *clearingFlags) dialClearinghouse() (*reporting.Client, error) {
	if f.url == "" || f.server == "" {
		return nil, cli.Hint(cli.Usage(errors.New("--clearinghouse or --server is missing: which clearinghouse, and by which key is it known?")),
			"'dragnet context set NAME --clearinghouse https://HOST:PORT --server KEY' keeps both")
	}
	server, err := identity.ParsePublic(f.server)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("--server: %w", err))
	}
	var own *identity.Key
	if f.key != "" {
		if own, err = identity.Load(f.key); err != nil {
			return nil, err
		}
	}
	c, err := reporting.Dial(f.url, []identity.Public{server}, own)
	if err != nil {
		return nil, cli.Usage(fmt.Errorf("--clearinghouse: %w", err))
	}
	return c, nil
}

// withCore runs work, for the operator, on the tables of the clearinghouse that
// configuration files name. The service may be running.
func withCore(ctx context.Context, files []string, work func(*clearinghouse.Core) error) (err error) {
	if len(files) == 0 {
		return cli.Usage(errors.New("want --config FILE: the clearinghouse's own configuration"))
	}
	c, err := community.LoadConfiguration(files...)
	if err != nil {
		return cli.Hint(err, checkHint)
	}
	allow, err := c.AllowList()
	if err != nil {
		return cli.Hint(err, checkHint)
	}
	db := c.Server.Database()
	if err := db.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	h, err := clearinghouse.New(c.Clearinghouse, clearinghouse.Dependencies{DB: db, Allow: allow})
	if err != nil {
		return err
	}
	if err := h.Migrate(ctx); err != nil {
		return err
	}
	return work(h)
}

// publishNow publishes a batch, so that the operator's change takes effect.
func publishNow(cmd *cobra.Command, h *clearinghouse.Core) error {
	p, err := h.Publish(cmd.Context())
	if err == nil && p.Damaged > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %d stored reports are damaged and were left out\n", p.Damaged)
	}
	if err == nil {
		_, err = fmt.Fprintf(cmd.ErrOrStderr(), "published: %d listed, %d updated, %d removed\n", p.Listed, p.Updated, p.Removed)
	}
	return err
}

func parseReportID(s string) (id dossier.ReportID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(id) {
		return id, cli.Usage(fmt.Errorf("%.80q is not a report's identifier; want 64 hexadecimal digits", s))
	}
	return dossier.ReportID(b), nil
}

// timeFlag parses the time that a flag gives; zero if it is empty.
func timeFlag(name, value string) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	t, err := parseTime(name, value)
	if err != nil {
		return time.Time{}, cli.Usage(err)
	}
	return t.Time(), nil
}
