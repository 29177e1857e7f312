package emulate

import (
	"encoding/binary"
	"io"
	"time"
)

// maxMessage bounds one message of a binary protocol.
const maxMessage = 1 << 20

// readMessage reads a header of n bytes and what size says follows it.
func readMessage(c *Conn, n int, size func(header []byte) int) ([]byte, error) {
	header := make([]byte, n)
	if _, err := io.ReadFull(c.Reader, header); err != nil {
		return nil, err
	}
	rest := size(header)
	if rest < 0 || rest > maxMessage {
		return nil, errLimit
	}
	message := append(header, make([]byte, rest)...)
	_, err := io.ReadFull(c.Reader, message[n:])
	return message, err
}

// SMB over NetBIOS session service or directly over TCP (RFC 1002, section 4.3;
// [MS-SMB], [MS-SMB2]).
const (
	smb1Negotiate, smb1SetupAndX, smb1TreeConnect = 0x72, 0x73, 0x75
	smb2Negotiate, smb2SessionSetup, smb2Connect  = 0, 1, 3

	statusMoreProcessing = 0xC0000016
	statusAccessDenied   = 0xC0000022
)

func isSMB(first []byte) bool {
	if len(first) < 4 {
		return false
	}
	if first[0] == 0x81 && first[1] == 0 { // NetBIOS session request
		return true
	}
	return first[0] == 0 && len(first) >= 8 && (first[4] == 0xff || first[4] == 0xfe) && string(first[5:8]) == "SMB"
}

// serveSMB negotiates SMB 1 or 2, challenges a login, accepts it, and accepts a
// tree: far enough for an exploit of the first messages, or of a transaction, to
// be delivered. Every other command is answered "access denied".
func serveSMB(c *Conn) error {
	setups := 0
	for range maxCommands {
		m, err := readMessage(c, 4, func(h []byte) int {
			if h[0] != 0 && h[0] != 0x81 {
				return -1
			}
			return int(h[1])<<16 | int(h[2])<<8 | int(h[3])
		})
		if err != nil {
			if err == errLimit {
				return drain(c)
			}
			return err
		}
		var out []byte
		switch body := m[4:]; {
		case m[0] == 0x81:
			if _, err := c.Write([]byte{0x82, 0, 0, 0}); err != nil {
				return err
			}
			continue
		case len(body) >= 32 && body[0] == 0xff:
			out = answerSMB1(body)
		case len(body) >= 64 && body[0] == 0xfe:
			out = answerSMB2(body, &setups)
		default:
			return drain(c)
		}
		frame := append([]byte{0, byte(len(out) >> 16), byte(len(out) >> 8), byte(len(out))}, out...)
		if _, err := c.Write(frame); err != nil {
			return err
		}
	}
	return errLimit
}

func answerSMB1(in []byte) []byte {
	out := append([]byte{}, in[:32]...)
	out[9] |= 0x80 // a reply
	binary.LittleEndian.PutUint32(out[5:], 0)
	switch in[4] {
	case smb1Negotiate:
		// NT LM 0.12 is the dialect that all offer last; without a list its index
		// is 0.
		dialects := uint16(0)
		for i := 35; i < len(in); i++ {
			if in[i] == 2 {
				dialects++
			}
		}
		words := make([]byte, 34)
		binary.LittleEndian.PutUint16(words, max(dialects, 1)-1)
		words[2] = 3                                          // user level, challenge and response
		binary.LittleEndian.PutUint16(words[3:], 50)          // multiplex
		binary.LittleEndian.PutUint16(words[5:], 1)           // virtual circuits
		binary.LittleEndian.PutUint32(words[7:], 16644)       // buffer
		binary.LittleEndian.PutUint32(words[11:], 65536)      // raw
		binary.LittleEndian.PutUint32(words[19:], 0x0000f3f9) // capabilities, without extended security
		binary.LittleEndian.PutUint64(words[23:], uint64(time.Now().UnixNano()/100+116444736000000000))
		words[33] = 8
		out = append(out, 17)
		out = append(out, words...)
		return append(out, 8, 0, 0x4d, 0x1a, 0x77, 0x20, 0x5c, 0x93, 0xe6, 0x0b)
	case smb1SetupAndX:
		out[28] = 8 // a user
		return append(out, 3, 0xff, 0, 0, 0, 0, 0, 0, 0)
	case smb1TreeConnect:
		out[24] = 8 // a tree
		return append(out, 3, 0xff, 0, 0, 0, 0, 0, 5, 0, 'I', 'P', 'C', 0, 0)
	}
	binary.LittleEndian.PutUint32(out[5:], statusAccessDenied)
	return append(out, 0, 0, 0)
}

