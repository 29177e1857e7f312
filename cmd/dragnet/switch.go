package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dragnet/contain/sdn"
	"dragnet/dossier"
	"dragnet/flow"
	"dragnet/internal/cli"
)

func newSwitch() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "switch",
		Short: "Apply decisions at an OpenFlow switch, list and undo them",
		Long: `Switch puts rules into a switch by OpenFlow 1.3, such as a bridge of Open vSwitch,
for decisions that are active: packets of a source are dropped, metered, sent to a
port with a middlebox, or moved to a path through the switch of another server.
The switch is addressed where it listens: at a
bridge's management socket, or over TCP or TLS once it has a further controller:

  ovs-vsctl -- --id=@c create Controller 'target="pssl:6653"' -- add Bridge br0 controller @c

That leaves its other controllers alone. Rules expire after --lease unless they are
applied again.`,
		Args: cobra.ArbitraryArgs,
		RunE: cli.Group,
	}
	cmd.AddCommand(newSwitchApply(), newSwitchList(), newSwitchRemove())
	return cmd
}

// switchFlags are those that every verb has.
func switchFlags(cmd *cobra.Command, c *sdn.Configuration) {
	f := cmd.Flags()
	f.StringVar(&c.TLS.Authority, "ca", "", "certificate of the authority of the switches, for tls:")
	f.StringVar(&c.TLS.Certificate, "certificate", "", "our certificate, for tls:")
	f.StringVar(&c.TLS.Key, "key", "", "its private key")
	f.StringVar(&c.TLS.Name, "certificate-name", "", "name that the switch's certificate must bear")
	f.DurationVar(&c.Timeout, "timeout", c.Timeout, "longest exchange with the switch")
}

// openSwitch makes the switch at an address.
func openSwitch(c sdn.Configuration, address string) (*sdn.Switch, error) {
	c.Address = address
	s, err := sdn.New(c)
	if err != nil {
		return nil, cli.Usage(err)
	}
	return s, nil
}

// explainSwitch adds what to do next to an error of a switch.
func explainSwitch(err error) error {
	switch {
	case errors.Is(err, sdn.ErrUnreachable):
		return cli.Hint(err, "is this where the switch listens? For Open vSwitch try unix:/run/openvswitch/BRIDGE.mgmt, as root")
	case errors.Is(err, sdn.ErrProtocol):
		return cli.Hint(err, "allow it: ovs-vsctl add Bridge BRIDGE protocols OpenFlow13")
	case errors.Is(err, sdn.ErrContradiction):
		return cli.Hint(err, "look at the switch's own list: ovs-ofctl -O OpenFlow13 dump-flows BRIDGE")
	}
	return err
}

func newSwitchApply() *cobra.Command {
	c := sdn.DefaultConfiguration()
	var allow, within, via []string
	restraint := string(c.Restraint)
	cmd := &cobra.Command{
		Use:   "apply SWITCH DECISIONS",
		Short: "Make a switch's rules those of the active decisions",
		Long: `Apply reads decisions as 'dragnet decision list -o json' writes them, and makes
the switch's rules equal to those of them that are active and have not expired: our
other rules are removed. Without --enforce it is a dry run, which says what would be done,
and leaves none of our rules in effect. A receipt for each decision says what the
switch lists afterwards.

To move is to send what a source sends to --within out by PORT, to the switch at
ADDRESS, which returns it by its port BACK; sources change from one --via to the
next. Ports that only connect the two switches for that should be set to no-flood,
or broadcasts go round. Exit code 1 means that a decision is not in effect.`,
		Example: `  dragnet decision list --verdict active -o json > active.json
  dragnet switch apply unix:/run/openvswitch/br0.mgmt active.json
  dragnet switch apply unix:/run/openvswitch/br0.mgmt active.json --enforce
  dragnet switch apply tcp:192.0.2.1:6653 active.json --enforce --restraint meter --rate 1000
  dragnet switch apply tcp:192.0.2.1:6653 active.json --enforce --restraint move --within 10.1.0.0/16 --via tcp:192.0.2.2:6653,to-node2,to-node1`,
		Args: cobra.ExactArgs(2),
	}
	output := cli.OutputFlag(cmd)
	switchFlags(cmd, &c)
	f := cmd.Flags()
	f.BoolVar(&c.Enforce, "enforce", false, "put rules into the switch")
	f.StringArrayVar(&allow, "allow", nil, "prefix that is never touched; repeat for each")
	f.StringVar(&restraint, "restraint", restraint, "drop, meter, reroute or move")
	f.Uint32Var(&c.Rate, "rate", c.Rate, "kbit/s that all metered sources share")
	f.Uint32Var(&c.Burst, "burst", c.Burst, "kbit that they may send at once")
	f.Uint32Var(&c.Meter, "meter", c.Meter, "number of the meter; no other program may use it")
	f.StringVar(&c.Port, "port", "", "name of the port to reroute to")
	f.StringArrayVar(&within, "within", nil, "network within which packets are moved; repeat for each")
	f.StringArrayVar(&via, "via", nil, "ADDRESS,PORT,BACK of a switch to move them through; repeat for each")
	f.DurationVar(&c.Detour.Every, "every", c.Detour.Every, "how long a source is moved through the same switch")
	f.Uint16Var(&c.Priority, "priority", c.Priority, "priority of the rules; above those of others")
	f.DurationVar(&c.Lease, "lease", c.Lease, "how long a rule stays without being applied again")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.Restraint = sdn.Restraint(restraint)
		var err error
		if c.Allow, err = parsePrefixes("--allow", allow); err != nil {
			return cli.Usage(err)
		}
		if c.Detour.Within, err = parsePrefixes("--within", within); err != nil {
			return cli.Usage(err)
		}
		if c.Detour.Via, err = parseVia(via, c.TLS); err != nil {
			return err
		}
		decisions, err := readFile(args[1], readDecisions)
		if err != nil {
			return cli.Hint(err, "write them by 'dragnet decision list -o json'")
		}
		s, err := openSwitch(c, args[0])
		if err != nil {
			return err
		}
		receipts, err := s.Apply(cmd.Context(), flow.FromTime(time.Now()), decisions)
		if printed := printReceipts(cmd, *output, receipts); printed != nil {
			return printed
		}
		return checkReceipts(c.Enforce, receipts, err)
	}
	return cmd
}

