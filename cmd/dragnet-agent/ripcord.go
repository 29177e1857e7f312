package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/contain/ripcord"
	"dragnet/contain/ripcord/message"
	"dragnet/contain/ripcord/pull"
	"dragnet/dossier"
	"dragnet/internal/cli"
	"dragnet/internal/logging"
	"dragnet/internal/run"
)

// defaultRipcord is the default configuration file of the role.
const defaultRipcord = "/etc/dragnet/ripcord.yaml"

func newRunRipcord() *cobra.Command {
	var config string
	cmd := &cobra.Command{
		Use:   "ripcord",
		Short: "Run a gateway between a host and its network that lets receivers stop what it sends",
		Long: `Ripcord joins two interfaces, without an IP address. It lets packets of the host
pass only from the host's addresses, and only until the other side of a connection
sends a valid RST, or ends a conversation with 'dragnet-agent ripcord pull'.

The programs and tables stay in the kernel when this command ends, so that it can
be restarted or replaced without losing a connection; 'dragnet-agent ripcord
remove' removes them. Without 'enforce: true' it only counts. SIGHUP reads the file
again, if the user that it runs as may, and applies the log level; the log names
what else needs a restart.`,
		Args: cobra.NoArgs,
	}
	cmd.Flags().StringVar(&config, "config", defaultRipcord, "configuration file")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := ripcord.LoadConfiguration(config)
		if err != nil {
			return err
		}
		p := newProgram(cmd, c.Logging)
		admins, err := newAdmin(c.Admin, p)
		if err != nil {
			return err
		}
		gateways := ripcord.NewGateways(c, ripcord.Dependencies{Log: logging.Component(p.Log, "ripcord"), Metrics: admins.Metrics()})
		// The confined process may not listen any more.
		role := &reloadable[ripcord.Configuration]{
			Parts: run.Parts{admins, confinedGateways{gateways}}, program: p, started: c,
			load:    func() (ripcord.Configuration, error) { return ripcord.LoadConfiguration(config) },
			logging: func(c *ripcord.Configuration) *logging.Configuration { return &c.Logging },
		}
		if err := run.UntilDone(cmd.Context(), role, time.Minute, p.Log); err != nil {
			return cli.Hint(err, "'dragnet-agent doctor --ripcord FILE' shows what this machine lacks")
		}
		return nil
	}
	return cmd
}

// confinedGateways give up their privileges once they run.
type confinedGateways struct{ *ripcord.Gateways }

// Start starts the gateways and confines the process.
func (c confinedGateways) Start(ctx context.Context) error {
	if err := c.Gateways.Start(ctx); err != nil {
		return err
	}
	if err := c.Confine(); err != nil {
		return errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

func newRipcord() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ripcord",
		Short: "Stop what a host behind a gateway sends; inspect a gateway",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newRipcordPull(), newRipcordShow(), newRipcordFindings(), newRipcordRemove())
	return cmd
}

// pullResult is the outcome of pull as JSON.
type pullResult struct {
	Host netip.Addr `json:"host"`
	// Status is the gateway's answer; empty with --reset, which has no answer.
	Status  string `json:"status"`
	Seconds int    `json:"seconds"`
	// Obeyed is whether no more packets arrived while we watched; null if we
	// did not watch.
	Obeyed *bool `json:"obeyed"`
	// Packets is the number that still arrived.
	Packets int `json:"packets"`
}

