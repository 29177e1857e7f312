package netlab

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// VirtualSwitch is Open vSwitch in a node, forwarding in user space. Its daemons
// end with the Lab.
type VirtualSwitch struct {
	node *Node
	dir  string
}

// vswitchTime bounds the start of the daemons and every command to them.
const vswitchTime = 20 * time.Second

// VirtualSwitch starts Open vSwitch without any bridge; it keeps its database and
// sockets in dir, whose path must be short enough for a socket.
func (n *Node) VirtualSwitch(dir string) (*VirtualSwitch, error) {
	v := &VirtualSwitch{n, dir}
	schema := "/usr/share/openvswitch/vswitch.ovsschema"
	if out, err := exec.Command("ovsdb-tool", "create", v.path("conf.db"), schema).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("ovsdb-tool: %w: %s", err, out)
	}
	database, err := n.Start("env", append(v.environment(), "ovsdb-server", v.path("conf.db"), "--remote=p"+v.Database(), "--unixctl="+v.path("db.ctl"),
		"--private-key=db:Open_vSwitch,SSL,private_key", "--certificate=db:Open_vSwitch,SSL,certificate", "--bootstrap-ca-cert=db:Open_vSwitch,SSL,ca_cert")...)
	if err != nil {
		return nil, err
	}
	if err := v.await(database, "db.sock"); err != nil {
		return nil, err
	}
	if _, err := v.Set("--no-wait", "init"); err != nil {
		return nil, err
	}
	daemon, err := n.Start("env", append(v.environment(), "ovs-vswitchd", v.Database(), "--unixctl="+v.path("v.ctl"))...)
	if err != nil {
		return nil, err
	}
	return v, v.await(daemon, "v.ctl")
}

func (v *VirtualSwitch) path(name string) string { return filepath.Join(v.dir, name) }

// environment keeps the daemons' files in dir.
func (v *VirtualSwitch) environment() []string {
	return []string{"OVS_RUNDIR=" + v.dir, "OVS_DBDIR=" + v.dir, "OVS_LOGDIR=" + v.dir, "OVS_SYSCONFDIR=" + v.dir}
}

// await waits for a daemon's socket.
func (v *VirtualSwitch) await(p *Process, socket string) error {
	for deadline := time.Now().Add(vswitchTime); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(v.path(socket)); err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("%s ended (%v): %s", p.name, p.err, p.Output())
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s does not listen: %s", p.name, p.Output())
		}
	}
}

// Database is the address of its OVSDB server.
func (v *VirtualSwitch) Database() string { return "unix:" + v.path("db.sock") }

// Management is the address at which a bridge accepts OpenFlow.
func (v *VirtualSwitch) Management(bridge string) string {
	return "unix:" + v.path(bridge+".mgmt")
}

// Set runs ovs-vsctl.
func (v *VirtualSwitch) Set(args ...string) (string, error) {
	return v.run("ovs-vsctl", append([]string{"--db=" + v.Database(), "--timeout=15"}, args...)...)
}

// Flows runs ovs-ofctl with OpenFlow 1.3.
func (v *VirtualSwitch) Flows(args ...string) (string, error) {
	return v.run("ovs-ofctl", append([]string{"-O", "OpenFlow13"}, args...)...)
}

func (v *VirtualSwitch) run(program string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), vswitchTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), v.environment()...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

// AddBridge makes a bridge that forwards by itself, and to which ports of the
// node are joined.
func (v *VirtualSwitch) AddBridge(name string, ports ...string) error {
	args := []string{"add-br", name, "--", "set", "Bridge", name, "datapath_type=netdev", "fail-mode=standalone", "protocols=OpenFlow10,OpenFlow13"}
	for _, p := range ports {
		args = append(args, "--", "add-port", name, p)
	}
	_, err := v.Set(args...)
	return err
}
