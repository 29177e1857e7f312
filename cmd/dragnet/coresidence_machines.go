package main

import (
	"encoding/csv"
	"fmt"

	"github.com/spf13/cobra"

	"dragnet/internal/cli"
	"dragnet/source/ovsdb"
)

func newCoresidenceMachines() *cobra.Command {
	var northbound string
	cmd := &cobra.Command{
		Use:   "machines DATABASE...",
		Short: "List virtual machines from the databases of Open vSwitch and OVN",
		Long: `Machines reads who is behind which port from the database of each server's Open
vSwitch (external_ids of its interfaces: iface-id, attached-mac, vm-uuid), and
addresses and tenants from OVN's northbound database, where OpenStack's Neutron
writes them. It prints CSV that 'coresidence detect --machines' reads: check that
the addresses are those on the external network. Ports without an address or a
tenant are left out, and counted.`,
		Example: `  dragnet coresidence machines unix:/run/openvswitch/db.sock
  dragnet coresidence machines tcp:192.0.2.1:6640 tcp:192.0.2.2:6640 --northbound tcp:192.0.2.9:6641 > machines.csv`,
		Args: cobra.MinimumNArgs(1),
	}
	cmd.Flags().StringVar(&northbound, "northbound", "", "address of OVN's northbound database")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		var ports []ovsdb.Port
		for _, address := range args {
			some, err := ovsdb.Ports(cmd.Context(), address)
			if err != nil {
				return err
			}
			ports = append(ports, some...)
		}
		if northbound != "" {
			logical, err := ovsdb.LogicalPorts(cmd.Context(), northbound)
			if err != nil {
				return err
			}
			ports = ovsdb.Merge(ports, logical)
		}
		w := csv.NewWriter(cmd.OutOrStdout())
		records, left := machineRecords(ports)
		if err := w.WriteAll(records); err != nil {
			return err
		}
		if left > 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "left out %s of %d: no address or no tenant is known\n", cli.Plural(left, "port"), len(ports))
		}
		return nil
	}
	return cmd
}

// machineRecords are the lines of the list, and how many ports have none.
func machineRecords(ports []ovsdb.Port) (records [][]string, left int) {
	records = [][]string{{"address", "tenant", "name", "bridge", "port"}}
	listed := map[string]bool{}
	for _, p := range ports {
		if p.Tenant == "" || len(p.Addresses) == 0 {
			left++
			continue
		}
		for _, a := range p.Addresses {
			if !listed[a.String()] {
				records = append(records, []string{a.String(), p.Tenant, p.Label(), p.Bridge, fmt.Sprint(p.Number)})
			}
			listed[a.String()] = true
		}
	}
	return records, left
}
