package flow

import (
	"fmt"
	"strconv"
	"strings"
)

// Proto is an IP protocol number (IANA "Assigned Internet Protocol Numbers").
type Proto uint8

// Protocols with names in this project.
const (
	ICMP   Proto = 1
	TCP    Proto = 6
	UDP    Proto = 17
	ICMPv6 Proto = 58
	SCTP   Proto = 132
)

var protoNames = map[Proto]string{
	ICMP: "icmp", 2: "igmp", 4: "ipip", TCP: "tcp", UDP: "udp", 41: "ipv6", 47: "gre",
	50: "esp", 51: "ah", ICMPv6: "icmp6", 89: "ospf", 103: "pim", SCTP: "sctp",
}

// String is the lower-case name, or the number for a protocol without one.
func (p Proto) String() string {
	if s, ok := protoNames[p]; ok {
		return s
	}
	return strconv.Itoa(int(p))
}

// ParseProto reads a name ("tcp", any case) or a number 0..255.
func ParseProto(s string) (Proto, error) {
	for p, name := range protoNames {
		if strings.EqualFold(s, name) {
			return p, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("protocol %q is neither a name (tcp, udp, icmp, icmp6, sctp, gre ...) nor a number 0-255", s)
	}
	return Proto(n), nil
}

// TCPFlags are the control bits of a TCP header, low byte (RFC 9293, section
// 3.1).
type TCPFlags uint8

// The control bits.
const (
	FIN TCPFlags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

// String lists the set bits as letters in the order of the header, "-" if
// none: "SA" is SYN and ACK.
func (f TCPFlags) String() string {
	if f == 0 {
		return "-"
	}
	var b strings.Builder
	for i, c := range "FSRPAUEC" {
		if f&(1<<i) != 0 {
			b.WriteRune(c)
		}
	}
	return b.String()
}
