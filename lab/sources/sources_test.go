// Package sources_test feeds one node from every kind of source at once: softflowd
// and Open vSwitch over UDP, a growing Zeek log, a growing eve.json, and a sensor,
// all of which see the same connections. What the node then knows must be what a
// capture of them shows.
package sources_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// connections is how many connections succeed, and how many are refused.
const connections = 30

// lab is a switch between two hosts, in whose namespace all else runs.
type lab struct {
	t                     *testing.T
	dir                   string
	dragnet, agent        string
	client, server, cloud *netlab.Node
	started               []*netlab.Process
	pipe                  *netlab.Process // writes packets to softflowd
}

// build makes the programs and the network.
func build(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir()}
	network := netlab.For(t)
	for _, tool := range []string{"ovs-vswitchd", "softflowd", "dumpcap"} {
		testkit.Tool(t, tool)
	}
	if out, err := exec.Command("go", "build", "-o", l.dir, "dragnet/cmd/dragnet", "dragnet/cmd/dragnet-agent").CombinedOutput(); err != nil {
		t.Fatalf("build the programs: %v\n%s", err, out)
	}
	l.dragnet, l.agent = filepath.Join(l.dir, "dragnet"), filepath.Join(l.dir, "dragnet-agent")
	nodes, err := network.Nodes("client", "server", "cloud")
	if err != nil {
		t.Fatal(err)
	}
	l.client, l.server, l.cloud = nodes[0], nodes[1], nodes[2]
	// Open vSwitch exports from 10.10.0.1, softflowd from 127.0.0.1.
	l.must(errors.Join(
		network.Wire(l.client, "eth0", l.cloud, "toclient"), network.Wire(l.server, "eth0", l.cloud, "toserver"),
		l.client.Address("eth0", netip.MustParsePrefix("10.9.0.1/24")), l.server.Address("eth0", netip.MustParsePrefix("10.9.0.2/24")),
		l.cloud.Address("lo", netip.MustParsePrefix("10.10.0.1/32")),
	))
	sockets, err := os.MkdirTemp("", "ovs")
	l.must(err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	s, err := l.cloud.VirtualSwitch(sockets)
	l.must(err)
	l.must(s.AddBridge("br0", "toclient", "toserver"))
	for _, args := range [][]string{
		{"set", "Open_vSwitch", ".", "other_config:max-idle=500"},
		{"--", "--id=@n", "create", "NetFlow", `targets="10.10.0.1:2055"`, "active_timeout=1", "--", "set", "Bridge", "br0", "netflow=@n"},
	} {
		_, err := s.Set(args...)
		l.must(err)
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// run runs the program on the node's machine.
func (l *lab) run(args ...string) string {
	l.t.Helper()
	cmd := l.cloud.Command(l.t.Context(), l.dragnet, args...)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		l.t.Fatalf("dragnet %s: %v\n%s", strings.Join(args, " "), err, problems.String())
	}
	return string(out)
}

func (l *lab) start(program string, args ...string) *netlab.Process {
	l.t.Helper()
	p, err := l.cloud.Start(program, args...)
	l.must(err)
	l.started = append(l.started, p)
	return p
}

// until waits until f is true.
func (l *lab) until(what string, f func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		if f() {
			return
		}
	}
	for _, p := range l.started {
		l.t.Logf("%s", p.Output())
	}
	if _, err := os.Stat(l.dir + "/data/node.sock"); err == nil {
		l.t.Log(l.run("source", "list", l.dir+"/data"))
		l.t.Log(l.run("flow", "stat", l.dir+"/data", "--by", "state"))
		l.t.Log(l.run("flow", "list", l.dir+"/data", "--limit", "30"))
	}
	l.t.Fatalf("still not: %s", what)
}

