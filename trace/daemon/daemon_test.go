//go:build linux

package daemon

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/trace/protocol"
	"dragnet/trace/record"
	"dragnet/trace/token"
)

var loopback = netip.MustParsePrefix("127.0.0.0/8")

// start runs a daemon on loopback for the test.
func start(t testing.TB, change func(*Configuration)) (d *Daemon, address string) {
	t.Helper()
	c := DefaultConfiguration()
	c.State = t.TempDir()
	c.Askers = []Asker{{Network: loopback, Kinds: []string{"SV", "ID_REC", "SV_REC"}, Remote: true}}
	if change != nil {
		change(&c)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d = New(c, Dependencies{Listeners: []net.Listener{l}, Log: slog.New(slog.DiscardHandler)})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := d.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return d, l.Addr().String()
}

// connection is started by this process.
func connection(t testing.TB) (local, remote netip.AddrPort, end func()) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	end = func() { c.Close(); s.Close(); l.Close() }
	t.Cleanup(end)
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort(), end
}

// ask sends raw bytes and returns everything the daemon answers.
func ask(t testing.TB, address, raw string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, raw)
	c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("%.40q: %v after %q", raw, err, b)
	}
	return string(b)
}

// shape replaces what is different each time.
func shape(answer string, local, remote netip.AddrPort) string {
	pair := fmt.Sprintf("%d,%d", local.Port(), remote.Port())
	var out []string
	for line := range strings.Lines(answer) {
		r, err := protocol.ParseReply(strings.TrimSuffix(line, "\r\n"))
		if err != nil || !strings.HasSuffix(line, "\r\n") {
			out = append(out, "malformed: "+line)
			continue
		}
		if _, ok := r.Token(); ok {
			r.User = "TOKEN"
		}
		out = append(out, strings.Replace(r.String(), pair, "PAIR", 1))
	}
	return strings.Join(out, "|")
}

func TestConformance(t *testing.T) {
	testkit.Root(t)
	_, address := start(t, nil)
	local, remote, _ := connection(t)
	closedLocal, closedRemote, end := connection(t)
	end()
	p, q := fmt.Sprint(local.Port()), fmt.Sprint(remote.Port())
	pair, reversed := p+","+q, q+","+p
	for _, c := range []struct{ name, send, want string }{
		{"plain", pair + "\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"white space", " " + p + "\t, " + q + " \r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"line feed only", pair + "\n", "PAIR:USERID:OTHER:TOKEN"},
		{"no end of line", pair, "PAIR:USERID:OTHER:TOKEN"},
		{"ID", pair + ":ID\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"SV", pair + ":SV\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"ID_REC", pair + ":ID_REC:1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"SV_REC", pair + ":SV_REC:4294967295\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"with address", pair + ":SV:127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"several questions", pair + "\r\n" + reversed + "\r\n" + pair + ":SV\r\n", "PAIR:USERID:OTHER:TOKEN|" + reversed + ":ERROR:NO-USER|PAIR:USERID:OTHER:TOKEN"},
		{"not started here", reversed + "\r\n", reversed + ":ERROR:NO-USER"},
		{"no such connection", p + ",9\r\n", p + ",9:ERROR:NO-USER"},
		{"closed connection", fmt.Sprintf("%d,%d\r\n", closedLocal.Port(), closedRemote.Port()), fmt.Sprintf("%d,%d:ERROR:NO-USER", closedLocal.Port(), closedRemote.Port())},
		{"wrong address", pair + ":ID:127.0.0.9\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"bad port and address", "0," + q + ":SV:127.0.0.1\r\n", "0," + q + ":USERID:OTHER:TOKEN"},
		{"port that wraps", fmt.Sprintf("%d,%s\r\n", 1<<32+int(local.Port()), q), "0,0:ERROR:INVALID-PORT"},
		{"sign", "+" + pair + "\r\n", "0,0:ERROR:INVALID-PORT"},
		{"negative", "-1," + q + "\r\n", "0,0:ERROR:INVALID-PORT"},
		{"zero", "0," + q + "\r\n", "0," + q + ":ERROR:INVALID-PORT"},
		{"too large", "65536," + q + "\r\n", "65536," + q + ":ERROR:INVALID-PORT"},
		{"garbage", "GET / HTTP/1.1\r\n", "0,0:ERROR:INVALID-PORT"},
		{"empty line", "\r\n", "0,0:ERROR:INVALID-PORT"},
		{"unknown type", pair + ":XX\r\n", "PAIR:ERROR:UNKNOWN-ERROR"},
		{"session too large", pair + ":SV_REC:4294967296\r\n", "PAIR:ERROR:UNKNOWN-ERROR"},
		{"malformed address", pair + ":SV:127.0.0.256\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"unknown type and address", pair + ":XX:127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"no type and address", pair + "::127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"no session but an address", pair + ":SV_REC:127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"session too large and address", pair + ":SV_REC:99999999999:127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"session no number and address", pair + ":ID_REC:x:127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"session to plain ID and address", pair + ":ID:7:127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"leading zeros", pair + ":ID:127.000.000.001\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"zone", pair + ":ID:fe80::1%eth0\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"two addresses", pair + ":ID:127.0.0.1:127.0.0.1\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"empty address", pair + ":SV:\r\n", "PAIR:USERID:OTHER:TOKEN"},
		{"bad port, type and address", "0," + q + ":XX:127.0.0.1\r\n", "0," + q + ":USERID:OTHER:TOKEN"},
		{"long line", strings.Repeat(" ", 1200) + pair + "\r\n", "0,0:ERROR:UNKNOWN-ERROR"},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := shape(ask(t, address, c.send), local, remote); got != c.want {
				t.Errorf("%q is answered %q, want %q", c.send, got, c.want)
			}
		})
	}
}

