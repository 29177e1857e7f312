package emulate

import (
	"bytes"
	"encoding/binary"

	"github.com/miekg/dns"
)

// Ports of the services over UDP.
const (
	portDNS  = 53
	portTFTP = 69
	portSIP  = 5060
)

// DatagramService is the name of what is emulated at a UDP port.
func DatagramService(port uint16) string {
	switch port {
	case portDNS:
		return "dns"
	case portTFTP:
		return "tftp"
	case portSIP:
		return "sip"
	}
	return "generic"
}

// DatagramState is what an emulator over UDP remembers of one exchange.
type DatagramState struct {
	uploading bool
}

// Answer is the answer to a datagram; nil for none. The caller sends no more
// bytes than it received.
func (d *DatagramState) Answer(port uint16, b []byte) []byte {
	switch port {
	case portDNS:
		return answerDNS(b)
	case portTFTP:
		return d.answerTFTP(b)
	case portSIP:
		return answerSIP(b)
	}
	return nil
}

// TFTP opcodes (RFC 1350).
const (
	tftpRead, tftpWrite, tftpData, tftpAck, tftpError = 1, 2, 3, 4, 5
)

// answerTFTP takes uploads and has no files. The transfer stays on port 69, which
// clients accept, so that one exchange has all of it.
func (d *DatagramState) answerTFTP(b []byte) []byte {
	if len(b) < 4 {
		return nil
	}
	switch binary.BigEndian.Uint16(b) {
	case tftpWrite:
		d.uploading = true
		return []byte{0, tftpAck, 0, 0}
	case tftpData:
		if d.uploading {
			return []byte{0, tftpAck, b[2], b[3]}
		}
	case tftpRead:
		// Error 1, file not found, without a text: it must not be longer than the
		// request.
		return []byte{0, tftpError, 0, 1, 0}
	}
	return nil
}

// answerDNS has the client ask over TCP (RFC 1035, section 4.1.1, TC): the
// answer would be longer than the question.
func answerDNS(b []byte) []byte {
	var q dns.Msg
	if q.Unpack(b) != nil || q.Response || len(q.Question) != 1 {
		return nil
	}
	var out dns.Msg
	out.SetReply(&q)
	out.Truncated, out.RecursionAvailable, out.Extra = true, true, nil
	packed, err := out.Pack()
	if err != nil || len(packed) > len(b) {
		return nil
	}
	return packed
}

// serveDNS answers every name over TCP with one address, so that a honeypot that
// looks a name up goes on to connect to it: 198.18.0.0/15 is for such tests (RFC
// 2544), and whatever is sent there ends in the array.
func serveDNS(c *Conn) error {
	for range maxCommands {
		m, err := readMessage(c, 2, func(h []byte) int { return int(binary.BigEndian.Uint16(h)) })
		if err != nil {
			return err
		}
		packed := answerName(m[2:])
		if packed == nil {
			return drain(c)
		}
		if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packed))), packed...)); err != nil {
			return err
		}
	}
	return errLimit
}

func answerName(b []byte) []byte {
	var q dns.Msg
	if q.Unpack(b) != nil || q.Response || len(q.Question) != 1 {
		return nil
	}
	var out dns.Msg
	out.SetReply(&q)
	out.RecursionAvailable = true
	header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: q.Question[0].Qtype, Class: dns.ClassINET, Ttl: 60}
	sum := nameNumber(q.Question[0].Name)
	switch q.Question[0].Qtype {
	case dns.TypeA:
		out.Answer = []dns.RR{&dns.A{Hdr: header, A: []byte{198, 18 + byte(sum>>16&1), byte(sum >> 8), byte(sum)}}}
	case dns.TypeAAAA:
		ip := append([]byte{0x20, 0x01, 0x0d, 0xb8}, bytes.Repeat([]byte{0}, 12)...)
		binary.BigEndian.PutUint32(ip[12:], sum)
		out.Answer = []dns.RR{&dns.AAAA{Hdr: header, AAAA: ip}}
	}
	packed, err := out.Pack()
	if err != nil {
		return nil
	}
	return packed
}

// nameNumber is a number for a name, the same each time (FNV-1a).
func nameNumber(name string) uint32 {
	h := uint32(2166136261)
	for i := range len(name) {
		h = (h ^ uint32(name[i])) * 16777619
	}
	return h
}
