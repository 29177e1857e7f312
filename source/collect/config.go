// Package collect receives what flow exporters send over UDP: NetFlow version
// 5 and 9, IPFIX and sFlow version 5, each on any of its ports.
//
// Nothing is bound until exporters are named, since anybody can forge a
// datagram: those from elsewhere are counted and passed over. What is lost on
// the way is counted for each exporter: in the sequence numbers, in the
// socket's buffer, for lack of a template, and for lack of room.
package collect

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"dragnet/internal/conf"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
)

// Configuration of a Collector.
type Configuration struct {
	// Exporters are the prefixes from which exports are accepted, such as
	// 192.0.2.1/32. Nothing is listened on while there are none.
	Exporters []netip.Prefix `yaml:"exporters"`
	// Listen are the addresses and UDP ports to listen on. Each accepts all
	// formats.
	Listen []string `yaml:"listen"`
	// ReceiveBuffer is how many bytes of datagrams the kernel keeps for each
	// port while the node is busy. Beyond net.core.rmem_max it needs
	// CAP_NET_ADMIN.
	ReceiveBuffer int `yaml:"receive_buffer"`
	// MaxPending bounds the flows that wait to be stored; those beyond are
	// counted and dropped. Each takes about 300 bytes.
	MaxPending int `yaml:"max_pending"`
	// NetFlow bounds what is kept of exporters of NetFlow and IPFIX.
	NetFlow netflow.Configuration `yaml:"netflow"`
	// SFlow bounds what is kept of exporters of sFlow.
	SFlow sflow.Configuration `yaml:"sflow"`
	// Join says how the two directions of a conversation become one flow.
	Join biflow.Configuration `yaml:"join"`
}

// DefaultConfiguration names no exporters, so that nothing is listened on.
func DefaultConfiguration() Configuration {
	return Configuration{
		Exporters: []netip.Prefix{}, Listen: []string{":2055", ":4739", ":6343"}, ReceiveBuffer: 16 << 20, MaxPending: 1 << 20,
		NetFlow: netflow.DefaultConfiguration(), SFlow: sflow.DefaultConfiguration(), Join: biflow.DefaultConfiguration(),
	}
}

// Validate reports all invalid settings.
func (c *Configuration) Validate() error {
	var p conf.Problems
	for i, e := range c.Exporters {
		p.Check(e.IsValid() && e == e.Masked(), fmt.Sprintf("exporters[%d]", i), "%s is not a prefix; want such as 192.0.2.1/32", e)
		p.Check(!slices.Contains(c.Exporters[:i], e), fmt.Sprintf("exporters[%d]", i), "%s is named twice", e)
	}
	for i, l := range c.Listen {
		_, err := net.ResolveUDPAddr("udp", l)
		p.Check(err == nil, fmt.Sprintf("listen[%d]", i), "%w; want such as :2055 or 192.0.2.7:2055", err)
	}
	p.Check(c.ReceiveBuffer >= 1<<16 && c.ReceiveBuffer <= 1<<30, "receive_buffer", "is %d; want 65536 to 1073741824 bytes", c.ReceiveBuffer)
	p.Check(c.MaxPending >= 1, "max_pending", "is %d; want at least 1", c.MaxPending)
	for key, most := range map[string]int{"netflow.max_exporters": c.NetFlow.MaxExporters, "sflow.max_exporters": c.SFlow.MaxExporters, "join.max_exporters": c.Join.MaxExporters} {
		p.Check(most >= len(c.Exporters), key, "is %d; want at least one for each of the %d prefixes in exporters", most, len(c.Exporters))
	}
	p.Section("netflow", c.NetFlow.Validate())
	p.Section("sflow", c.SFlow.Validate())
	p.Section("join", c.Join.Validate())
	return p.Join()
}

// Off reports whether nothing is to be collected.
func (c *Configuration) Off() bool { return len(c.Exporters) == 0 || len(c.Listen) == 0 }
