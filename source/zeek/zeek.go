// Package zeek reads the connection log of the Zeek network monitor (conn.log,
// Zeek book, "conn.log"): its own tab-separated form and JSON, one object a
// line, plain or gzip.
//
// The log is treated as hostile input. A line that cannot be used is counted
// with its position and reason, and the rest is still read; neither long lines
// nor many distinct values make memory grow. A log that is still being written
// is read up to its last whole line.
//
// The mapping of columns is documented at each field of flow.Flow. Three points
// are not obvious:
//
//   - Zeek leaves duration and the payload byte counts unset for a connection
//     of one packet, so for such a flow Flow.Known lacks Lasting and Payload.
//   - The protocol of a flow logged as unknown_transport comes from the column
//     ip_proto (Zeek 7.1 on), and is 0 in a log without it. ICMP between IPv6
//     addresses is ICMPv6, though Zeek writes icmp for both.
//   - TCP flags are not derived from history, which does not show PSH or URG,
//     nor whether an RST acknowledged.
package zeek
