package protocol

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var compareAddr = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })

// TestRequests is the conformance table: RFC 1413, figure 2 of the paper, and
// what deployed daemons get wrong.
func TestRequests(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::1")
	for _, c := range []struct {
		line string
		want Request
		err  error
	}{
		{"6191,23", Request{Ports: Ports{6191, 23}}, nil},
		{" 6191 ,\t23 ", Request{Ports: Ports{6191, 23}}, nil},
		{"00113,1", Request{Ports: Ports{113, 1}}, nil},
		{"65535,1", Request{Ports: Ports{65535, 1}}, nil},
		{"1,2:ID", Request{Ports: Ports{1, 2}}, nil},
		{"1,2 : SV ", Request{Ports: Ports{1, 2}, Kind: Save}, nil},
		{"1,2:ID:192.0.2.7", Request{Ports: Ports{1, 2}, Remote: v4}, nil},
		{"1,2:SV:2001:db8::1", Request{Ports: Ports{1, 2}, Kind: Save, Remote: v6}, nil},
		{"1,2:SV:::ffff:192.0.2.7", Request{Ports: Ports{1, 2}, Kind: Save, Remote: v4}, nil},
		{"1,2:ID@1764278400", Request{Ports: Ports{1, 2}, At: time.Unix(1764278400, 0).UTC()}, nil},
		{"1,2:SV_REC@1:7:2001:db8::1", Request{Ports: Ports{1, 2}, Kind: SaveRec, Session: 7, Remote: v6, At: time.Unix(1, 0).UTC()}, nil},
		{"1,2:ID@", Request{Ports: Ports{1, 2}}, ErrSyntax},
		{"1,2:ID@-5", Request{Ports: Ports{1, 2}}, ErrSyntax},
		{"1,2:SV@99999999999:192.0.2.7", Request{Ports: Ports{1, 2}, Kind: ID, BadAddress: true}, ErrSyntax},
		{"1,2:ID_REC:0", Request{Ports: Ports{1, 2}, Kind: IDRec}, nil},
		{"1,2:SV_REC:4294967295", Request{Ports: Ports{1, 2}, Kind: SaveRec, Session: 1<<32 - 1}, nil},
		{"1,2 : SV_REC : 7 : 192.0.2.7", Request{Ports: Ports{1, 2}, Kind: SaveRec, Session: 7, Remote: v4}, nil},

		{"", Request{}, ErrPorts},
		{"garbage", Request{}, ErrPorts},
		{"1", Request{}, ErrPorts},
		{"1,", Request{}, ErrPorts},
		{"1,2,3", Request{}, ErrPorts},
		{"1 2,3", Request{}, ErrPorts},
		{"0,1", Request{Ports: Ports{0, 1}}, ErrPorts},
		{"65536,1", Request{Ports: Ports{65536, 1}}, ErrPorts},
		{"99999,1", Request{Ports: Ports{99999, 1}}, ErrPorts},
		{"-1,2", Request{}, ErrPorts},
		{"+1,2", Request{}, ErrPorts},
		{"1.0,2", Request{}, ErrPorts},
		{"4294967297,2", Request{}, ErrPorts}, // 2^32+1: oidentd 2.5 wraps this to port 1
		{"000001,2", Request{}, ErrPorts},
		{"0x10,2", Request{}, ErrPorts},
		{"1,2\x00", Request{}, ErrPorts},
		{"\u0661,2", Request{}, ErrPorts}, // an Arabic digit

		{"1,2:", Request{Ports: Ports{1, 2}}, ErrSyntax},
		{"1,2:id", Request{Ports: Ports{1, 2}}, ErrSyntax},
		{"1,2:SVX", Request{Ports: Ports{1, 2}}, ErrSyntax},
		{"1,2:SV_REC", Request{Ports: Ports{1, 2}, Kind: SaveRec}, ErrSyntax},
		{"1,2:SV_REC:", Request{Ports: Ports{1, 2}, Kind: SaveRec}, ErrSyntax},
		{"1,2:SV_REC:-1", Request{Ports: Ports{1, 2}, Kind: SaveRec}, ErrSyntax},
		{"1,2:SV_REC:4294967296", Request{Ports: Ports{1, 2}, Kind: SaveRec}, ErrSyntax},
		{"1,2:SV_REC:00000000001", Request{Ports: Ports{1, 2}, Kind: SaveRec}, ErrSyntax},
		{"1,2:SV_REC:192.0.2.7", Request{Ports: Ports{1, 2}, Kind: SaveRec, BadAddress: true}, ErrSyntax},
		{"1,2:ID:", Request{Ports: Ports{1, 2}, BadAddress: true}, ErrSyntax},
		{"1,2:ID:300.1.1.1", Request{Ports: Ports{1, 2}, BadAddress: true}, ErrSyntax},
		{"1,2:ID:192.0.2", Request{Ports: Ports{1, 2}, BadAddress: true}, ErrSyntax},
		{"1,2:ID:192.0.2.007", Request{Ports: Ports{1, 2}, BadAddress: true}, ErrSyntax},
		{"1,2:ID:host.example", Request{Ports: Ports{1, 2}, BadAddress: true}, ErrSyntax},
		{"1,2:ID:fe80::1%eth0", Request{Ports: Ports{1, 2}, BadAddress: true}, ErrSyntax},
		{"1,2:SV:7:192.0.2.7", Request{Ports: Ports{1, 2}, Kind: Save, BadAddress: true}, ErrSyntax},
		{"0,2:ID:192.0.2.7", Request{Ports: Ports{0, 2}, Remote: v4}, ErrPorts}, // the address still counts
	} {
		got, err := ParseRequest(c.line)
		if !errors.Is(err, c.err) {
			t.Errorf("%q: error %v, want %v", c.line, err, c.err)
		}
		if diff := cmp.Diff(c.want, got, compareAddr); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.line, diff)
		}
	}
}