func TestByteByByte(t *testing.T) {
	_, address := start(t, nil)
	local, remote, _ := connection(t)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range fmt.Appendf(nil, "%d,%d\r\n", local.Port(), remote.Port()) {
		c.Write([]byte{b})
		time.Sleep(time.Millisecond)
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if got := shape(line, local, remote); err != nil || got != "PAIR:USERID:OTHER:TOKEN" {
		t.Errorf("%q, %v", line, err)
	}
}

// TestEndlessLine sends a gigabyte, or as much of it as the daemon takes.
func TestEndlessLine(t *testing.T) {
	_, address := start(t, nil)
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	chunk := make([]byte, 1<<20)
	sent := 0
	for sent < 1<<30 {
		n, err := c.Write(chunk)
		sent += n
		if err != nil {
			break
		}
	}
	if sent > 64<<20 {
		t.Errorf("the daemon took %d bytes of a line", sent)
	}
}

// TestEveryAnswerToAGatewayIsAToken compares what answers reveal.
func TestEveryAnswerToAGatewayIsAToken(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, nil)
	local, remote, _ := connection(t)
	seen := map[string]bool{}
	for _, q := range []string{
		fmt.Sprintf("%d,%d:ID:127.0.0.1", local.Port(), remote.Port()), // exists
		fmt.Sprintf("%d,%d:SV:127.0.0.1", remote.Port(), local.Port()), // exists, not started here
		fmt.Sprintf("%d,9:SV:127.0.0.1", local.Port()),
		"1,2:SV_REC:5:192.0.2.1", "1,2:SV_REC:5:192.0.2.1", // the second is a loop
		"1,2:ID:2001:db8::1", "99999,1:ID:192.0.2.1",
	} {
		answer := ask(t, address, q+"\r\n")
		r, err := protocol.ParseReply(strings.TrimSuffix(answer, "\r\n"))
		tok, ok := r.Token()
		if err != nil || !ok || seen[tok] {
			t.Errorf("%s: %q, %v", q, answer, err)
		}
		seen[tok] = true
	}
	if n := d.Stats.Loops.Load(); n != 1 {
		t.Errorf("%d loops, want 1", n)
	}
}