// log is a file that grows.
func (l *lab) log(name, text string) {
	l.t.Helper()
	f, err := os.OpenFile(filepath.Join(l.dir, "logs", name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	l.must(err)
}

// feed starts the node and all that feeds it.
func (l *lab) feed() (capture string, dumpcap *netlab.Process) {
	l.t.Helper()
	l.must(os.Mkdir(filepath.Join(l.dir, "logs"), 0o700))
	l.log("conn.log", "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tconn_state\n")
	l.must(os.WriteFile(filepath.Join(l.dir, "node.yaml"), fmt.Appendf(nil, `
store: {directory: %[1]s/data}
follow: {logs: [%[1]s/logs], every: 200ms}
admin: {listen: ""}
api: {listen: "127.0.0.1:9121"}
collect: {exporters: [127.0.0.1/32, 10.10.0.1/32], join: {wait: 3s, linger: 500ms}}
`, l.dir), 0o600))
	l.start(l.dragnet, "run", "node", "--config", l.dir+"/node.yaml")
	l.until("the node answers", func() bool { _, err := os.Stat(l.dir + "/data/node.sock"); return err == nil })
	token := l.run("agent", "token", l.dir+"/data", "--name", "tap-1", "--role", "sensor")
	if out, err := l.cloud.Run(l.t.Context(), l.agent, "enrol", "sensor", "https://127.0.0.1:9121", strings.TrimSpace(token), "--state", l.dir+"/enrolled"); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	l.must(os.WriteFile(filepath.Join(l.dir, "sensor.yaml"), fmt.Appendf(nil, "live: {interface: toserver}\nevery: 200ms\nchannel: {state: %s/enrolled}\n", l.dir), 0o600))
	sensor := l.start(l.agent, "run", "sensor", "--config", l.dir+"/sensor.yaml")
	capture = filepath.Join(l.dir, "truth.pcap")
	dumpcap = l.start("dumpcap", "-q", "-P", "-i", "toserver", "-w", capture)
	// On an interface, softflowd gets packets only when libpcap's buffer is full;
	// through a pipe it gets each as it comes.
	pipe := l.dir + "/pipe"
	l.must(syscall.Mkfifo(pipe, 0o600))
	l.start("softflowd", "-d", "-r", pipe, "-v", "9", "-t", "tcp.fin=1", "-t", "tcp.rst=1", "-t", "expint=1", "-n", "127.0.0.1:2055", "-p", l.dir+"/softflowd.pid", "-c", "none")
	l.pipe = l.start("dumpcap", "-q", "-P", "-i", "toserver", "-w", pipe)
	l.until("dumpcap records", func() bool { return strings.Contains(string(dumpcap.Output()), "File:") })
	l.until("the sensor watches", func() bool { return strings.Contains(string(sensor.Output()), "sensor started") })
	return capture, dumpcap
}

// talk makes connections from the client to an open and to a closed port, and
// writes what Zeek and Suricata would of each.
func (l *lab) talk() {
	l.t.Helper()
	var listener net.Listener
	l.must(l.server.Do(func() (err error) { listener, err = net.Listen("tcp4", "10.9.0.2:8080"); return err }))
	defer listener.Close()
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("hello"))
			c.Close()
		}
	}()
	for n := range 2 * connections {
		port, state, flags := 8080, "SF", [2]string{"1b", "1b"}
		if n%2 == 1 {
			port, state, flags = 8081, "REJ", [2]string{"02", "14"}
		}
		local := 40000 + n
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 9, 0, 1), Port: local}, Timeout: 5 * time.Second}
		at := time.Now()
		err := l.client.Do(func() error {
			c, err := d.Dial("tcp4", net.JoinHostPort("10.9.0.2", strconv.Itoa(port)))
			if err == nil {
				_, _ = c.Read(make([]byte, 10))
				c.Close()
			}
			return err
		})
		if (err == nil) != (port == 8080) {
			l.t.Fatalf("connection %d to port %d: %v", n, port, err)
		}
		l.log("conn.log", fmt.Sprintf("%.6f\tC%d\t10.9.0.1\t%d\t10.9.0.2\t%d\ttcp\t%s\n", float64(at.UnixMicro())/1e6, n, local, port, state))
		iso := at.UTC().Format("2006-01-02T15:04:05.000000-0700")
		l.log("eve.json", fmt.Sprintf(`{"timestamp":%q,"event_type":"flow","src_ip":"10.9.0.1","src_port":%d,"dest_ip":"10.9.0.2","dest_port":%d,"proto":"TCP","flow":{"pkts_toserver":1,"pkts_toclient":1,"bytes_toserver":74,"bytes_toclient":60,"start":%q,"end":%q},"tcp":{"tcp_flags_ts":%q,"tcp_flags_tc":%q}}`+"\n",
			iso, local, port, iso, iso, flags[0], flags[1]))
	}
}