// parseVia reads switches that packets are moved through, which are reached by the
// same files as the switch itself.
func parseVia(texts []string, files sdn.TLS) (all []sdn.Via, err error) {
	for _, text := range texts {
		words := strings.Split(text, ",")
		if len(words) != 3 {
			return nil, cli.Usage(fmt.Errorf("--via %q is not ADDRESS,PORT,BACK, such as tcp:192.0.2.2:6653,to-node2,to-node1", text))
		}
		all = append(all, sdn.Via{Address: words[0], TLS: files, Port: words[1], Back: words[2]})
	}
	return all, nil
}

func readDecisions(r io.Reader) ([]dossier.Decision, error) {
	const most = 64 << 20
	return cli.ReadItems[dossier.Decision](io.LimitReader(r, most))
}

func printReceipts(cmd *cobra.Command, f cli.Format, receipts []dossier.Receipt) error {
	rows := cli.Rows[dossier.Receipt]{Header: []string{"decision", "applied", "proof or problem"}}
	for _, r := range receipts {
		rows.Items = append(rows.Items, r)
		rows.Cells = append(rows.Cells, []string{r.Decision, fmt.Sprint(r.Applied), r.Proof + r.Problem})
	}
	return cli.WriteRows(cmd.OutOrStdout(), f, rows)
}

func checkReceipts(enforce bool, receipts []dossier.Receipt, err error) error {
	if err != nil {
		return explainSwitch(err)
	}
	missing := 0
	for _, r := range receipts {
		if !r.Applied {
			missing++
		}
	}
	if enforce && missing > 0 {
		return fmt.Errorf("%d of %d decisions are not in effect", missing, len(receipts))
	}
	return nil
}

func newSwitchList() *cobra.Command {
	c := sdn.DefaultConfiguration()
	cmd := &cobra.Command{
		Use:     "list SWITCH",
		Short:   "List our rules in a switch, with what they matched",
		Example: `  dragnet switch list unix:/run/openvswitch/br0.mgmt`,
		Args:    cobra.ExactArgs(1),
	}
	output := cli.OutputFlag(cmd)
	switchFlags(cmd, &c)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := openSwitch(c, args[0])
		if err != nil {
			return err
		}
		rules, err := s.Rules(cmd.Context())
		if err != nil {
			return explainSwitch(err)
		}
		rows := cli.Rows[ruleItem]{Header: []string{"source", "action", "ends in", "packets", "bytes"}}
		for _, r := range rules {
			item := ruleItem{r.Match.Source.String(), "", r.Match.InPort, r.Action.String(), r.Left().Round(time.Second).String(), r.Packets, r.Bytes}
			if r.Match.Destination.IsValid() {
				item.Destination = r.Match.Destination.String()
			}
			rows.Items = append(rows.Items, item)
			rows.Cells = append(rows.Cells, []string{r.Match.String(), item.Action, item.Ends, fmt.Sprint(item.Packets), fmt.Sprint(item.Bytes)})
		}
		return cli.WriteRows(cmd.OutOrStdout(), *output, rows)
	}
	return cmd
}

// ruleItem is a rule in JSON.
type ruleItem struct {
	Source      string `json:"source"`
	Destination string `json:"destination,omitempty"`
	InPort      uint32 `json:"in_port,omitempty"`
	Action      string `json:"action"`
	Ends        string `json:"ends_in"`
	Packets     uint64 `json:"packets"`
	Bytes       uint64 `json:"bytes"`
}

func newSwitchRemove() *cobra.Command {
	c := sdn.DefaultConfiguration()
	cmd := &cobra.Command{
		Use:   "remove SWITCH...",
		Short: "Remove all our rules from switches",
		Long: `Remove deletes every rule that has our cookie, and the meter that they used, and
checks that the switch lists none any more. Where packets are moved, name their
switch first, and then those that return them. A node that still has active decisions
puts them in again: stop those first, by 'dragnet decision stop'.`,
		Example: `  dragnet switch remove unix:/run/openvswitch/br0.mgmt
  dragnet switch remove tcp:192.0.2.1:6653 tcp:192.0.2.2:6653`,
		Args: cobra.MinimumNArgs(1),
	}
	switchFlags(cmd, &c)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var failed error // one switch that is away must not keep the rules of others
		for _, address := range args {
			s, err := openSwitch(c, address)
			if err != nil {
				return err
			}
			n, err := s.Remove(cmd.Context())
			if err != nil {
				failed = errors.Join(failed, explainSwitch(err))
				continue
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s: removed %s\n", address, cli.Plural(n, "rule"))
		}
		return failed
	}
	return cmd
}
