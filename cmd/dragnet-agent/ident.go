package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/internal/logging"
	"dragnet/internal/run"
	"dragnet/trace/daemon"
	"dragnet/trace/token"

	"golang.org/x/sys/unix"
)

// defaultIdent is the default configuration file of the role; without it the
// defaults apply, which serve plain ID to everyone.
const defaultIdent = "/etc/dragnet/ident.yaml"

// identFlags adds --config and --state and returns a function that loads the
// configuration.
func identFlags(cmd *cobra.Command) func() (daemon.Configuration, error) {
	var config, state string
	cmd.Flags().StringVar(&config, "config", "", "configuration file (default "+defaultIdent+", if it exists)")
	cmd.Flags().StringVar(&state, "state", "", "folder of key and records (overrides the configuration)")
	return func() (daemon.Configuration, error) {
		path := config
		if path == "" {
			path = defaultIdent
		}
		c, err := daemon.LoadConfiguration(path)
		if config == "" && errors.Is(err, fs.ErrNotExist) {
			c, err = daemon.DefaultConfiguration(), nil
		}
		if state != "" {
			c.State = state
		}
		return c, err
	}
}

func newRunIdent() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ident",
		Short: "Answer who is behind a connection with a token (RFC 1413 and STOP)",
		Long: `Ident answers on port 113 with tokens. It saves process state and asks previous
hosts only for askers listed in the configuration; all others get plain
identification. It listens on the sockets that systemd passes, if any. SIGHUP reads
the file again and applies the askers and the log level; the log names what else needs
a restart.

All keys of the configuration: docs/reference/ident.md.`,
		Args: cobra.NoArgs,
	}
	load := identFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, err := load()
		if err != nil {
			return err
		}
		p := newProgram(cmd, config.Logging)
		admins, err := newAdmin(config.Admin, p)
		if err != nil {
			return err
		}
		listeners, err := openListeners(config.Listen)
		if err != nil {
			return err
		}
		role := daemon.New(config, daemon.Dependencies{Listeners: listeners, Log: logging.Component(p.Log, "ident"), Admin: admins})
		return run.UntilDone(cmd.Context(), &reloadable[daemon.Configuration]{
			Parts: run.Parts{role, admins}, program: p, started: config, load: load,
			logging: func(c *daemon.Configuration) *logging.Configuration { return &c.Logging },
			applied: []string{"askers"},
			apply: func(_ context.Context, c *daemon.Configuration) error {
				role.SetAskers(c.Askers)
				return nil
			},
		}, 10*time.Second, p.Log)
	}
	return cmd
}

// openListeners takes systemd's sockets or opens our own.
func openListeners(addresses []string) ([]net.Listener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, fmt.Errorf("take sockets from systemd: %w", err)
	}
	var out []net.Listener
	for _, l := range passed {
		if _, ok := l.(*net.TCPListener); !ok {
			return nil, errors.New("a socket from systemd is not a TCP listener; use ListenStream=113 and Accept=no")
		}
		out = append(out, l)
	}
	if len(out) > 0 {
		return out, nil
	}
	// Connections last for one answer: keep-alive probes would only cost system
	// calls.
	config := net.ListenConfig{KeepAlive: -1, Control: deferAccept}
	for _, a := range addresses {
		l, err := config.Listen(context.Background(), "tcp", a)
		if err != nil {
			return nil, cli.Hint(fmt.Errorf("listen: %w", err), "port 113 needs root or CAP_NET_BIND_SERVICE; stop another ident daemon first")
		}
		out = append(out, l)
	}
	if len(out) == 0 {
		return nil, cli.Usage(errors.New("nothing to listen on: set 'listen' in the configuration"))
	}
	return out, nil
}

// deferAccept makes the kernel deliver connections with their first question,
// which saves waking up for each of them twice. Connections without a question
// stay in the kernel.
func deferAccept(_, _ string, c syscall.RawConn) error {
	const seconds = 5
	var err error
	if control := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds)
	}); control != nil {
		return control
	}
	return err
}

// newToken has the administrator's commands for tokens.
func newToken() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "List, redeem and verify the tokens this host issued",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newTokenList(), newTokenRedeem(), newTokenVerify())
	return cmd
}

// loadHostKey reads the configuration and the host's key. It does not make a key:
// a host without one gave no tokens.
func loadHostKey(load func() (daemon.Configuration, error)) (config daemon.Configuration, key ed25519.PrivateKey, err error) {
	if config, err = load(); err != nil {
		return config, nil, err
	}
	file := daemon.KeyFile(config.State)
	if _, err := os.Stat(file); err != nil {
		return config, nil, cli.Hint(fmt.Errorf("no host key: %w", err), "name the folder of the daemon with --state or --config")
	}
	key, err = token.LoadKey(file)
	return config, key, err
}

func readAnchors(files []string, key ed25519.PublicKey) (anchors []token.Anchor, err error) {
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read anchor: %w", err)
		}
		a, err := token.ParseAnchor(string(b), key)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		anchors = append(anchors, a)
	}
	return anchors, nil
}

func newTokenVerify() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check all records against their tokens, the chain and the signatures",
		Long: `Verify checks all records. That records were cut off at either end shows only by an
anchor, a signed line that states how far the store went. The newest is the file anchor
beside the records; the daemon also logs one each hour. Name those that you kept on another
machine with --anchor.`,
		Args: cobra.NoArgs,
	}
	var files []string
	cmd.Flags().StringArrayVar(&files, "anchor", nil, "file with an anchor that was kept elsewhere; repeat")
	load := identFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		config, key, err := loadHostKey(load)
		if err != nil {
			return err
		}
		anchors, err := readAnchors(files, publicOf(key))
		if err != nil {
			return err
		}
		r, err := token.VerifyAnchored(daemon.RecordsDir(config.State), publicOf(key), anchors...)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "%d records, %d checkpoints, %d records removed to make room, %d not signed yet\n", r.Records, r.Checkpoints, r.Removed, r.Unsigned)
		for _, p := range r.Problems {
			fmt.Fprintln(out, p)
		}
		if n := len(r.Problems); n > 0 {
			return cli.Found(fmt.Errorf("%d problems: records were changed or removed after they were stored", n))
		}
		return nil
	}
	return cmd
}