func TestReplies(t *testing.T) {
	token := strings.Repeat("0123456789abcdef", 4)
	for _, c := range []struct {
		line  string
		want  Reply
		token bool
		bad   bool
	}{
		{line: "6193, 23 : USERID : UNIX :stjohns", want: Reply{Ports: Ports{6193, 23}, System: "UNIX", User: "stjohns"}},
		{line: "1,2:USERID:UNIX,US-ASCII:  a:b ", want: Reply{Ports: Ports{1, 2}, System: "UNIX", Charset: "US-ASCII", User: "  a:b "}},
		{line: "1,2:USERID:OTHER:" + token, want: TokenReply(Ports{1, 2}, token), token: true},
		{line: "1,2:USERID:UNIX:" + token, want: Reply{Ports: Ports{1, 2}, System: "UNIX", User: token}},
		{line: "1,2:USERID:OTHER:root", want: Reply{Ports: Ports{1, 2}, System: "OTHER", User: "root"}},
		{line: "1,2:USERID:OTHER:" + strings.ToUpper(token), want: Reply{Ports: Ports{1, 2}, System: "OTHER", User: strings.ToUpper(token)}},
		{line: "1,2:USERID:OTHER:" + token[:63] + ":", want: Reply{Ports: Ports{1, 2}, System: "OTHER", User: token[:63] + ":"}},
		{line: "1 , 2 : ERROR : NO-USER", want: ErrorReply(Ports{1, 2}, NoUser)},
		{line: "1,2:ERROR:XOWN", want: ErrorReply(Ports{1, 2}, "XOWN")},
		{line: "0,0:ERROR:INVALID-PORT", want: ErrorReply(Ports{}, InvalidPort)},
		{line: "1,2:ERROR:whatever", bad: true},
		{line: "1,2:ERROR:X", bad: true},
		{line: "1,2:ERROR:X" + strings.Repeat("y", 64), bad: true},
		{line: "1,2:USERID:UNIX", bad: true},
		{line: "1,2:USERID:UNIX:", bad: true},
		{line: "1,2:USERID:UNIX:" + strings.Repeat("u", 513), bad: true},
		{line: "1,2:USERID:UNIX:a\x00b", bad: true},
		{line: "-1,2:ERROR:NO-USER", bad: true},
		{line: "1,2:YES", bad: true},
		{line: "HTTP/1.1 400 Bad Request", bad: true},
		{line: "", bad: true},
	} {
		got, err := ParseReply(c.line)
		if (err != nil) != c.bad {
			t.Errorf("%q: error %v, want one: %v", c.line, err, c.bad)
			continue
		}
		if c.bad {
			continue
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", c.line, diff)
		}
		if _, ok := got.Token(); ok != c.token {
			t.Errorf("%q: token %v, want %v", c.line, ok, c.token)
		}
	}
}

