package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/trace/call"
	"dragnet/trace/chain"
	"dragnet/trace/client"
	"dragnet/trace/protocol"
	"dragnet/trace/token"
)

func newTrace() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trace",
		Short: "Trace a connection back to its origin, host by host",
		Args:  cobra.ArbitraryArgs,
		RunE:  cli.Group,
	}
	cmd.AddCommand(newTraceStart(), newTraceShow())
	return cmd
}

// redemptionFlags say where signed redemptions come from and how the chain is printed.
type redemptionFlags struct {
	redemptions, keys []string
	call              bool
	callPort          uint16
	keyFile           string
	reason            string
	wait              time.Duration
	output            string
}

func (f *redemptionFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.redemptions, "redemption", nil, "signed redemption from an administrator ('dragnet-agent token redeem'); repeat")
	cmd.Flags().StringArrayVar(&f.keys, "host-key", nil, "ADDRESS=KEY: a host's public key, from its administrator ('dragnet-agent doctor'); repeat")
	cmd.Flags().BoolVar(&f.call, "call", false, "redeem by calling the hosts; they must have listed our key")
	cmd.Flags().Uint16Var(&f.callPort, "call-port", call.Port, "port of calls")
	cmd.Flags().StringVar(&f.keyFile, "key", "", "our key for calls (default investigator.key beside the case; made if missing)")
	cmd.Flags().StringVar(&f.reason, "reason", "", "reason given to the hosts called")
	cmd.Flags().DurationVar(&f.wait, "wait", 15*time.Second, "with --call: how long to wait for previous hosts to answer")
	cmd.Flags().StringVarP(&f.output, "output", "o", "text", "output format: text, html (a page on its own), svg or json")
}

func newTraceStart() *cobra.Command {
	var remote, kind, at, casePath string
	var session int64
	var port uint16
	var timeout time.Duration
	var collect redemptionFlags
	cmd := &cobra.Command{
		Use:   "start HOST PORT,PORT",
		Short: "Ask a host who is behind one of its connections, and start a case",
		Long: `Start asks HOST about the connection from its first PORT to our second PORT. With
--remote ADDRESS the connection's other end is that host instead of this one, for
use on gateways and intrusion detection systems. The answer is a token, which the
host's administrator redeems. The case file keeps all answers.`,
		Example: "  dragnet trace start 192.0.2.7 51234,22 --case c1.json --call",
		Args:    cobra.ExactArgs(2),
	}
	cmd.Flags().StringVar(&remote, "remote", "", "address of the connection's other end, if it is not this host")
	cmd.Flags().StringVar(&kind, "type", "SV_REC", "ID, ID_REC, SV or SV_REC")
	cmd.Flags().Int64Var(&session, "session", -1, "session identifier; -1 takes a random one")
	cmd.Flags().StringVar(&at, "at", "", "time at which the connection was open, if it is over: RFC 3339, or an age such as 10m")
	cmd.Flags().StringVar(&casePath, "case", "", "case file to write (default case-TIME.json)")
	cmd.Flags().Uint16Var(&port, "port", client.Port, "port of the ident daemon")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait for the answer")
	collect.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		q, err := makeRequest(args[1], kind, remote, session)
		if err != nil {
			return cli.Usage(err)
		}
		if q.At, err = parseAt(at, time.Now()); err != nil {
			return cli.Usage(err)
		}
		host, err := resolveHost(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if casePath == "" {
			casePath = "case-" + time.Now().UTC().Format("20060102T150405Z") + ".json"
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		defer cancel()
		c := chain.Start(ctx, netip.AddrPortFrom(host, port), q)
		if err := c.Save(casePath); err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "case: %s\n", casePath)
		return collect.finishCase(cmd, &c, casePath)
	}
	return cmd
}

func newTraceShow() *cobra.Command {
	var collect redemptionFlags
	cmd := &cobra.Command{
		Use:   "show CASE",
		Short: "Add signed redemptions to a case, verify all of it, and draw the chain",
		Args:  cobra.ExactArgs(1),
	}
	collect.addFlags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := chain.Load(args[0])
		if err != nil {
			return err
		}
		return collect.finishCase(cmd, &c, args[0])
	}
	return cmd
}

// makeRequest builds the question from the command line.
func makeRequest(ports, kind, remote string, session int64) (protocol.Request, error) {
	q, err := protocol.ParseRequest(ports)
	if err != nil || q.Kind != protocol.ID || strings.Contains(ports, ":") {
		return q, fmt.Errorf("%q is not PORT,PORT: the port on the asked host, then the one on the other", ports)
	}
	if q.Kind, err = protocol.ParseKind(kind); err != nil {
		return q, err
	}
	switch {
	case session > 1<<32-1:
		return q, fmt.Errorf("session %d is more than 32 bits", session)
	case session >= 0:
		q.Session = uint32(session)
	case q.Kind.Recursive():
		q.Session = chain.NewSession()
	}
	if remote != "" {
		if q.Remote, err = netip.ParseAddr(remote); err != nil {
			return q, fmt.Errorf("--remote: %w", err)
		}
		q.Remote = q.Remote.Unmap()
	}
	return q, nil
}