func newRipcordPull() *cobra.Command {
	r := pull.Request{}
	var proto, peer string
	var reset bool
	var watch, timeout time.Duration
	cmd := &cobra.Command{
		Use:   "pull HOST",
		Short: "Stop what a host sends to this machine",
		Long: `Pull asks the gateway in front of HOST to end a conversation with us, and proves
that packets to our address reach us. With --reset it answers the next TCP segment
of HOST by a RST instead, as our kernel does for an unknown connection; that needs
CAP_NET_RAW, and so does checking whether HOST stops.`,
		Args: cobra.ExactArgs(1),
	}
	flags := cmd.Flags()
	flags.StringVar(&proto, "proto", "any", "protocol: tcp, udp, icmp, icmp6, a number, or any")
	flags.Uint16Var(&r.HPort, "host-port", 0, "the host's port (default any)")
	flags.Uint16Var(&r.PPort, "port", 0, "our port (default any)")
	flags.StringVar(&peer, "to", "", "our address or prefix (default the address that packets to HOST leave from)")
	flags.DurationVar(&r.For, "for", 5*time.Minute, "how long")
	flags.Uint16Var(&r.Port, "gateway-port", ripcord.DefaultConfiguration().Pull.Port, "UDP port of the gateway")
	flags.BoolVar(&reset, "reset", false, "end a TCP connection by a RST")
	flags.DurationVar(&watch, "watch", 2*time.Second, "how long to check whether the host stops; 0 does not check")
	flags.DurationVar(&timeout, "timeout", 10*time.Second, "how long to keep trying")
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if r.Host, err = netip.ParseAddr(args[0]); err != nil {
			return cli.Usage(fmt.Errorf("host %.80q: want an address such as 192.0.2.7", args[0]))
		}
		if r.Proto, err = parseProto(proto); err != nil {
			return cli.Usage(err)
		}
		if r.Proto == 0 && (r.HPort != 0 || r.PPort != 0) && !reset {
			return cli.Usage(errors.New("ports need a protocol: add --proto"))
		}
		if peer != "" {
			if r.Peer, err = parsePeer(peer); err != nil {
				return cli.Usage(err)
			}
		}
		return runPull(cmd, r, reset, watch, timeout, *format)
	}
	return cmd
}

func runPull(cmd *cobra.Command, r pull.Request, reset bool, watch, timeout time.Duration, format cli.Format) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	out := pullResult{Host: r.Host}
	if reset {
		if err := pull.Reset(ctx, r); err != nil {
			return err
		}
	} else {
		status, last, err := pull.Do(ctx, r)
		if err != nil {
			return err
		}
		if status != message.Done {
			return fmt.Errorf("the gateway refuses: %v", status)
		}
		out.Status, out.Seconds = status.String(), int(last.Seconds())
	}
	if watch > 0 {
		n, err := pull.CountPackets(cmd.Context(), r, watch)
		if err != nil {
			fmt.Fprintln(cmd.ErrOrStderr(), "could not check whether the host stopped:", err)
		} else {
			obeyed := n == 0
			out.Obeyed, out.Packets = &obeyed, n
		}
	}
	obeyed := "not known"
	if out.Obeyed != nil {
		obeyed = strconv.FormatBool(*out.Obeyed)
	}
	err := cli.WriteRows(cmd.OutOrStdout(), format, cli.Rows[pullResult]{
		Header: []string{"host", "status", "seconds", "obeyed", "packets"}, Items: []pullResult{out},
		Cells: [][]string{{out.Host.String(), out.Status, strconv.Itoa(out.Seconds), obeyed, strconv.Itoa(out.Packets)}},
	})
	if err == nil && out.Obeyed != nil && !*out.Obeyed {
		err = cli.Found(fmt.Errorf("%v continues: %d packets arrived afterwards", r.Host, out.Packets))
	}
	return err
}

func parseProto(s string) (uint8, error) {
	switch strings.ToLower(s) {
	case "any":
		return 0, nil
	case "tcp":
		return 6, nil
	case "udp":
		return 17, nil
	case "icmp":
		return 1, nil
	case "icmp6":
		return 58, nil
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("protocol %q: write tcp, udp, icmp, icmp6, any or a number below 256", s)
	}
	return uint8(n), nil
}

func parsePeer(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("to: %w", err)
	}
	return p.Masked(), nil
}

// namedGateway is the configuration of one host's gateway; the name of its port is
// empty where the file has no ports.
type namedGateway struct {
	name string
	ripcord.Configuration
}

