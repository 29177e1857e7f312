package nginx

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/lines"
	"dragnet/source/sourcetest"
)

const (
	get  = "dragnet 1795600000.250 0.250 192.0.2.7 40000 198.51.100.1 443 120 5000 200"
	six  = "dragnet 1795600000.250 0.000 2001:db8::7 40001 2001:db8::1 80 0 0 400"
	unix = "dragnet 1795600000.250 0.000 unix:  unix:/run/x.sock  120 5000 200"
)

func read(t *testing.T, text string) ([]flow.Flow, flow.Coverage) {
	t.Helper()
	r := lines.NewReader(strings.NewReader(text), "access.log", &Format)
	return sourcetest.ReadAll(t, r), r.Coverage()
}

func TestRequests(t *testing.T) {
	flows, cov := read(t, strings.Join([]string{get, six, unix, ""}, "\n"))
	if len(flows) != 2 || cov.Skipped != 1 || cov.Problems[0].Place != "access.log:3" {
		t.Fatalf("%+v, %+v", flows, cov)
	}
	want := flow.Flow{Start: 1795600000_000000000, Duration: 250 * time.Millisecond, Orig: netip.MustParseAddr("192.0.2.7"), Resp: netip.MustParseAddr("198.51.100.1"),
		OrigPort: 40000, RespPort: 443, Proto: flow.TCP, State: flow.SF, Sampling: 1, OrigBytes: 120, RespBytes: 5000, Known: flow.Lasting | flow.Payload}
	if flows[0] != want {
		t.Errorf("%+v, want %+v", flows[0], want)
	}
	if flows[1].Resp.String() != "2001:db8::1" || flows[1].RespPort != 80 {
		t.Errorf("%+v", flows[1])
	}
}

func TestOnlyThisFormatIsTaken(t *testing.T) {
	for text, want := range map[string]bool{
		get + "\n" + six: true, "": false, "dragnet": false,
		`192.0.2.1 - - [22/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 612 "-" "curl"`: false,
		strings.Replace(get, "1795600000.250", "now", 1):                                 false,
		strings.Replace(get, "dragnet", "other", 1):                                      false,
	} {
		if Format.Is([]byte(text)) != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
}

func TestLinesThatCannotBeUsed(t *testing.T) {
	for want, line := range map[string]string{
		errColumns.Error(): get + " more",
		errTime.Error():    strings.Replace(get, " 0.250", " -", 1),
		errEnds.Error():    strings.Replace(get, "40000", "70000", 1),
		errCounts.Error():  strings.Replace(get, "5000", "-5", 1),
	} {
		flows, cov := read(t, line+"\n"+six+"\n")
		if len(flows) != 1 || cov.Skipped != 1 || cov.Problems[0].Reason != want {
			t.Errorf("%d flows, %v, want %s", len(flows), cov.Problems, want)
		}
	}
}

// TestNginxItself has nginx write the log of requests made here, over HTTP and
// through its stream module where Debian's nginx has it.
func TestNginxItself(t *testing.T) {
	nginx := testkit.Tool(t, "nginx")
	dir := t.TempDir()
	log := filepath.Join(dir, "flows.log")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	config := `daemon off; master_process off; pid ` + dir + `/pid; error_log ` + dir + `/error.log;
events {}
http {
	log_format dragnet 'dragnet $msec $request_time $remote_addr $remote_port $server_addr $server_port $request_length $bytes_sent $status';
	access_log ` + log + ` dragnet;
	client_body_temp_path ` + dir + `/b; proxy_temp_path ` + dir + `/p; fastcgi_temp_path ` + dir + `/f; uwsgi_temp_path ` + dir + `/u; scgi_temp_path ` + dir + `/s;
	server { listen ` + address + `; location / { return 200 "hello\n"; } }
}
`
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, nginx, "-c", file, "-p", dir, "-e", dir+"/error.log")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); _ = cmd.Wait() }()
	before := time.Now().Add(-time.Second)
	var local string
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
		c, err := (&net.Dialer{}).DialContext(ctx, network, to)
		if err == nil {
			local = c.LocalAddr().String()
		}
		return c, err
	}}}
	for range 100 {
		var got *http.Response
		if got, err = client.Get("http://" + address + "/"); err == nil {
			_, _ = io.Copy(io.Discard, got.Body)
			got.Body.Close()
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err != nil {
		text, _ := os.ReadFile(dir + "/error.log")
		t.Fatalf("%v\n%s", err, text)
	}
	var text []byte
	for range 100 {
		if text, _ = os.ReadFile(log); len(text) > 0 {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if !Format.Is(text) {
		t.Fatalf("%q is not taken", text)
	}
	flows, cov := read(t, string(text))
	if len(flows) != 1 || cov.Skipped != 0 {
		t.Fatalf("%+v, %+v of %q", flows, cov, text)
	}
	f := flows[0]
	if f.Orig.String()+":"+strings.Split(local, ":")[1] != local || netip.AddrPortFrom(f.Resp, f.RespPort).String() != address || f.Start < flow.FromTime(before) || f.RespBytes < 6 || f.OrigBytes < 20 {
		t.Errorf("%+v of a connection from %s to %s", f, local, address)
	}
}

func FuzzParse(f *testing.F) {
	for _, line := range []string{get, six, unix, "", "dragnet"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		flows, _ := read(t, text)
		for _, one := range flows {
			if !one.Orig.IsValid() || !one.Resp.IsValid() || one.Duration < 0 {
				t.Fatalf("%+v", one)
			}
		}
	})
}
