// Package failures finds scanners by the connections they fail to make (Tang
// 2006, section 2.2; Jung et al. 2004 for the sequential test; Zeek's
// policy/misc/scan for the thresholds of single ports).
//
// Three groupings of the flows of a source are judged, each over every span of
// Window, wherever it begins:
//
//   - all hosts it tried, on whatever ports, by a likelihood-ratio test (see
//     Model): which of them never answered, at which of those it tried again, and
//     which of the others it used again. A worm tries each address once; a
//     peer-to-peer client whose peers are gone, or a monitor whose target is down,
//     asks the same ones again. What follows within 5 seconds, up to three times, or
//     from the same port, is the same try: scanners and systems repeat a SYN;
//   - the hosts on one port, by the same test: for a scanner behind a gateway,
//     whose other users succeed;
//   - the ports of one host, by the number that refused and the share that failed.
//
// A target counts once. Silence (S0, and what the originator gave up) is a
// failure, but a weak one of the ports of one host. A half-open
// connection, which the originator never acknowledged, and a first segment that
// opens nothing (FIN, NULL and XMAS, and an ACK that was refused) are failures
// too where the flow's flags or history are known. Other flows whose start was
// not seen (OTH, SHR, RSTRH) are ignored: many are backscatter of floods that
// forged our addresses.
//
// Anybody can send SYNs in another's name. A finding about a source that
// completed no handshake in the same span is marked unverified, unless its
// address was validated where it entered.
package failures

import (
	"net/netip"
	"time"

	"dragnet/internal/conf"
)

// Configuration of a detector.
type Configuration struct {
	// Networks are our own: their hosts are judged by Local instead of Remote.
	Networks []netip.Prefix `yaml:"-"`
	// Validated says that our networks admit no forged source addresses (RFC
	// 2827), so that findings about our own hosts need no handshake.
	Validated bool `yaml:"validated"`
	// Ports are the destination ports to look at; empty for all.
	Ports []uint16 `yaml:"ports"`
	// Exempt sources are never reported: research scanners, monitoring.
	Exempt []netip.Prefix `yaml:"-"`
	// Observer is the name of the witness, for hosts with private addresses.
	Observer string `yaml:"-"`
	// Window is the span over which targets are counted. It slides by a quarter
	// of itself, so that what counts together lies up to 1.25 windows apart.
	Window time.Duration `yaml:"window"`
	// Remote is the number of failed targets of one group from which a remote
	// host is reported, and from which any host is judged by all it tried; normal
	// hosts reach 63 a day in total (Table 2-1).
	Remote int `yaml:"remote"`
	// Local is the number on one port or of one host for a host of ours.
	Local int `yaml:"local"`
	// Silence multiplies both for the ports of one host, for failures by silence
	// only.
	Silence int `yaml:"silence"`
	// Share is the least part of the ports of one host that must have failed.
	Share float64 `yaml:"share"`
	// Alpha bounds the chance that a source as good as the benign hypothesis
	// assumes is reported by the hosts it tried, on all ports or on a given one, in
	// a given window.
	Alpha float64 `yaml:"alpha"`
	// Groups bounds the groups held at a time; the smallest are dropped.
	Groups int `yaml:"groups"`
}

// DefaultConfiguration reports a remote host after 25 refused targets in a
// day, one of ours after 100.
func DefaultConfiguration() Configuration {
	return Configuration{Window: 24 * time.Hour, Remote: 25, Local: 100, Silence: 4, Share: 0.8, Alpha: 1e-6, Ports: []uint16{}, Groups: 1 << 20}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	p.Check(c.Window >= time.Minute && c.Window <= 31*24*time.Hour, "window", "is %v; want 1m to 744h", c.Window)
	p.Check(c.Remote >= 2 && c.Remote <= most, "remote", "is %d; want 2 to %d hosts", c.Remote, most)
	p.Check(c.Local >= 2 && c.Local <= most, "local", "is %d; want 2 to %d hosts", c.Local, most)
	p.Check(c.Silence >= 1 && c.Silence <= 100, "silence", "is %d; want 1 to 100", c.Silence)
	p.Check(c.Share > 0 && c.Share <= 1, "share", "is %g; want a share above 0 and at most 1", c.Share)
	p.Check(c.Alpha > 0 && c.Alpha < 1, "alpha", "is %g; want a probability above 0 and below 1", c.Alpha)
	p.Check(c.Groups >= 1000, "groups", "is %d; want at least 1000", c.Groups)
	return p.Join()
}

// most is the largest threshold: the targets of a group are kept individually
// up to 100 times that.
const most = 10_000
