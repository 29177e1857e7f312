package packets

import (
	"time"

	"dragnet/flow"
)

// Configuration has the rules by which packets become flows. The defaults are
// those of Zeek, so that states, histories and the division into flows agree.
type Configuration struct {
	// MaxFlows bounds the flows held at once, of about 600 bytes each. When it
	// is reached, the flow nearest to its timeout is emitted early; so a flood
	// of unanswered attempts cannot evict established connections.
	MaxFlows int

	// TCPInactivity ends a TCP connection after its handshake; before,
	// UDPInactivity does. InteractiveInactivity replaces it for connections to
	// InteractivePorts.
	TCPInactivity         time.Duration
	InteractiveInactivity time.Duration
	InteractivePorts      []uint16
	// UDPInactivity, ICMPInactivity and OtherInactivity end the flows of the
	// other protocols.
	UDPInactivity, ICMPInactivity, OtherInactivity time.Duration
	// DNSInactivity is for UDP flows to DNSPorts, whose clients use the same
	// port again soon. It is checked at intervals of its length, and takes
	// effect a second early.
	DNSInactivity time.Duration
	DNSPorts      []uint16

	// AttemptDelay is how long a SYN may stay unanswered: after that the
	// attempt is a flow, and a later retry is another.
	AttemptDelay time.Duration
	// CloseDelay is how long a finished connection waits for stragglers.
	CloseDelay time.Duration
	// Linger is how long a connection closed by one side must be silent to end;
	// it is checked every CheckInterval.
	Linger, CheckInterval time.Duration

	// IgnoreChecksums accepts packets with a wrong checksum. Checksums left to
	// the network card are never counted as wrong.
	IgnoreChecksums bool
	// HeadersOnly is for packets that were cut on purpose as they were captured:
	// what is missing at their ends is not a gap. Zeek takes it for one.
	HeadersOnly bool
	// ServerPorts are ports that servers listen on. For a flow first seen in
	// the middle, they distinguish the originator from the responder.
	ServerPorts []Port
}

// Port is a transport port of one protocol.
type Port struct {
	Proto  flow.Proto
	Number uint16
}

// DefaultConfiguration is Zeek's.
func DefaultConfiguration() Configuration {
	return Configuration{
		MaxFlows:              1 << 19,
		TCPInactivity:         5 * time.Minute,
		InteractiveInactivity: time.Hour,
		InteractivePorts:      []uint16{21, 22, 23, 513},
		UDPInactivity:         time.Minute,
		ICMPInactivity:        time.Minute,
		OtherInactivity:       time.Minute,
		DNSInactivity:         10 * time.Second,
		DNSPorts:              []uint16{53, 137, 5353, 5355},
		AttemptDelay:          5 * time.Second,
		CloseDelay:            5 * time.Second,
		Linger:                5 * time.Second,
		CheckInterval:         6 * time.Second,
		ServerPorts:           serverPorts(),
	}
}

// serverPorts are the ports for which Zeek registers protocols.
func serverPorts() []Port {
	tcp := []uint16{
		21, 2811, // FTP, GridFTP
		22, 25, 587, 53, 79, 88, 143, // SSH, SMTP, DNS, finger, Kerberos, IMAP
		80, 81, 631, 1080, 3128, 8000, 8080, 8888, // HTTP, IPP, SOCKS, proxies
		135, 139, 445, // DCE-RPC, NetBIOS, SMB
		389, 3268, 502, 514, // LDAP, Modbus, syslog
		443, 465, 563, 585, 614, 636, 989, 990, 992, 993, 995, 5223, // over TLS
		1434, 3306, 5432, 6379, 1883, // SQL Server, MySQL, PostgreSQL, Redis, MQTT
		3389, 5222, 5269, 20000, // RDP, XMPP, DNP3
		6666, 6667, 6668, 6669, // IRC
	}
	udp := []uint16{
		53, 137, 5353, 5355, // DNS, NetBIOS names, mDNS, LLMNR
		67, 4011, 88, 123, 161, 162, 389, // DHCP, Kerberos, NTP, SNMP, LDAP
		443, 514, 1812, 3389, 5060, 20000, // DTLS and QUIC, syslog, RADIUS, RDP, SIP, DNP3
		2123, 2152, 3544, 4754, 4789, 5072, 6081, // GTP, Teredo, GRE, VXLAN, AYIYA, Geneve
	}
	ports := make([]Port, 0, len(tcp)+len(udp))
	for _, n := range tcp {
		ports = append(ports, Port{flow.TCP, n})
	}
	for _, n := range udp {
		ports = append(ports, Port{flow.UDP, n})
	}
	return ports
}
