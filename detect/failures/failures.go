// Package failures finds scanners by the connections they fail to make (Tang
// 2006, section 2.2; Zeek's policy/misc/scan for the thresholds).
//
// What counts is not a packet and not a connection but a target: a host and
// port that a source failed to reach in a window. Asking a dead server again
// and again is one failure. A source is reported when
//
//   - it failed at many hosts on one port (address scan), or at many ports of
//     one host (port scan), and
//   - most of the targets it tried in that group failed.
//
// The groups keep peer-to-peer clients out, whose dead peers are on many ports
// of many hosts, and the share keeps out gateways, behind which many users fail
// sometimes and succeed often. A refusal (REJ, or an ICMP error that quotes the
// connection) is a strong sign; silence (S0, and what the originator gave up) a
// weak one, for which the thresholds are higher. Flows whose start was not seen
// (OTH, SHR, RSTRH) are ignored: many are backscatter of floods that forged our
// addresses.
package failures

import (
	"net/netip"
	"time"

	"dragnet/flow"
	"dragnet/internal/conf"
)

// Configuration of a detector.
type Configuration struct {
	// Networks are our own: their hosts are judged by Local instead of Remote.
	Networks []netip.Prefix `yaml:"-"`
	// Exempt sources are never reported: research scanners, monitoring.
	Exempt []netip.Prefix `yaml:"-"`
	// Observer is the name of the witness, for hosts with private addresses.
	Observer string `yaml:"-"`
	// Window is the span over which targets are counted.
	Window time.Duration `yaml:"window"`
	// Remote is the number of failed targets of one group from which a remote
	// host is reported; normal hosts reach 63 a day in total (Table 2-1).
	Remote int `yaml:"remote"`
	// Local is that number for a host of ours.
	Local int `yaml:"local"`
	// Silence multiplies both for failures by silence only.
	Silence int `yaml:"silence"`
	// Share is the least part of a group's targets that must have failed.
	Share float64 `yaml:"share"`
	// Groups bounds the groups held at a time; the smallest are dropped.
	Groups int `yaml:"groups"`
}

// DefaultConfiguration reports a remote host after 25 refused targets in a
// day, one of ours after 100.
func DefaultConfiguration() Configuration {
	return Configuration{Window: 24 * time.Hour, Remote: 25, Local: 100, Silence: 4, Share: 0.8, Groups: 1 << 20}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Window >= time.Minute && c.Window <= 31*24*time.Hour, "window", "is %v; want 1m to 744h", c.Window)
	p.Check(c.Remote >= 2 && c.Remote <= most, "remote", "is %d; want 2 to %d hosts", c.Remote, most)
	p.Check(c.Local >= 2 && c.Local <= most, "local", "is %d; want 2 to %d hosts", c.Local, most)
	p.Check(c.Silence >= 1 && c.Silence <= 100, "silence", "is %d; want 1 to 100", c.Silence)
	p.Check(c.Share > 0 && c.Share <= 1, "share", "is %g; want a share above 0 and at most 1", c.Share)
	p.Check(c.Groups >= 1000, "groups", "is %d; want at least 1000", c.Groups)
	return p.Join()
}

// most is the largest threshold: the targets of a group are kept individually
// up to 100 times that.
const most = 10_000

// FlowSignal is what a flow indicates about its originator.
type FlowSignal uint8

// The signals.
const (
	Nothing FlowSignal = iota
	Success
	Silence // no answer; weak, since silence may be loss
	Refusal // a RST to the SYN, or an ICMP error
)

// SignalOf reads a flow. Only TCP has failures by silence and by RST; an ICMP
// error that quotes the flow counts for every protocol.
func SignalOf(f *flow.Flow) FlowSignal {
	if f.ICMPError != 0 {
		return Refusal
	}
	if f.Proto != flow.TCP {
		return Nothing
	}
	switch f.State {
	case flow.REJ:
		return Refusal
	case flow.S0, flow.RSTOS0, flow.SH:
		return Silence
	}
	if f.Established() {
		return Success
	}
	return Nothing
}
