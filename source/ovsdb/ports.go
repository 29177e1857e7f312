package ovsdb

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
)

// Port is a port of a bridge with a virtual machine behind it, or of a logical
// switch. What the database does not say is empty.
type Port struct {
	// Bridge and Interface are names, Number that of OpenFlow; all are of the
	// server on which the machine runs.
	Bridge, Interface string
	Number            uint32
	// ID is the identifier by which the cloud's manager knows the port, Machine
	// that of the machine, Tenant that of the project.
	ID, Machine, Tenant string
	// Name is the port's name in OVN, if it was given one.
	Name string
	MAC  string
	// Addresses are those the manager gave it.
	Addresses []netip.Addr
}

// Label is the port's name in OVN, else the machine's identifier.
func (p *Port) Label() string { return cmp.Or(p.Name, p.Machine) }

// Ports reads the ports with machines from the database of one Open vSwitch: those
// whose interface has an iface-id among its external identifiers, which Nova,
// libvirt, OVN-Kubernetes and XenServer set (ovs-vswitchd.conf.db(5), table
// Interface). Tenants are there only if somebody puts them there: as
// neutron:project_id, or as tenant.
func Ports(ctx context.Context, address string) ([]Port, error) {
	tables, err := read(ctx, address, "Open_vSwitch",
		selectFrom("Bridge", "name", "ports"), selectFrom("Port", "_uuid", "interfaces"), selectFrom("Interface", "_uuid", "name", "ofport", "mac_in_use", "external_ids"))
	if err != nil {
		return nil, err
	}
	return portsOf(tables[0], tables[1], tables[2]), nil
}

func portsOf(bridges, ports, interfaces []row) (all []Port) {
	bridgeOf := map[string]string{} // of each port
	for _, b := range bridges {
		for _, p := range b.references("ports") {
			bridgeOf[p] = b.text("name")
		}
	}
	portOf := map[string]string{} // of each interface
	for _, p := range ports {
		for _, id := range p.references("_uuid") {
			for _, i := range p.references("interfaces") {
				portOf[i] = id
			}
		}
	}
	for _, i := range interfaces {
		ids := i.dictionary("external_ids")
		p := Port{
			Interface: i.text("name"), ID: ids["iface-id"], Machine: cmp.Or(ids["vm-uuid"], ids["vm-id"], ids["xs-vm-uuid"]),
			MAC: cmp.Or(ids["attached-mac"], ids["attached_mac"], i.text("mac_in_use")), Tenant: cmp.Or(ids["neutron:project_id"], ids["tenant"]),
			Addresses: addressesIn(ids["ip_addresses"]),
		}
		if p.ID == "" {
			continue // a tunnel, an uplink, or the bridge itself
		}
		if n := i.number("ofport"); n > 0 && n < 1<<32 {
			p.Number = uint32(n)
		}
		for _, id := range i.references("_uuid") {
			p.Bridge = bridgeOf[portOf[id]]
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Bridge, b.Bridge), cmp.Compare(a.Interface, b.Interface))
	})
	return all
}

// LogicalPorts reads the ports of machines from OVN's northbound database, with
// their tenants, as Neutron writes them.
func LogicalPorts(ctx context.Context, address string) ([]Port, error) {
	tables, err := read(ctx, address, "OVN_Northbound", selectFrom("Logical_Switch_Port", "name", "type", "addresses", "external_ids"))
	if err != nil {
		return nil, err
	}
	return logicalPortsOf(tables[0]), nil
}

func logicalPortsOf(rows []row) (all []Port) {
	for _, r := range rows {
		if r.text("type") != "" {
			continue // of a router, of the physical network
		}
		ids := r.dictionary("external_ids")
		p := Port{ID: r.text("name"), Machine: ids["neutron:device_id"], Tenant: cmp.Or(ids["neutron:project_id"], ids["tenant"]), Name: ids["neutron:port_name"]}
		for _, text := range r.strings("addresses") {
			mac, _, _ := strings.Cut(text, " ")
			p.MAC = cmp.Or(p.MAC, mac)
			p.Addresses = append(p.Addresses, addressesIn(text)...)
		}
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b Port) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// Merge adds to ports what logical ones of the same identifier say.
func Merge(ports, logical []Port) []Port {
	at := map[string]*Port{}
	for i := range logical {
		at[logical[i].ID] = &logical[i]
	}
	all := slices.Clone(ports)
	for i := range all {
		p := &all[i]
		l := at[p.ID]
		if l == nil {
			continue
		}
		p.Tenant, p.Machine, p.Name, p.MAC = cmp.Or(l.Tenant, p.Tenant), cmp.Or(p.Machine, l.Machine), cmp.Or(p.Name, l.Name), cmp.Or(p.MAC, l.MAC)
		if len(l.Addresses) > 0 {
			p.Addresses = l.Addresses
		}
	}
	return all
}

// addressesIn are the words of text that are addresses, with or without the
// length of a prefix.
func addressesIn(text string) (all []netip.Addr) {
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" ,;[]\"'", r) }) {
		word, _, _ = strings.Cut(word, "/")
		if a, err := netip.ParseAddr(word); err == nil {
			all = append(all, a.Unmap().WithZone(""))
		}
	}
	return all
}
