//go:build linux

package guard

import (
	"errors"
	"net"
	"time"

	"dragnet/contain/guard/tc"
	"dragnet/contain/nft"
	"dragnet/internal/doctor"
	"dragnet/packet/live"
	"dragnet/wire/channel"
)

// Examine checks what a guard with this configuration needs on this machine, in
// the calling thread's network namespace, without changing anything.
func Examine(c Configuration, now time.Time) []doctor.Check {
	var all []doctor.Check
	if c.Kernel.isUsed() {
		all = examineKernel(&c.Kernel)
	} else {
		all = live.Examine(c.Live)
		all = append(all, doctor.Check{Name: "kernel", Err: errors.New("not used: the guard acts some 20 ms after it sees a packet, and not on a bridge; set 'kernel.interfaces' where eBPF can be used")})
	}
	if c.Station {
		all = append(all, channel.Examine(c.Channel, "guard", now)...)
	}
	if c.State != "" {
		all = append(all, doctor.CheckFolder("state", c.State))
	} else {
		all = append(all, doctor.Check{Name: "state", Err: errors.New("'state' is empty: counts, decisions and events are lost at each restart")})
	}
	validated := doctor.Check{Name: "validation", Good: "it is known who sends in whose name"}
	if !c.Validation.isValidated() {
		validated.Err = errors.New("not set: anybody in the customer network can fail in a neighbour's name, so the guard holds back and blocks nothing by itself")
	}
	return append(append(all, validated), examineBlocking(c)...)
}

// examineBlocking checks what is needed to block, and says why nothing is.
func examineBlocking(c Configuration) []doctor.Check {
	enforced := doctor.Check{Name: "enforcement", Good: "a decision takes effect"}
	switch {
	case c.Station && !c.Standing.Enforce:
		enforced.Good = "as the station decides"
	case c.Standing.By == "":
		enforced.Err = errors.New("no decision: the guard only counts; set 'standing', or 'station'")
	case !c.Standing.Enforce:
		enforced.Err = errors.New("dry run: 'standing.enforce: true' has the decision take effect")
	}
	if !c.Station && !c.Standing.Enforce {
		return []doctor.Check{enforced} // it does not touch the packet filter
	}
	if c.Kernel.isUsed() {
		return []doctor.Check{enforced}
	}
	return []doctor.Check{
		enforced,
		{Name: "nftables", Err: nft.Check(), Fatal: true, Good: "may be changed"},
		{Name: "forwarding", Err: checkForwarding(), Good: "on"},
	}
}

// examineKernel checks what limits in the kernel need.
func examineKernel(c *KernelConfiguration) []doctor.Check {
	all := []doctor.Check{{Name: "eBPF", Err: tc.Check(), Fatal: true, Good: "programs can be loaded and attached"}}
	for _, name := range c.Interfaces {
		dev, err := net.InterfaceByName(name)
		if err == nil && dev.Flags&net.FlagUp == 0 {
			err = errors.New("is down")
		}
		if err == nil {
			err = tc.CheckLink(dev.Index)
		}
		all = append(all, doctor.Check{Name: "interface " + name, Err: err, Fatal: true, Good: "up"})
	}
	stay := doctor.Check{Name: "without the agent", Good: "the limits hold"}
	if !c.Stay {
		stay.Good = "all packets pass"
	}
	if c.Pins != "" {
		all = append(all, doctor.Check{Name: "pins", Err: tc.CheckPins(c.Pins), Fatal: true, Good: "counters outlive the agent"})
	}
	return append(all, stay)
}

// checkForwarding reports a machine that is not a router: blocks act on packets that
// are forwarded.
func checkForwarding() error {
	if doctor.CheckForwarding(false) != nil && doctor.CheckForwarding(true) != nil {
		return errors.New("off for IPv4 and IPv6, so blocks have no effect: they drop packets that this machine forwards")
	}
	return nil
}