func answerSMB2(in []byte, setups *int) []byte {
	out := append([]byte{}, in[:64]...)
	out[16] |= 1                               // a reply
	binary.LittleEndian.PutUint16(out[14:], 1) // credits
	binary.LittleEndian.PutUint32(out[8:], 0)  // status
	switch binary.LittleEndian.Uint16(in[12:]) {
	case smb2Negotiate:
		body := make([]byte, 65)
		binary.LittleEndian.PutUint16(body, 65)
		body[2] = 1                                     // signing enabled
		binary.LittleEndian.PutUint16(body[4:], 0x0202) // SMB 2.0.2
		copy(body[8:], "dragnet-trap-001")              // server identifier
		for _, at := range []int{28, 32, 36} {          // transact, read, write
			binary.LittleEndian.PutUint32(body[at:], 65536)
		}
		binary.LittleEndian.PutUint64(body[40:], uint64(time.Now().UnixNano()/100+116444736000000000))
		binary.LittleEndian.PutUint16(body[56:], 128) // where the empty security buffer would be
		return append(out, body[:64]...)
	case smb2SessionSetup:
		*setups++
		binary.LittleEndian.PutUint64(out[40:], 0x4000000001)
		token := ntlmChallenge()
		if *setups%2 == 0 {
			token = nil
		} else {
			binary.LittleEndian.PutUint32(out[8:], statusMoreProcessing)
		}
		body := make([]byte, 8)
		binary.LittleEndian.PutUint16(body, 9)
		binary.LittleEndian.PutUint16(body[4:], 72)
		binary.LittleEndian.PutUint16(body[6:], uint16(len(token)))
		return append(append(out, body...), token...)
	case smb2Connect:
		binary.LittleEndian.PutUint32(out[36:], 1)
		body := make([]byte, 16)
		binary.LittleEndian.PutUint16(body, 16)
		body[2] = 2 // a pipe
		binary.LittleEndian.PutUint32(body[12:], 0x001f01ff)
		return append(out, body...)
	}
	binary.LittleEndian.PutUint32(out[8:], statusAccessDenied)
	return append(out, 9, 0, 0, 0, 0, 0, 0, 0, 0)
}

// ntlmChallenge is an NTLM CHALLENGE_MESSAGE without names ([MS-NLMP], section
// 2.2.1.2).
func ntlmChallenge() []byte {
	m := make([]byte, 56)
	copy(m, "NTLMSSP\x00")
	m[8] = 2
	binary.LittleEndian.PutUint32(m[16:], 56)         // an empty target name
	binary.LittleEndian.PutUint32(m[20:], 0xe28a0215) // flags
	copy(m[24:], "\x4d\x1a\x77\x20\x5c\x93\xe6\x0b")
	binary.LittleEndian.PutUint32(m[44:], 56) // no target information
	return m
}

// TDS ([MS-TDS], sections 2.2.3 and 2.2.6).
const (
	tdsBatch, tdsReply, tdsLogin7, tdsPrelogin = 1, 4, 16, 18
)