// listed are the flows of a filter that the node's store has, by client's port.
func (l *lab) listed(filter ...string) map[int]int {
	l.t.Helper()
	count := map[int]int{}
	text := l.run(append([]string{"flow", "list", l.dir + "/data", "--limit", "0", "-o", "jsonl"}, filter...)...)
	for line := range strings.Lines(text) {
		var f struct {
			Port int `json:"src_port"`
		}
		l.must(json.Unmarshal([]byte(line), &f))
		count[f.Port]++
	}
	return count
}

// hosts are the hosts and their states that a hunt finds.
func (l *lab) hosts(pattern, witness string) (hosts []string) {
	l.t.Helper()
	var r struct {
		Hosts []struct {
			Host string `json:"host"`
		} `json:"hosts"`
		Witnesses []struct {
			Flows uint64 `json:"flows"`
		} `json:"witnesses"`
	}
	l.must(json.Unmarshal([]byte(l.run("hunt", pattern, "--witness", "w="+witness, "--force", "-o", "json")), &r))
	if len(r.Witnesses) != 1 || r.Witnesses[0].Flows == 0 {
		l.t.Errorf("%s has seen nothing: %+v", witness, r)
	}
	for _, h := range r.Hosts {
		hosts = append(hosts, h.Host)
	}
	return hosts
}

func TestOneNodeAndEverySource(t *testing.T) {
	l := build(t)
	capture, dumpcap := l.feed()
	l.talk()
	time.Sleep(time.Second) // dumpcap's buffer
	l.must(errors.Join(dumpcap.Stop(), l.pipe.Stop()))
	// Each of the five sources gives each connection once.
	const sources = 5
	complete := func(filter ...string) bool {
		n := 0
		for port, times := range l.listed(filter...) {
			if times > sources {
				t.Fatalf("port %d has %d flows of %d sources", port, times, sources)
			}
			if times == sources {
				n++
			}
		}
		return n == connections
	}
	l.until("every source has given every established connection", func() bool {
		return complete("dst=10.9.0.2", "dport=8080", "proto=tcp", "state=established")
	})
	l.until("every source has given every refused connection", func() bool {
		return complete("dst=10.9.0.2", "dport=8081", "proto=tcp", "state=failed")
	})
	for _, pattern := range []string{
		"out dst=10.9.0.2 dport=8081 proto=tcp state=failed", "out dst=10.9.0.2 dport=8080 proto=tcp state=established", "in src=10.9.0.1 dport=8080 proto=tcp",
		"out dst=10.9.0.2 dport=8080 proto=tcp then[1h] out dst=10.9.0.2 dport=8081 proto=tcp", "out dst=10.9.0.2 dport=8082 proto=tcp",
		"out dst=10.9.0.2 dport=8080 proto=tcp state=failed", "in src=10.9.0.2 dport=8080 proto=tcp",
	} {
		want, got := l.hosts(pattern, capture), l.hosts(pattern, l.dir+"/data")
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %v at the node, %v in the capture", pattern, got, want)
		}
	}
	l.losses()
}

// losses checks that every source is named, with its flows and what it lost.
func (l *lab) losses() {
	l.t.Helper()
	var all []struct {
		Kind, Name string
		Flows      uint64
		Lost       map[string]uint64
	}
	text := l.run("source", "list", l.dir+"/data", "-o", "json")
	if asked := l.run("source", "list", "--node", "unix://"+l.dir+"/data/node.sock", "-o", "json"); asked != text {
		l.t.Errorf("the node lists\n%s, its directory has\n%s", asked, text)
	}
	l.must(json.Unmarshal([]byte(text), &all))
	seen := map[string]bool{}
	for _, s := range all {
		name := s.Kind + " " + filepath.Base(s.Name)
		seen[name] = s.Flows >= 2*connections
		for cause, n := range s.Lost {
			// Neighbour discovery and the switch's own traffic are no TCP.
			if cause != "flows_one_sided" && cause != "datagrams_malformed" {
				l.t.Errorf("%s lost %d %s", name, n, cause)
			}
		}
	}
	for _, want := range []string{"log conn.log", "log eve.json", "exporter 32", "sensor tap-1"} {
		if !seen[want] {
			l.t.Errorf("%s is not listed with all its flows:\n%s", want, text)
		}
	}
}
