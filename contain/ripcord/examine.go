//go:build linux

package ripcord

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"dragnet/contain/ripcord/bpf"
	"dragnet/internal/confine"
	"dragnet/internal/doctor"
)

// perPacket is the cost of packets that are not merged (docs/benchmarks.md, what a
// packet costs in place).
const perPacket = "each segment of up to 45 is judged by itself, at some 0.8 µs of processor time"

// Examine tests what Start needs, without changing anything.
func Examine(c *Configuration) []doctor.Check {
	ports := c.ForPorts()
	var all []doctor.Check
	for i := range ports {
		all = append(all, examineWires(&ports[i])...)
	}
	all = append(all, doctor.CheckFeatures(bpf.Features())...)
	add := func(name, good string, fatal bool, err error) {
		all = append(all, doctor.Check{Name: name, Err: err, Fatal: fatal, Good: good})
	}
	add("kernel", "loads the programs", true, tryKernel(c))
	all = append(all, doctor.CheckJIT())
	if err := confine.CheckFilter(); err != nil {
		add("system calls", "", false, fmt.Errorf("%w: whoever takes over the agent may use all that its two capabilities allow", err))
	} else {
		add("system calls", "filtered once the gateway runs", false, nil)
	}
	_, err := confine.Lookup(c.RunAs)
	add("user "+c.RunAs, "exists", true, err)
	add("state", c.State, true, os.MkdirAll(c.State, 0o700))
	if !c.Enforce {
		add("enforce", "", false, errors.New("the gateway only counts; 'enforce: true' lets it drop"))
	} else {
		add("enforce", "blocks take effect", false, nil)
	}
	return all
}

// examineWires checks the two interfaces of a host, and where its tables are to be.
func examineWires(c *Configuration) []doctor.Check {
	var all []doctor.Check
	add := func(name, good string, fatal bool, err error) {
		all = append(all, doctor.Check{Name: name, Err: err, Fatal: fatal, Good: good})
	}
	mtu := map[string]int{}
	for _, name := range []string{c.Host, c.Network} {
		i, err := net.InterfaceByName(name)
		if err != nil {
			add("interface "+name, "", true, err)
			continue
		}
		mtu[name] = i.MTU
		if addrs, _ := i.Addrs(); len(addrs) > 0 {
			err = fmt.Errorf("has addresses (%v ...): the gateway takes every incoming packet, so they will not work", addrs[0])
		}
		add("interface "+name, "exists, without addresses", false, err)
		if i.Flags&net.FlagLoopback == 0 {
			all = append(all, doctor.CheckReceiveOffload(name, perPacket))
		}
	}
	if len(mtu) == 2 && mtu[c.Host] != mtu[c.Network] {
		add("MTU", "", false, fmt.Errorf("%s has %d and %s %d: larger packets will be lost", c.Host, mtu[c.Host], c.Network, mtu[c.Network]))
	}
	add("pins", c.Pins, true, CheckPins(c.Pins))
	return all
}

// tryKernel loads the programs without pinning or attaching them.
func tryKernel(c *Configuration) error {
	w, err := bpf.Load(bpf.Options{Host: 1, Net: 1, Settings: c.kernelSettings(true), Room: [2]uint32{16, 16}})
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%w: the start needs CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN and CAP_NET_RAW", err)
	}
	if err != nil {
		return err
	}
	return w.Close()
}