func isTDS(first []byte) bool {
	return len(first) >= 8 && (first[0] == tdsPrelogin || first[0] == tdsLogin7 || first[0] == tdsBatch) && first[1] <= 1 && binary.BigEndian.Uint16(first[2:]) >= 8
}

// serveTDS answers the pre-login, accepts every login, and reports each batch as
// done: worms send their commands in batches.
func serveTDS(c *Conn) error {
	for range maxCommands {
		m, err := readMessage(c, 8, func(h []byte) int { return int(binary.BigEndian.Uint16(h[2:])) - 8 })
		if err != nil {
			if err == errLimit {
				return drain(c)
			}
			return err
		}
		if m[1]&1 == 0 {
			continue // more of this message follows
		}
		done := []byte{0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
		var body []byte
		switch m[0] {
		case tdsPrelogin: // version 10.50.1600, encryption not supported
			body = []byte{0, 0, 11, 0, 6, 1, 0, 17, 0, 1, 0xff, 10, 50, 6, 64, 0, 0, 2}
		case tdsLogin7:
			name := "\x16M\x00i\x00c\x00r\x00o\x00s\x00o\x00f\x00t\x00 \x00S\x00Q\x00L\x00 \x00S\x00e\x00r\x00v\x00e\x00r\x00\x00\x00\x00\x00"
			ack := append([]byte{1, 0x71, 0, 0, 1}, name...)
			ack = append(ack, 10, 50, 6, 64)
			body = append([]byte{0xad, byte(len(ack)), byte(len(ack) >> 8)}, ack...)
			body = append(body, done...)
		default:
			body = done
		}
		reply := append([]byte{tdsReply, 1, byte((len(body) + 8) >> 8), byte(len(body) + 8), 0, 0, 1, 0}, body...)
		if _, err := c.Write(reply); err != nil {
			return err
		}
	}
	return errLimit
}

// DCE/RPC over TCP (C706, chapter 12).
const (
	rpcRequest, rpcFault, rpcBind, rpcBindAck, rpcAlter, rpcAlterAck = 0, 3, 11, 12, 14, 15
)

func isRPC(first []byte) bool {
	return len(first) >= 3 && first[0] == 5 && first[1] <= 1 && first[2] <= 19
}

// serveRPC accepts every interface that is bound, with the NDR transfer syntax,
// and answers each call with a fault after it has been received whole.
func serveRPC(c *Conn) error {
	for range maxCommands {
		m, err := readMessage(c, 16, func(h []byte) int { return int(binary.LittleEndian.Uint16(h[8:])) - 16 })
		if err != nil {
			if err == errLimit {
				return drain(c)
			}
			return err
		}
		out := append([]byte{}, m[:16]...)
		switch {
		case m[2] == rpcBind || m[2] == rpcAlter:
			out[2] = rpcBindAck
			if m[2] == rpcAlter {
				out[2] = rpcAlterAck
			}
			out = append(out, 0xd0, 0x16, 0xd0, 0x16, 1, 0, 0, 0) // fragments, group
			out = append(out, 4, 0, '1', '3', '5', 0, 0, 0)       // secondary address, aligned
			out = append(out, 1, 0, 0, 0, 0, 0, 0, 0)             // one result: accepted
			out = append(out, 0x04, 0x5d, 0x88, 0x8a, 0xeb, 0x1c, 0xc9, 0x11, 0x9f, 0xe8, 0x08, 0x00, 0x2b, 0x10, 0x48, 0x60, 2, 0, 0, 0)
		case m[2] == rpcRequest && m[3]&2 == 0:
			continue // not the last fragment
		default:
			out[2] = rpcFault
			out = append(out, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0) // access denied
		}
		out[3] = 3                                 // first and last fragment
		binary.LittleEndian.PutUint16(out[10:], 0) // no authentication
		binary.LittleEndian.PutUint16(out[8:], uint16(len(out)))
		if _, err := c.Write(out); err != nil {
			return err
		}
	}
	return errLimit
}
