package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"filippo.io/age"
	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/trap"
	"dragnet/trap/vault"
)

// defaultTrap is the default configuration file of the role.
const defaultTrap = "/etc/dragnet/trap.yaml"

func newRunTrap() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use:   "trap",
		Short: "Bring unwanted connections to honeypots, and record what those send (double honeypot)",
		Long: `Trap runs on the router between the Internet, our network and inbound honeypots,
which are machines of yours with real services that never connect anywhere by
themselves. Connections to prefixes without hosts ('redirect.unused', or
'site.unused') are brought to a honeypot. Whatever a honeypot sends, to any
address and port, ends here: an array of emulated services answers it, and every
byte is recorded. It is attack traffic by construction (Tang 2006, section 2).

Nothing that a honeypot sends leaves: the rules that ensure this are installed
first, and stay when the role stops; 'dragnet-agent trap remove' removes them. An
unused address that sends something itself is left alone for a day. SIGHUP reads the
files again and applies the log level; the log names what else needs a restart.

It needs CAP_NET_ADMIN, CAP_NET_RAW to record packets, and CAP_NET_BIND_SERVICE to
answer datagrams to ports below 1024. 'dragnet-agent trap list', 'trap payload' and
'trap packets' show what was recorded. All keys of the configuration: docs/reference/trap.md.`,
		Example: "  dragnet-agent run trap --config /etc/dragnet/site.yaml --config /etc/dragnet/trap.yaml",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringArrayVar(&files, "config", []string{defaultTrap}, "configuration file; repeat to layer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := trap.LoadConfiguration(files...)
		if err != nil {
			return err
		}
		p := newProgram(cmd, c.Logging)
		t, err := trap.New(c, p)
		if err != nil {
			return err
		}
		return run.UntilDone(cmd.Context(), &reloadable[trap.Configuration]{
			Parts: run.Parts{t}, program: p, started: c,
			load:    func() (trap.Configuration, error) { return trap.LoadConfiguration(files...) },
			logging: func(c *trap.Configuration) *logging.Configuration { return &c.Logging },
		}, 20*time.Second, p.Log)
	}
	return cmd
}

func newTrap() *cobra.Command {
	cmd := &cobra.Command{Use: "trap", Short: "Show what a trap recorded; remove its rules", Args: cobra.ArbitraryArgs, RunE: cli.Group}
	cmd.AddCommand(newTrapList(), newTrapPayload(), newTrapPackets(), newTrapRemove())
	return cmd
}

func newTrapList() *cobra.Command {
	dir := vault.DefaultConfiguration().Directory
	cmd := &cobra.Command{
		Use: "list", Short: "List recorded sessions, the oldest first",
		Example: "  dragnet-agent trap list -o json",
		Args:    cobra.NoArgs,
	}
	cmd.Flags().StringVar(&dir, "directory", dir, "where the trap keeps its captures")
	output := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		rows := cli.Rows[*vault.Line]{Header: []string{"time", "honeypot", "to", "proto", "service", "sent", "lost", "reason", "sha256"}}
		err := vault.Sessions(dir, func(l *vault.Line) error {
			sent := 0
			for _, c := range l.Chunks {
				if !c.Answer {
					sent += c.Bytes
				}
			}
			rows.Items = append(rows.Items, l)
			rows.Cells = append(rows.Cells, []string{formatTime(l.Start), l.Client.String(), l.Server.String(), l.Proto.String(), l.Service,
				fmt.Sprint(sent), fmt.Sprint(l.Lost), l.Reason, l.Sent})
			return nil
		})
		if err != nil {
			return err
		}
		if len(rows.Cells) == 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "no session is recorded in %s\n", dir)
		}
		return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
	}
	return cmd
}

// captureFlags adds the flags that name a trap's captures and the key to them, and
// returns the directory and what reads the key.
func captureFlags(cmd *cobra.Command) (dir *string, readKey func() ([]age.Identity, error)) {
	dir = cmd.Flags().String("directory", vault.DefaultConfiguration().Directory, "where the trap keeps its captures")
	key := cmd.Flags().String("key", "", "file of the age key (default age.key in the directory)")
	return dir, func() ([]age.Identity, error) {
		keys, err := vault.ReadKey(cmp.Or(*key, filepath.Join(*dir, "age.key")))
		if err != nil {
			return nil, cli.Hint(err, "name the key to which 'vault.recipients' encrypts, with --key")
		}
		return keys, nil
	}
}

func newTrapPayload() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "payload SHA256", Short: "Decrypt one payload",
		Long: `Payload decrypts what a session sent or was answered. It is what an attacker sent:
look at it, compare it, never run it. It is written to a file, never to a terminal.`,
		Example: "  dragnet-agent trap payload 9f86d0818...0f00a08 --out sample.bin",
		Args:    cobra.ExactArgs(1),
	}
	dir, readKey := captureFlags(cmd)
	cmd.Flags().StringVar(&out, "out", "", "file to write, which must not exist; - is standard output")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if out == "" {
			return cli.Usage(fmt.Errorf("name a file with --out"))
		}
		keys, err := readKey()
		if err != nil {
			return err
		}
		b, err := vault.ReadPayload(*dir, args[0], keys)
		if err != nil {
			return err
		}
		if out == "-" {
			_, err = cmd.OutOrStdout().Write(b)
			return err
		}
		f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		if _, err := f.Write(b); err != nil {
			f.Close()
			return err
		}
		return f.Close()
	}
	return cmd
}

func newTrapRemove() *cobra.Command {
	var files []string
	cmd := &cobra.Command{
		Use: "remove", Short: "Remove the trap's rules from the kernel: honeypots are not contained afterwards",
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringArrayVar(&files, "config", []string{defaultTrap}, "configuration file; repeat to layer")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := trap.LoadConfiguration(files...)
		if err != nil {
			return err
		}
		if err := trap.Remove(c); err != nil {
			return err
		}
		_, err = io.WriteString(cmd.ErrOrStderr(), "rules removed; honeypots that still run may now send wherever routing allows\n")
		return err
	}
	return cmd
}
