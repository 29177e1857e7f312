package cloudlab

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"time"

	"dragnet/detect/coresidence"
)

// Names of tenants; servers and clients have one for each two machines.
const attackerTenant = "tenant-x"

// build makes namespaces, bridges and ports, and starts the traffic.
func (w *Cloud) build() error {
	nodes, err := w.lab.Nodes("host")
	if err != nil {
		return err
	}
	w.host = nodes[0]
	if w.dir, err = os.MkdirTemp("", "ovs"); err != nil { // short, for sockets
		return err
	}
	if w.Switch, err = w.host.VirtualSwitch(w.dir); err != nil {
		return err
	}
	if err := w.Switch.AddBridge("core"); err != nil {
		return err
	}
	for k := range w.c.Bridges {
		if err := w.addServer(k); err != nil {
			return err
		}
	}
	if err := w.startCollector(); err != nil {
		return err
	}
	for k := range w.c.Bridges {
		if err := w.export(k); err != nil {
			return err
		}
	}
	if err := w.addMachines(); err != nil {
		return err
	}
	return w.startTraffic()
}

// addServer makes a bridge, and its uplink to the core with the rate of a shared
// interface.
func (w *Cloud) addServer(k int) error {
	up, down := fmt.Sprintf("up%d", k), fmt.Sprintf("core%d", k)
	if err := w.lab.Wire(w.host, up, w.host, down); err != nil {
		return err
	}
	if err := w.Switch.AddBridge(bridgeName(k), up); err != nil {
		return err
	}
	if _, err := w.Switch.Set("add-port", "core", down); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.ctx, 10*time.Second)
	defer cancel()
	_, err := w.host.Run(ctx, "tc", "qdisc", "add", "dev", up, "root", "tbf", "rate", fmt.Sprintf("%dmbit", w.c.Uplink), "burst", "64kb", "latency", "50ms")
	return err
}

// export lets a bridge export what it forwards.
func (w *Cloud) export(k int) error {
	bridge, domain := bridgeName(k), fmt.Sprint(k+1)
	targets := fmt.Sprintf("targets=%q", append([]string{"127.0.0.1:2055"}, w.c.Collectors...))
	targets = strings.ReplaceAll(targets, " ", ",")
	args := []string{"--", "--id=@e", "create", "NetFlow", targets, "active_timeout=1", "engine_id=" + domain, "engine_type=0", "--", "set", "Bridge", bridge, "netflow=@e"}
	switch w.c.Export {
	case SFlow:
		args = []string{"--", "--id=@e", "create", "sFlow", targets, "agent=lo", "header=128", fmt.Sprintf("sampling=%d", w.c.Sampling), "polling=1", "--", "set", "Bridge", bridge, "sflow=@e"}
	case IPFIX:
		args = []string{"--", "--id=@e", "create", "IPFIX", targets, "sampling=1", "obs_domain_id=" + domain, "obs_point_id=1", "cache_active_timeout=1", "cache_max_flows=8192", "--", "set", "Bridge", bridge, "ipfix=@e"}
	}
	_, err := w.Switch.Set(args...)
	return err
}

func (w *Cloud) addMachines() error {
	add := func(into *[]*machine, subnet, i int, bridge, tenant, name string) error {
		m := &machine{name: name, address: netip.AddrFrom4([4]byte{10, 77, byte(subnet), byte(1 + i)})}
		*into, w.all[name] = append(*into, m), m
		if tenant != "" {
			w.vms = append(w.vms, coresidence.VM{Address: m.address, Tenant: tenant, Name: name})
		}
		return w.connect(m, bridge, tenant)
	}
	for i := range w.c.Servers {
		if err := add(&w.servers, 1, i, bridgeName(i%w.c.Bridges), fmt.Sprintf("tenant-s%d", i/2), fmt.Sprintf("server-%d", i)); err != nil {
			return err
		}
	}
	for i := range w.c.Inside {
		if err := add(&w.inside, 2, i, bridgeName((i+1)%w.c.Bridges), fmt.Sprintf("tenant-c%d", i/2), fmt.Sprintf("client-%d", i)); err != nil {
			return err
		}
	}
	w.gateway = netip.AddrFrom4([4]byte{10, 77, 8, 1})
	var gateway []*machine
	if err := add(&gateway, 8, 0, "core", "", "gateway"); err != nil {
		return err
	}
	for i := range w.c.Outside {
		if err := add(&w.outside, 9, i, "core", "", fmt.Sprintf("outside-%d", i)); err != nil {
			return err
		}
	}
	var others []*machine
	for i, name := range []string{"master", "sink"} {
		if err := add(&others, 3, i, bridgeName(1), attackerTenant, name); err != nil {
			return err
		}
	}
	w.master, w.sink = others[0], others[1]
	for i := range w.c.Flooders {
		if err := add(&w.flooders, 3, 2+i, bridgeName(min(i, 1)), attackerTenant, fmt.Sprintf("flooder-%d", i)); err != nil {
			return err
		}
	}
	return nil
}

// connect gives a machine its namespace and its port, with the external
// identifiers that a cloud's manager would set.
func (w *Cloud) connect(m *machine, bridge, tenant string) error {
	nodes, err := w.lab.Nodes(m.name)
	if err != nil {
		return err
	}
	m.Node = nodes[0]
	port := fmt.Sprintf("v%d-%d", m.address.As4()[2], m.address.As4()[3])
	if err := w.lab.Wire(w.host, port, m.Node, "eth0"); err != nil {
		return err
	}
	if err := m.Address("eth0", netip.PrefixFrom(m.address, 16)); err != nil {
		return err
	}
	args := []string{"add-port", bridge, port}
	if tenant != "" {
		args = append(args, "--", "set", "Interface", port, "external_ids:iface-id=port-"+m.name, "external_ids:vm-uuid="+m.name, "external_ids:tenant="+tenant, fmt.Sprintf(`external_ids:ip_addresses="%s/16"`, m.address))
	}
	_, err = w.Switch.Set(args...)
	return err
}

// Ready reports whether the programs that a cloud needs are installed.
func Ready() error {
	for _, program := range []string{"ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ip", "tc"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("program %s is not installed; on Debian: apt install openvswitch-switch iproute2", program)
		}
	}
	return nil
}