// configFlags adds --config and --port and returns a function that reads the file, and
// chooses from its ports.
func configFlags(cmd *cobra.Command) func() ([]namedGateway, error) {
	var config, port string
	cmd.Flags().StringVar(&config, "config", defaultRipcord, "configuration file")
	cmd.Flags().StringVar(&port, "port", "", "only this port of the file (default all)")
	return func() (all []namedGateway, err error) {
		c, err := ripcord.LoadConfiguration(config)
		if err != nil {
			return nil, err
		}
		for i, one := range c.ForPorts() {
			named := namedGateway{Configuration: one}
			if len(c.Ports) > 0 {
				named.name = c.Ports[i].Name
			}
			if port == "" || port == named.name {
				all = append(all, named)
			}
		}
		if len(all) == 0 {
			return nil, cli.Usage(fmt.Errorf("%s has no port %q", config, port))
		}
		return all, nil
	}
}

func newRipcordShow() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show what the gateway on this machine counts and blocks, as JSON",
		Long: `Show prints what the tables of the gateway in the kernel hold, whether an agent runs or
not. Where the configuration has ports it prints an object of them by name; a port that
was never attached is named on standard error.`,
		Args: cobra.NoArgs,
	}
	config := configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := config()
		if err != nil {
			return err
		}
		status := map[string]*ripcord.GatewayStatus{}
		for _, c := range all {
			s, err := ripcord.ReadStatus(c.Pins)
			switch {
			case err != nil && c.name != "" && len(all) > 1:
				fmt.Fprintf(cmd.ErrOrStderr(), "port %s: %v\n", c.name, err)
			case err != nil:
				return err
			case c.name == "":
				return cli.WriteJSON(cmd.OutOrStdout(), s)
			default:
				status[c.name] = s
			}
		}
		return cli.WriteJSON(cmd.OutOrStdout(), status)
	}
	return cmd
}

func newRipcordFindings() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "findings",
		Short: "List when several networks asked the host behind the gateway to be silent",
		Long: `Findings lists when as many networks as 'findings.networks' says asked the host behind
the gateway to be silent within 'findings.window': by a pull that was granted, or by
refusing one new connection after the other by RST. Networks are /24 or /48. Such a
host is probably compromised; networks that it visits can agree to make it look so.`,
		Args: cobra.NoArgs,
	}
	config := configFlags(cmd)
	format := cli.OutputFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := config()
		if err != nil {
			return err
		}
		var found []dossier.Finding
		for _, c := range all {
			more, err := ripcord.ReadFindings(c.State)
			if err != nil && !(c.name != "" && errors.Is(err, fs.ErrNotExist)) { // a port that was never attached
				return err
			}
			found = append(found, more...)
		}
		rows := cli.Rows[dossier.Finding]{Header: []string{"id", "host", "first", "last", "networks", "pulls", "summary"}}
		for _, f := range found {
			rows.Items = append(rows.Items, f)
			rows.Cells = append(rows.Cells, []string{f.ID, f.Host.String(), f.First.Time().UTC().Format(time.RFC3339), f.Last.Time().UTC().Format(time.RFC3339),
				strconv.FormatUint(f.Evidence.Counts["networks"], 10), strconv.FormatUint(f.Evidence.Counts["pulls"], 10), f.Summary})
		}
		if err := cli.WriteRows(cmd.OutOrStdout(), *format, rows); err != nil {
			return err
		}
		for _, c := range all {
			if len(found) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "nothing in %s: the gateway records there from its start on\n", ripcord.FindingsFile(c.State))
			}
		}
		return nil
	}
	return cmd
}

func newRipcordRemove() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "remove",
		Short: "Remove the gateway from the kernel: no packets pass afterwards",
		Long: `Remove deletes the programs and tables that the gateway left in the kernel.
Afterwards no packets pass between the interfaces, and all connections through it
are lost. The interfaces get ARP and IPv6 back, but not their addresses. It refuses
while the gateway runs.`,
		Args: cobra.NoArgs,
	}
	config := configFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		all, err := config()
		if err != nil {
			return err
		}
		var errs []error
		for _, c := range all {
			if err := ripcord.Remove(&c.Configuration); err != nil && c.name != "" {
				errs = append(errs, fmt.Errorf("port %s: %w", c.name, err))
			} else {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	}
	return cmd
}
