package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"dragnet/internal/cli"
	"dragnet/internal/conf"
	"dragnet/internal/durable"
	"dragnet/node"
	nodev1 "dragnet/wire/node/v1"
)

func newSupport() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "support",
		Short: "Collect what somebody who helps you needs to know",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newSupportDump())
	return cmd
}

// supportDump is what a dump is made of.
type supportDump struct {
	node.Configuration
	files    []string
	problem  error // why Configuration is not known
	mistakes []conf.Mistake
	at       nodeFlags
	check    bool
	logLines int
}

func newSupportDump() *cobra.Command {
	d := &supportDump{logLines: 500}
	var out string
	cmd := &cobra.Command{
		Use:   "dump",
		Short: "Write versions, configuration, status, metrics and log of a node into one text file",
		Long: `Dump writes one text file for somebody who helps you: the program and the machine,
the configuration with its secrets masked, what the node says of itself, its
metrics, and the end of its log. It holds no flows, findings, questions or keys.
The configuration and the log do name hosts, networks and members: read the file
before you send it; nothing is sent. What could not be had is named with the reason.

Without --config it reads the packaged files; --check-store reads the whole data
directory, which takes a while.`,
		Example: "  dragnet support dump\n  dragnet support dump --config site.yaml --config node.yaml --log-lines 0 --out -",
		Args:    cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringArrayVar(&d.files, "config", nil, "configuration file of the node; repeat to layer (default the packaged ones)")
	f.BoolVar(&d.check, "check-store", false, "also read the whole data directory for damage")
	f.IntVar(&d.logLines, "log-lines", d.logLines, "lines of the log of the node's systemd unit; 0 for none")
	f.StringVar(&out, "out", "", "file to write, - for standard output (default dragnet-support-TIME.txt)")
	d.at.addNodeFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if d.at.node == "" {
			d.at.node = findNode()
		}
		d.readConfiguration()
		now := time.Now().UTC()
		var text bytes.Buffer
		d.write(cmd.Context(), &text, now)
		if err := cmd.Context().Err(); err != nil {
			return err
		}
		if out == "-" {
			_, err := text.WriteTo(cmd.OutOrStdout())
			return err
		}
		if out == "" {
			out = "dragnet-support-" + now.Format("20060102T150405Z") + ".txt"
		}
		if err := durable.WriteFile(out, text.Bytes(), 0o600); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n", out)
		fmt.Fprintln(cmd.ErrOrStderr(), "read it before you send it: it names hosts, networks and members")
		return nil
	}
	return cmd
}

// readConfiguration reads the files over the defaults, as far as they can be read.
func (d *supportDump) readConfiguration() {
	d.Configuration = node.DefaultConfiguration()
	files, err := configurationFiles(d.files, "site.yaml", "node.yaml")
	if err == nil {
		err = conf.Load(&d.Configuration, files...)
	}
	if wrong, ok := errors.AsType[*conf.Error](err); ok {
		d.mistakes, err = wrong.Mistakes, nil
	}
	d.problem = err
}

// write writes all sections.
func (d *supportDump) write(ctx context.Context, w io.Writer, now time.Time) {
	fmt.Fprintf(w, "Dragnet support dump, %s\n", now.Format(time.RFC3339))
	for _, s := range []struct {
		title string
		write func(context.Context, io.Writer) error
	}{
		{"program", d.writeProgram}, {"machine", d.writeMachine}, {"configuration, secrets masked", d.writeConfiguration},
		{"status of the node", d.writeStatus}, {"metrics of the node", d.writeMetrics}, {"store", d.writeStore}, {"log of the node", d.writeLog},
	} {
		fmt.Fprintf(w, "\n==== %s ====\n", s.title)
		if err := s.write(ctx, w); err != nil {
			fmt.Fprintf(w, "not available: %v\n", err)
		}
	}
}

func (d *supportDump) writeProgram(_ context.Context, w io.Writer) error {
	_, err := fmt.Fprintf(w, "dragnet %s\n", cli.BuildVersion())
	return err
}

