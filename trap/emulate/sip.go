package emulate

import (
	"bytes"
	"io"
	"strconv"
	"strings"
)

// maxSIPHeaders bounds the header lines of a SIP message, and maxVia how many of
// them are Via lines, the way back.
const (
	maxSIPHeaders = 100
	maxVia        = 10
)

func isSIP(first []byte) bool {
	for _, m := range []string{"OPTIONS sip", "REGISTER sip", "INVITE sip", "SUBSCRIBE sip", "MESSAGE sip"} {
		if n := min(len(first), len(m)); n >= 8 && bytes.HasPrefix(first, []byte(m[:n])) && bytes.Contains(first, []byte(" s")) {
			return true
		}
	}
	return false
}

// sipRequest is what an answer repeats of a request (RFC 3261, section 8.2.6.2).
type sipRequest struct {
	method string
	copied strings.Builder
	vias   int
	length int // of the body
}

// addLine adds a line of the request; it reports whether the header goes on.
func (q *sipRequest) addLine(line string) bool {
	if line == "" {
		return false
	}
	if q.method == "" {
		q.method, _, _ = strings.Cut(line, " ")
		return true
	}
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimSpace(value)
	switch strings.ToLower(strings.TrimSpace(name)) {
	case "via", "v":
		if q.vias++; q.vias > maxVia {
			return true
		}
		q.copied.WriteString("Via: " + value + "\r\n")
	case "from", "f":
		q.copied.WriteString("From: " + value + "\r\n")
	case "to", "t":
		if !strings.Contains(value, "tag=") {
			value += ";tag=1"
		}
		q.copied.WriteString("To: " + value + "\r\n")
	case "call-id", "i":
		q.copied.WriteString("Call-ID: " + value + "\r\n")
	case "cseq":
		q.copied.WriteString("CSeq: " + value + "\r\n")
	case "content-length", "l":
		if n, err := strconv.Atoi(value); err == nil && n >= 0 {
			q.length = n
		}
	}
	return true
}

// answer is that of a telephone system which accepts every registration and is
// always busy.
func (q *sipRequest) answer() string {
	status := "200 OK"
	switch q.method {
	case "ACK", "": // never answered
		return ""
	case "INVITE":
		status = "486 Busy Here"
	}
	if strings.HasPrefix(q.method, "SIP/") { // an answer
		return ""
	}
	return "SIP/2.0 " + status + "\r\n" + q.copied.String() + "Content-Length: 0\r\n\r\n"
}

// answerSIP answers a request in a datagram.
func answerSIP(b []byte) []byte {
	if len(b) == 0 || bytes.IndexByte(b, 0) >= 0 || !bytes.Contains(b[:min(len(b), 1024)], []byte("SIP/2.0\r\n")) {
		return nil
	}
	var q sipRequest
	n := 0
	for line := range strings.SplitSeq(string(b), "\r\n") {
		if n++; n > maxSIPHeaders || !q.addLine(line) {
			break
		}
	}
	if a := q.answer(); a != "" && len(a) <= len(b) {
		return []byte(a)
	}
	return nil
}

// serveSIP answers requests over TCP.
func serveSIP(c *Conn) error {
	for range maxCommands {
		var q sipRequest
		for n := 0; ; n++ {
			line, err := readLine(c)
			if err != nil {
				return err
			}
			if n > maxSIPHeaders {
				return drain(c)
			}
			if q.method == "" && line == "" {
				continue // keep-alive (RFC 5626, section 3.5.1)
			}
			if !q.addLine(line) {
				break
			}
		}
		if q.length > maxMessage {
			return drain(c)
		}
		if _, err := io.CopyN(io.Discard, c.Reader, int64(q.length)); err != nil {
			return err
		}
		if _, err := io.WriteString(c, q.answer()); err != nil {
			return err
		}
	}
	return errLimit
}