func TestRequestsSurviveTheWire(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q := Request{
			Ports: Ports{rapid.Uint32Range(1, 65535).Draw(t, "asked"), rapid.Uint32Range(1, 65535).Draw(t, "asking")},
			Kind:  Kind(rapid.IntRange(0, int(kindCount)-1).Draw(t, "kind")),
		}
		if q.Kind.Recursive() {
			q.Session = rapid.Uint32().Draw(t, "session")
		}
		if b := rapid.SliceOfN(rapid.Byte(), 0, 16).Draw(t, "address"); len(b) == 4 || len(b) == 16 {
			a, _ := netip.AddrFromSlice(b)
			q.Remote = a.Unmap()
		}
		got, err := ParseRequest(q.String())
		if err != nil || got != q {
			t.Fatalf("%q: %+v, %v; want %+v", q.String(), got, err, q)
		}
	})
}

func TestReadLine(t *testing.T) {
	long := strings.Repeat("x", MaxLine)
	for _, c := range []struct {
		in   string
		want []string
		err  error
	}{
		{"1,2\r\n3,4\n", []string{"1,2", "3,4"}, io.EOF},
		{"1,2", []string{"1,2"}, io.EOF},
		{"\r\n", []string{""}, io.EOF},
		{"1,2\r", []string{"1,2\r"}, io.EOF}, // CR alone is not an end of line; the parser refuses it
		{long + "\r\n", []string{long}, io.EOF},
		{long + "x\n", nil, ErrLineTooLong},
		{strings.Repeat(" ", 1<<20), nil, ErrLineTooLong},
		{"", nil, io.EOF},
	} {
		r := NewReader(iotest.OneByteReader(strings.NewReader(c.in)))
		for _, want := range c.want {
			if got, err := ReadLine(r); err != nil || got != want {
				t.Errorf("%.20q: got %q, %v; want %q", c.in, got, err, want)
			}
		}
		if _, err := ReadLine(r); !errors.Is(err, c.err) {
			t.Errorf("%.20q: ends with %v, want %v", c.in, err, c.err)
		}
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{"1,2", "1,2:SV", "1 , 2 : SV_REC : 7 : 2001:db8::1", "4294967297,1", "0,0:ID:::", "1,2:ID_REC:+1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		q, err := ParseRequest(line)
		if err != nil {
			return
		}
		again, err := ParseRequest(q.String())
		if err != nil || again != q {
			t.Fatalf("%q reads as %+v, written %q, read again %+v, %v", line, q, q.String(), again, err)
		}
	})
}

func FuzzReply(f *testing.F) {
	for _, s := range []string{"6193, 23 : USERID : UNIX :stjohns", "1,2:ERROR:NO-USER", "1,2:USERID:OTHER:" + strings.Repeat("a", 64), "1,2:ERROR:X:"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, line string) {
		r, err := ParseReply(line)
		if err != nil {
			return
		}
		if _, ok := r.Token(); ok && !strings.Contains(line, r.User) {
			t.Fatalf("token %q is not in %q", r.User, line)
		}
		again, err := ParseReply(r.String())
		if err != nil || again != r {
			t.Fatalf("%q reads as %+v, written %q, read again %+v, %v", line, r, r.String(), again, err)
		}
	})
}
