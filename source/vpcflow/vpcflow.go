// Package vpcflow reads the flow logs of Amazon VPC (Amazon VPC User Guide, "Flow
// log records"): text with a line that names the columns, as they are delivered
// to S3; lines of the default format without it; and Parquet.
//
// A record is one direction of a conversation at one network interface in one
// interval, to be joined (source/biflow). Where a record has pkt-srcaddr and
// pkt-dstaddr, the addresses in the packet, those are taken.
package vpcflow

import (
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"strings"
	"time"

	"dragnet/flow"
	"dragnet/source/biflow"
)

// column is a field of a record that is read.
type column uint8

const (
	other column = iota
	srcAddr
	dstAddr
	pktSrcAddr
	pktDstAddr
	interfaceID
	action
	status
	direction
	firstNumber
	srcPort
	dstPort
	protocol
	packets
	octets
	start
	end
	tcpFlags
	columns
)

// names are AWS's, as Parquet has them; text has hyphens.
var names = [columns]string{
	srcAddr: "srcaddr", dstAddr: "dstaddr", pktSrcAddr: "pkt_srcaddr", pktDstAddr: "pkt_dstaddr", interfaceID: "interface_id",
	action: "action", status: "log_status", direction: "flow_direction", srcPort: "srcport", dstPort: "dstport", protocol: "protocol",
	packets: "packets", octets: "bytes", start: "start", end: "end", tcpFlags: "tcp_flags",
}

// String is the name in text.
func (c column) String() string { return strings.ReplaceAll(names[c], "_", "-") }

func (c column) isText() bool { return c < firstNumber }

// columnOf finds a column by its name in text or Parquet.
func columnOf(name string) column {
	name = strings.ReplaceAll(name, "-", "_")
	for c, n := range names {
		if n == name && n != "" {
			return column(c)
		}
	}
	return other
}

// values are the fields of one record.
type values struct {
	set     uint32 // bit c: column c has a value
	texts   [firstNumber]string
	numbers [columns]uint64
}

func (v *values) has(c column) bool { return v.set&(1<<c) != 0 }

func (v *values) setText(c column, s string) {
	v.texts[c] = s
	v.set |= 1 << c
}

func (v *values) setNumber(c column, n uint64) {
	v.numbers[c] = n
	v.set |= 1 << c
}

// Values of log-status and action.
const (
	ok, noData, skipData = "OK", "NODATA", "SKIPDATA"

	reject = "REJECT"
)

var (
	errSkipped = errors.New("SKIPDATA: AWS left out records of this interface and interval")
	errTime    = errors.New("start or end is missing, or no time")
)

// record fills r; ok is false for a record that says that there was no traffic.
func (v *values) record(r *biflow.Record) (found bool, err error) {
	switch v.texts[status] {
	case noData:
		return false, nil
	case skipData:
		return false, errSkipped
	}
	f := &r.Flow
	if f.Orig, err = v.address(pktSrcAddr, srcAddr); err != nil {
		return false, err
	}
	if f.Resp, err = v.address(pktDstAddr, dstAddr); err != nil {
		return false, err
	}
	const latest = 1 << 33 // seconds, in the year 2242
	first, last := v.numbers[start], v.numbers[end]
	if !v.has(start) || first > latest || last > latest {
		return false, errTime
	}
	f.Start, f.Sampling = flow.Time(first)*1e9, 1
	if v.has(end) {
		f.Duration = time.Duration(max(0, int64(last)-int64(first))) * time.Second
		f.Known |= flow.Lasting
	}
	if v.has(packets) || v.has(octets) {
		f.OrigPkts, f.OrigIPBytes = v.numbers[packets], v.numbers[octets]
		f.Known |= flow.Counts
	}
	// Both interfaces of a conversation within a VPC report it.
	h := fnv.New32a()
	_, _ = h.Write([]byte(v.texts[interfaceID]))
	r.Domain = h.Sum32()
	r.Egress = v.texts[direction] == "egress"
	return true, v.transport(r)
}

func (v *values) address(wanted, otherwise column) (netip.Addr, error) {
	c := wanted
	if !v.has(c) {
		c = otherwise
	}
	a, err := netip.ParseAddr(v.texts[c])
	if err != nil {
		return a, fmt.Errorf("%s %.40q is not an address", c, v.texts[c])
	}
	return a.Unmap().WithZone(""), nil
}

func (v *values) transport(r *biflow.Record) error {
	if v.numbers[protocol] > 255 || v.numbers[srcPort] > 65535 || v.numbers[dstPort] > 65535 {
		return errors.New("protocol or port is out of range")
	}
	r.Proto = flow.Proto(v.numbers[protocol])
	r.OrigPort, r.RespPort = uint16(v.numbers[srcPort]), uint16(v.numbers[dstPort])
	if r.Proto != flow.TCP {
		return nil
	}
	// AWS gives SYN, SYN-ACK, FIN and RST, and PSH and ACK not by themselves.
	if v.has(tcpFlags) {
		r.OrigFlags = flow.TCPFlags(v.numbers[tcpFlags])
		r.Known |= flow.Flags
	}
	if v.texts[action] == reject && (r.OrigFlags&flow.SYN != 0 || !v.has(tcpFlags)) {
		r.State = flow.S0
	}
	return nil
}