// parseAt reads --at; the zero Time for a connection that is open.
func parseAt(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := time.ParseDuration(text); err == nil && age >= 0 {
		return now.Add(-age).UTC().Truncate(time.Second), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() <= 0 {
		return time.Time{}, fmt.Errorf("--at %q is neither a time such as %s nor an age such as 10m", text, now.UTC().Format(time.RFC3339))
	}
	return t.UTC(), nil
}

func resolveHost(ctx context.Context, host string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.Unmap(), nil
	}
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look up %s: %w", host, err)
	}
	return addresses[0].Unmap(), nil
}

// finishCase adds redemptions and keys, calls hosts, saves and prints.
func (f *redemptionFlags) finishCase(cmd *cobra.Command, c *chain.Case, path string) error {
	if err := f.addToCase(c); err != nil {
		return err
	}
	if f.call {
		if err := f.callHosts(cmd.Context(), c, path); err != nil {
			return err
		}
	}
	if err := c.Save(path); err != nil {
		return err
	}
	g := c.Judge()
	var err error
	switch out := cmd.OutOrStdout(); f.output {
	case "text":
		err = g.Text(out)
	case "svg":
		err = g.SVG(out)
	case "html":
		err = g.HTML(out, c)
	case "json":
		err = cli.WriteJSON(out, g)
	default:
		return cli.Usage(fmt.Errorf("output %q is not one of text, html, svg, json", f.output))
	}
	if err == nil && len(g.Problems) > 0 {
		err = cli.Found(fmt.Errorf("%d findings: evidence is changed or contradictory", len(g.Problems)))
	}
	return err
}

func (f *redemptionFlags) addToCase(c *chain.Case) error {
	for _, pair := range f.keys {
		address, key, ok := strings.Cut(pair, "=")
		a, err := netip.ParseAddr(address)
		if !ok || err != nil {
			return cli.Usage(fmt.Errorf("--host-key %q is not ADDRESS=KEY", pair))
		}
		k, err := token.ParseKey(key)
		if err != nil {
			return cli.Usage(fmt.Errorf("--host-key: %w", err))
		}
		if c.Keys == nil {
			c.Keys = map[netip.Addr]string{}
		}
		c.Keys[a.Unmap()] = token.FormatKey(k)
	}
	for _, path := range f.redemptions {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read signed redemption: %w", err)
		}
		l, err := token.ParseSignedRedemption(b)
		if err == nil {
			err = c.Add(l)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// callHosts redeems by calls, host by host back along the chain, until nothing
// is left to redeem or the time is up.
func (f *redemptionFlags) callHosts(ctx context.Context, c *chain.Case, path string) error {
	keyFile := f.keyFile
	if keyFile == "" {
		keyFile = filepath.Join(filepath.Dir(path), "investigator.key")
	}
	key, err := token.LoadKey(keyFile)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "calling with key %s\n", token.FormatKey(key.Public().(ed25519.PublicKey)))
	if c.Refused == nil {
		c.Refused = map[string]string{}
	}
	clear(c.Refused)
	for end := time.Now().Add(f.wait); ; {
		g := c.Judge()
		progress, pending := false, false
		for host, tokens := range g.Pending() {
			if _, refused := c.Refused[tokens[0]]; refused {
				continue
			}
			pending = true
			before := len(c.Redemptions)
			f.callHost(ctx, c, host, tokens, key)
			progress = progress || len(c.Redemptions) > before
		}
		if !pending || !progress && time.Now().After(end) {
			return nil
		}
		if !progress {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(500 * time.Millisecond):
			}
		}
	}
}

// callHost adds what one host redeems; if it refuses, the reason is added to the
// case.
func (f *redemptionFlags) callHost(ctx context.Context, c *chain.Case, host netip.Addr, tokens []string, key ed25519.PrivateKey) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var hostKey ed25519.PublicKey
	if text, ok := c.Keys[host]; ok {
		hostKey, _ = token.ParseKey(text) // checked when it was added
	}
	address := net.JoinHostPort(host.String(), strconv.Itoa(int(f.callPort)))
	redemptions, err := call.Redeem(ctx, address, key, hostKey, tokens, f.reason)
	for _, l := range redemptions {
		err = errors.Join(err, c.Add(l))
	}
	if err != nil {
		for _, t := range tokens {
			c.Refused[t] = err.Error()
		}
	}
}
