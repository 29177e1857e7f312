package client

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"dragnet/trace/protocol"
)

// serve answers one connection as told.
func serve(t *testing.T, answer func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		protocol.ReadLine(protocol.NewReader(c))
		answer(c)
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func TestHostsBefore(t *testing.T) {
	q := protocol.Request{Ports: protocol.Ports{Asked: 40000, Asking: 22}, Kind: protocol.SaveRec, Session: 7}
	token := strings.Repeat("5e", 32)
	say := func(s string) func(net.Conn) { return func(c net.Conn) { io.WriteString(c, s) } }
	for _, c := range []struct {
		name   string
		answer func(net.Conn)
		want   string
		err    string
	}{
		{"token", say("40000,22:USERID:OTHER:" + token + "\r\n"), "40000,22:USERID:OTHER:" + token, ""},
		{"plain ident", say("40000 , 22 : USERID : UNIX : root\r\n"), "40000,22:USERID:UNIX: root", ""},
		{"error", say("40000,22:ERROR:NO-USER\r\n"), "40000,22:ERROR:NO-USER", ""},
		{"ports left out of an error", say("0,0:ERROR:UNKNOWN-ERROR\r\n"), "0,0:ERROR:UNKNOWN-ERROR", ""},
		{"other ports", say("1,2:USERID:OTHER:" + token + "\r\n"), "", "not 40000,22"},
		{"closes", say(""), "", "closed without an answer"},
		{"not ident", say("SSH-2.0-OpenSSH\r\n"), "", "has no colon"},
		{"never answers", func(net.Conn) { time.Sleep(2 * time.Second) }, "", "no answer in time"},
		{"never stops", func(c net.Conn) {
			for i := 0; i < 10<<20; i += 4096 {
				if _, err := c.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, "", "longer than 1000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			r, err := Ask(ctx, netip.MustParseAddr("127.0.0.1"), serve(t, c.answer), q)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("%v, want %s", err, c.err)
				}
				return
			}
			if err != nil || r.String() != c.want {
				t.Errorf("%q, %v; want %q", r, err, c.want)
			}
		})
	}
}

func TestRefused(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	_, err = Ask(t.Context(), netip.Addr{}, to, protocol.Request{})
	if err == nil || err.Error() != "connection refused" {
		t.Errorf("%v", err)
	}
}
