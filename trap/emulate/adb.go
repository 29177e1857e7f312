package emulate

import (
	"bytes"
	"encoding/binary"
	"strings"
)

// Messages of the Android Debug Bridge (protocol.txt of its source): six words in
// little endian, and data.
const (
	adbConnect = 0x4e584e43 // CNXN
	adbOpen    = 0x4e45504f // OPEN
	adbOkay    = 0x59414b4f // OKAY
	adbWrite   = 0x45545257 // WRTE
	adbClose   = 0x45534c43 // CLSE

	adbVersion = 0x01000000
	adbMost    = 256 << 10
	// maxADBStreams bounds the streams of a connection at a time.
	maxADBStreams = 64
)

func isADB(first []byte) bool { return bytes.HasPrefix(first, []byte("CNXN")) }

func adbMessage(command, arg0, arg1 uint32, data []byte) []byte {
	m := make([]byte, 24, 24+len(data))
	sum := uint32(0)
	for _, b := range data {
		sum += uint32(b)
	}
	for i, v := range []uint32{command, arg0, arg1, uint32(len(data)), sum, ^command} {
		binary.LittleEndian.PutUint32(m[4*i:], v)
	}
	return append(m, data...)
}

// adbStream is a stream that a client opened; both sides use its number.
type adbStream struct {
	sync *adbSync // of file transfers
}

// serveADB is a device without authentication: it answers commands as a shell that
// knows none, and takes files.
func serveADB(c *Conn) error {
	streams := map[uint32]*adbStream{}
	for range maxCommands {
		m, err := readMessage(c, 24, func(h []byte) int { return int(binary.LittleEndian.Uint32(h[12:])) })
		if err == errLimit {
			return drain(c)
		}
		if err != nil {
			return err
		}
		if out := answerADB(streams, m); len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return err
			}
		}
	}
	return errLimit
}

// answerADB is the answer to a whole message.
func answerADB(streams map[uint32]*adbStream, m []byte) []byte {
	command, id, data := binary.LittleEndian.Uint32(m), binary.LittleEndian.Uint32(m[4:]), m[24:]
	switch command {
	case adbConnect:
		return adbMessage(adbConnect, adbVersion, adbMost, []byte("device::ro.product.name=tv;ro.product.model=TV;ro.product.device=tv;\x00"))
	case adbOpen:
		return openADB(streams, id, strings.TrimRight(string(data), "\x00"))
	case adbWrite:
		out := adbMessage(adbOkay, id, id, nil)
		s := streams[id]
		if s == nil {
			return adbMessage(adbClose, 0, id, nil)
		}
		answer := ""
		if s.sync != nil {
			answer = s.sync.take(data)
		} else if a, done := answerShell(strings.TrimSpace(string(data))); done {
			delete(streams, id)
			return append(out, adbMessage(adbClose, id, id, nil)...)
		} else {
			answer = a + "# "
		}
		if answer != "" {
			out = append(out, adbMessage(adbWrite, id, id, []byte(answer))...)
		}
		return out
	case adbClose:
		if streams[id] != nil {
			delete(streams, id)
			return adbMessage(adbClose, id, id, nil)
		}
	}
	return nil
}

// openADB opens a stream to a service: "shell:" with or without a command, or
// "sync:". Others are refused; so is what would connect elsewhere.
func openADB(streams map[uint32]*adbStream, id uint32, service string) []byte {
	refuse := adbMessage(adbClose, 0, id, nil)
	if len(streams) >= maxADBStreams {
		return refuse
	}
	okay := adbMessage(adbOkay, id, id, nil)
	name, argument, _ := strings.Cut(service, ":")
	name, _, _ = strings.Cut(name, ",")
	switch {
	case name == "sync":
		streams[id] = &adbStream{sync: &adbSync{}}
		return okay
	case name == "shell" && argument == "":
		streams[id] = &adbStream{}
		return append(okay, adbMessage(adbWrite, id, id, []byte("# "))...)
	case name == "shell" || name == "exec":
		answer, _ := answerShell(argument)
		if answer != "" {
			okay = append(okay, adbMessage(adbWrite, id, id, []byte(answer))...)
		}
		return append(okay, adbMessage(adbClose, id, id, nil)...)
	}
	return refuse
}

// adbSync takes files (SYNC.TXT): requests of four letters, a length, and as much
// data. It keeps nothing of them.
type adbSync struct {
	header [8]byte
	have   int
	skip   uint32 // bytes of the request that are still to come
}

// take adds what arrived, and returns the answers to complete requests.
func (s *adbSync) take(b []byte) string {
	var out strings.Builder
	for len(b) > 0 {
		if s.skip > 0 {
			n := min(uint32(len(b)), s.skip)
			b, s.skip = b[n:], s.skip-n
			if s.skip == 0 {
				out.WriteString(s.answer())
			}
			continue
		}
		n := copy(s.header[s.have:], b)
		b, s.have = b[n:], s.have+n
		if s.have < len(s.header) {
			break
		}
		s.have = 0
		if s.skip = binary.LittleEndian.Uint32(s.header[4:]); string(s.header[:4]) == "DONE" {
			s.skip = 0 // a time, and no data
		}
		if s.skip == 0 {
			out.WriteString(s.answer())
		}
	}
	return out.String()
}

func (s *adbSync) answer() string {
	switch string(s.header[:4]) {
	case "STAT":
		return "STAT" + strings.Repeat("\x00", 12) // no such file
	case "DONE":
		return "OKAY\x00\x00\x00\x00"
	case "LIST":
		return "DONE" + strings.Repeat("\x00", 16)
	case "RECV":
		return "FAIL\x00\x00\x00\x00"
	}
	return ""
}