func (d *supportDump) writeMachine(_ context.Context, w io.Writer) error {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return err
	}
	text := func(b []byte) string { return string(b[:max(0, bytes.IndexByte(b, 0))]) }
	fmt.Fprintf(w, "kernel: %s %s %s\nprocessors: %d\n", text(name.Sysname[:]), text(name.Release[:]), text(name.Machine[:]), runtime.NumCPU())
	for _, f := range []struct{ path, prefix string }{{"/etc/os-release", "PRETTY_NAME="}, {"/proc/meminfo", "MemTotal:"}, {"/proc/meminfo", "MemAvailable:"}} {
		b, err := os.ReadFile(f.path)
		if err != nil {
			fmt.Fprintf(w, "not available: %v\n", err)
			continue
		}
		for line := range strings.Lines(string(b)) {
			if strings.HasPrefix(line, f.prefix) {
				fmt.Fprint(w, line)
			}
		}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(d.Store.Directory, &fs); err != nil {
		return fmt.Errorf("room at %s: %w", d.Store.Directory, err)
	}
	size := uint64(fs.Bsize)
	_, err := fmt.Fprintf(w, "%s: %s of %s free\n", d.Store.Directory, formatMiB(fs.Bavail*size), formatMiB(fs.Blocks*size))
	return err
}

func formatMiB(octets uint64) string { return strconv.FormatUint(octets>>20, 10) + " MiB" }

func (d *supportDump) writeConfiguration(_ context.Context, w io.Writer) error {
	if d.problem != nil {
		return d.problem
	}
	for _, m := range d.mistakes {
		fmt.Fprintf(w, "# mistake: %s\n", m)
	}
	return conf.Show(w, &d.Configuration)
}

func (d *supportDump) writeStatus(ctx context.Context, w io.Writer) error {
	if d.at.node == "" {
		return errors.New("no node runs on this machine, and --node names none")
	}
	client, err := d.at.dialNode()
	if err != nil {
		return err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	got, err := client.Status.GetStatus(ctx, &nodev1.GetStatusRequest{})
	if err != nil {
		return d.at.explainError(err)
	}
	return writeStatusText(w, readStatus(got))
}

// answerWithin is how long a node may take to say how it does: one that hangs is one of the
// things that this is for.
const answerWithin = 20 * time.Second

// maxMetrics bounds what is read of metrics, in octets.
const maxMetrics = 4 << 20

func (d *supportDump) writeMetrics(ctx context.Context, w io.Writer) error {
	if d.problem != nil {
		return errors.New("the configuration is not known")
	}
	if d.Admin.Listen == "" {
		return errors.New("'admin.listen' is not set")
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+d.Admin.Listen+"/metrics", nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return errors.New(res.Status)
	}
	_, err = io.Copy(w, io.LimitReader(res.Body, maxMetrics))
	return err
}

func (d *supportDump) writeStore(ctx context.Context, w io.Writer) error {
	if !d.check {
		return errors.New("not read; --check-store does")
	}
	if d.problem != nil {
		return errors.New("the configuration is not known")
	}
	if d.Store.ClickHouse != "" {
		return errors.New("flows are in ClickHouse, which checks its own files (CHECK TABLE flows)")
	}
	found, flows, err := checkDirectory(ctx, d.Store.Directory)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%s read, %s\n", cli.Plural(flows, "flow"), cli.Plural(len(found), "fault"))
	for _, f := range found {
		fmt.Fprintf(w, "%s: %s (%d flows): %s\n", f.File, f.Problem, f.Flows, f.Advice)
	}
	return nil
}

func (d *supportDump) writeLog(ctx context.Context, w io.Writer) error {
	if d.logLines <= 0 {
		return errors.New("left out by --log-lines")
	}
	out, err := exec.CommandContext(ctx, "journalctl", "--no-pager", "--quiet", "--output=cat", "--lines", strconv.Itoa(d.logLines), "--unit", "dragnet-node").CombinedOutput()
	if err != nil {
		return fmt.Errorf("journalctl: %w: %s", err, bytes.TrimSpace(out))
	}
	if len(out) == 0 {
		return errors.New("the journal has no line of dragnet-node")
	}
	_, err = w.Write(out)
	return err
}