// records reads all records of a daemon.
func records(t testing.TB, d *Daemon) []record.Record {
	t.Helper()
	var out []record.Record
	err := token.Each(RecordsDir(d.config.State), func(e token.Entry) error {
		r, err := record.Parse(e.Record)
		if err != nil || e.Problem != nil {
			t.Errorf("record %d: %v %v", e.Number, err, e.Problem)
		}
		out = append(out, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestSavedRecord(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, nil)
	local, remote, _ := connection(t)
	answer := ask(t, address, fmt.Sprintf("%d,%d:SV\r\n", local.Port(), remote.Port()))
	r, _ := protocol.ParseReply(strings.TrimSpace(answer))
	tok, ok := r.Token()
	if !ok {
		t.Fatal(answer)
	}
	e, err := token.Get(RecordsDir(d.config.State), tok)
	if err != nil {
		t.Fatal(err)
	}
	rec, err := record.Parse(e.Record)
	if err != nil {
		t.Fatal(err)
	}
	name, _ := os.Hostname()
	switch {
	case rec.Kind != "SV" || rec.Local != local || rec.Remote != remote || rec.Asker != remote.Addr() || rec.Direction != "outbound":
		t.Errorf("the request is recorded as %+v", rec)
	case rec.Host == nil || rec.Host.Name != name || rec.Host.Boot.IsZero() || rec.Host.Kernel == "":
		t.Errorf("host %+v", rec.Host)
	case rec.UID == nil || *rec.UID != uint32(os.Getuid()) || rec.User == "":
		t.Errorf("user %v %q", rec.UID, rec.User)
	case len(rec.Processes) < 2 || int(rec.Processes[0].PID) != os.Getpid():
		t.Errorf("processes %+v", rec.Processes)
	}
	last := rec.Processes[len(rec.Processes)-1]
	seen := map[int32]bool{}
	for _, p := range rec.Processes {
		seen[p.PID] = true
	}
	if !seen[1] {
		t.Errorf("the walk does not reach PID 1; it ends with %+v", last)
	}
	if strings.Contains(tok, fmt.Sprintf("%x", local.Port())) && strings.Contains(tok, fmt.Sprintf("%x", remote.Port())) &&
		strings.Contains(tok, fmt.Sprintf("%x", os.Getpid())) {
		t.Errorf("token %s holds numbers of the request", tok)
	}
}

func TestWhoMayAskForWhat(t *testing.T) {
	testkit.Root(t)
	d, address := start(t, func(c *Configuration) { c.Askers = nil })
	local, remote, _ := connection(t)
	for _, kind := range []string{"SV", "ID_REC:1", "SV_REC:1", "SV_REC:1"} {
		if got := shape(ask(t, address, fmt.Sprintf("%d,%d:%s\r\n", local.Port(), remote.Port(), kind)), local, remote); got != "PAIR:USERID:OTHER:TOKEN" {
			t.Errorf("%s: %s", kind, got)
		}
	}
	if n := d.Stats.Walks.Load() + d.Stats.Recursions.Load() + d.Stats.Loops.Load(); n != 0 {
		t.Errorf("a stranger caused %d walks, recursions and loop entries", n)
	}
	all := records(t, d)
	if len(all) != 4 {
		t.Fatalf("%d records", len(all))
	}
	for _, r := range all {
		if r.Processes != nil || !strings.Contains(r.Outcome, "may not ask") {
			t.Errorf("%+v", r)
		}
	}
	if got := shape(ask(t, address, fmt.Sprintf("%d,%d:ID:127.0.0.1\r\n", local.Port(), remote.Port())), local, remote); got != "PAIR:USERID:OTHER:TOKEN" {
		t.Errorf("with address: %s", got)
	}
	if len(records(t, d)) != 4 {
		t.Error("a stranger who named another host made a record")
	}
}

func TestOptionsOfThePaper(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Configuration)
		send   string
		want   string
	}{
		{"tokens instead of errors", func(c *Configuration) { c.AlwaysToken = true }, "1,2\r\n", "1,2:USERID:OTHER:TOKEN"},
		{"one error for all", func(c *Configuration) { c.HideErrors = true }, "1,2\r\n99999,1\r\n", "1,2:ERROR:UNKNOWN-ERROR|99999,1:ERROR:UNKNOWN-ERROR"},
		{"budget", func(c *Configuration) { c.Budget = Budget{PerMinute: 0.001, Burst: 2} }, "1,2\r\n1,2\r\n1,2\r\n", "1,2:ERROR:NO-USER|1,2:ERROR:NO-USER|1,2:ERROR:UNKNOWN-ERROR"},
	} {
		_, address := start(t, c.change)
		if got := shape(ask(t, address, c.send), netip.AddrPort{}, netip.AddrPort{}); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// TestIPv6 asks over IPv6 about IPv6, and about IPv4 by a mapped address.
func TestIPv6(t *testing.T) {
	testkit.Root(t)
	c := DefaultConfiguration()
	c.State = t.TempDir()
	c.Askers = []Asker{{Network: netip.MustParsePrefix("::1/128"), Kinds: []string{"SV"}, Remote: true}}
	l, err := net.Listen("tcp", "[::]:0")
	if err != nil {
		t.Fatal(err)
	}
	d := New(c, Dependencies{Listeners: []net.Listener{l}, Log: slog.New(slog.DiscardHandler)})
	if err := d.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer d.Stop(t.Context())
	_, port, _ := net.SplitHostPort(l.Addr().String())
	six, err := net.Dial("tcp6", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer six.Close()
	local, remote := six.LocalAddr().(*net.TCPAddr).AddrPort(), six.RemoteAddr().(*net.TCPAddr).AddrPort()
	want := "PAIR:USERID:OTHER:TOKEN"
	for _, q := range []string{"%d,%d:SV\r\n", "%d,%d:SV:::1\r\n", "%d,%d:SV: ::1 \r\n"} {
		if got := shape(ask(t, "[::1]:"+port, fmt.Sprintf(q, local.Port(), remote.Port())), local, remote); got != want {
			t.Errorf("%q: %s", q, got)
		}
	}
	// A dual-stack listener sees IPv4 askers at mapped addresses.
	local4, remote4, _ := connection(t)
	if got := shape(ask(t, "127.0.0.1:"+port, fmt.Sprintf("%d,%d\r\n", local4.Port(), remote4.Port())), local4, remote4); got != want {
		t.Errorf("IPv4: %s", got)
	}
	saved := 0
	for _, r := range records(t, d) {
		if r.Processes != nil && r.Remote == remote {
			saved++
		}
	}
	if saved != 3 {
		t.Errorf("%d of 3 records hold processes", saved)
	}
}
