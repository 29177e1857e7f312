package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/spf13/cobra"

	"dragnet/contain/guard"
	"dragnet/flow"
	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/wire/channel"
)

// defaultGuard is the default configuration file of the role.
const defaultGuard = "/etc/dragnet/guard.yaml"

func newRunGuard() *cobra.Command {
	var files, read []string
	var dev string
	cmd := &cobra.Command{
		Use:   "guard",
		Short: "Watch a customer network's edge for worms, and contain them (DAW)",
		Long: `Guard runs beside a Linux router and watches the interface toward a customer
network. It counts failing connections per source: a scanning worm fails nearly
always, people hardly ever. It can hold sources above their limits back for
moments, and block persistent ones, by nftables in a separate table.

It acts only on a decision: 'standing' in the configuration says who decided, why,
and for how many addresses at a time. With 'enforce: true' it takes effect;
without it, it is a dry run whose events show what would have been done. A station
('station') can send such decisions instead. The allow list overrides all
decisions. On SIGTERM blocks are undone, unless undo_at_stop is false; they expire
in any case. SIGHUP reads the files again and applies the allow list and the log
level; the log names what else has changed and needs a restart.

It needs CAP_NET_RAW, and CAP_NET_ADMIN if it may block. With --read it shows what
it would have done on captures, and needs neither.

All keys of the configuration: docs/reference/guard.md.`,
		Example: `  dragnet-agent run guard --read border.pcap --config guard.yaml
  dragnet-agent run guard --config /etc/dragnet/site.yaml --config guard.yaml --interface eth1`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringArrayVar(&files, "config", nil, "configuration file; repeat to layer (default "+defaultGuard+", if it exists)")
	cmd.Flags().StringVar(&dev, "interface", "", "interface toward the customer network (overrides the configuration)")
	cmd.Flags().StringArrayVar(&read, "read", nil, "capture to read instead of an interface; repeat for several")
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		load := func() (guard.Configuration, error) {
			c, err := loadGuard(files)
			c.Live.Interface = cmp.Or(dev, c.Live.Interface)
			return c, err
		}
		c, err := load()
		if err != nil {
			return err
		}
		if len(read) > 0 {
			if dev != "" {
				return cli.Usage(errors.New("--read and --interface cannot be combined"))
			}
			return replayCaptures(cmd, c, read, *output)
		}
		return runGuard(cmd, c, load)
	}
	return cmd
}

// loadGuard reads configuration files; without any, the default one if it
// exists.
func loadGuard(files []string) (guard.Configuration, error) {
	c := guard.DefaultConfiguration()
	if len(files) > 0 {
		err := conf.Load(&c, files...)
		return c, err
	}
	if err := conf.Load(&c, defaultGuard); errors.Is(err, fs.ErrNotExist) {
		return c, cli.Hint(errors.New("no configuration"), "name the watched network in a file, and that file with --config; docs/how-to/contain-a-worm.md has an example")
	} else if err != nil {
		return c, err
	}
	return c, nil
}

func runGuard(cmd *cobra.Command, c guard.Configuration, load func() (guard.Configuration, error)) (err error) {
	p := newProgram(cmd, c.Logging)
	log := logging.Component(p.Log, "guard")
	warnings, err := c.Limits.Validate()
	if err != nil {
		return err
	}
	for _, w := range warnings {
		log.Warn("limits are implausible", "warning", w)
	}
	admins, err := newAdmin(c.Admin, p)
	if err != nil {
		return err
	}
	var parts run.Parts
	var station *guard.Channel
	if c.Station {
		if station, err = guard.NewChannel(c.Channel, channel.Dependencies{Log: logging.Component(p.Log, "channel"), Admin: admins, Release: p.Release}); err != nil {
			return err
		}
		parts = append(parts, station)
	}
	role, err := guard.NewRole(c, guard.Dependencies{Station: station, Log: log, Admin: admins})
	if err != nil {
		return err
	}
	parts = append(parts, hinted{role, "the role needs CAP_NET_RAW, and CAP_NET_ADMIN where it may block"}, admins)
	return run.UntilDone(cmd.Context(), &reloadable[guard.Configuration]{
		Parts: parts, program: p, started: c, load: load,
		logging: func(c *guard.Configuration) *logging.Configuration { return &c.Logging },
		apply:   func(ctx context.Context, c *guard.Configuration) error { return role.SetAllow(ctx, c.Allow) }, applied: []string{"allow"},
	}, 20*time.Second, p.Log)
}

func replayCaptures(cmd *cobra.Command, c guard.Configuration, files []string, format cli.Format) error {
	rows := cli.Rows[guard.Action]{Header: []string{"time", "what", "target", "limit", "until", "why"}}
	done, err := guard.Replay(cmd.Context(), c, files, func(e guard.Action) {
		target, until := "", ""
		if e.Target.IsValid() {
			target = e.Target.String()
		}
		if e.Until != 0 {
			until = formatTime(e.Until)
		}
		rows.Items = append(rows.Items, e)
		rows.Cells = append(rows.Cells, []string{formatTime(e.Time), e.What, target, e.Limit, until, e.Why})
	})
	if err != nil {
		return err
	}
	if err := cli.WriteRows(cmd.OutOrStdout(), format, rows); err != nil {
		return err
	}
	r := done.Report
	fmt.Fprintf(cmd.ErrOrStderr(), "%d packets from %s to %s (%d skipped); on the last day %d requests of watched sources, %d failures counted, %d sources at a limit; dry run: %d sources would have been held back\n",
		done.Stats.Packets, formatTime(done.First), formatTime(done.Last), done.Skipped, r.Requests, r.Failed(), r.Limited, done.Stats.Held)
	return nil
}

func formatTime(t flow.Time) string { return t.Time().Format(time.RFC3339) }
