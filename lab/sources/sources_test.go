// Package sources_test feeds one node from every kind of source at once: softflowd,
// Open vSwitch and nfreplay over UDP, a growing Zeek log, the growing eve.json of
// Suricata, and a sensor, all of which see the same connections. What the node then
// knows must be what a capture of them shows, and where packets are sampled, the
// answer must say so.
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
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dragnet/internal/cli"
	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
)

// connections is how many connections of each round succeed, and how many are
// refused.
const connections = 15

// lab is a switch between two hosts, in whose namespace all else runs.
type lab struct {
	t                     *testing.T
	dir                   string
	dragnet, agent        string
	client, server, cloud *netlab.Node
	started               []*netlab.Process
	processes             map[string]*netlab.Process // those that are stopped before the end
}

// build makes the programs and the network.
func build(t *testing.T) *lab {
	t.Helper()
	l := &lab{t: t, dir: t.TempDir(), processes: map[string]*netlab.Process{}}
	network := netlab.For(t)
	for _, tool := range []string{"ovs-vswitchd", "softflowd", "dumpcap", "tshark", "suricata", "argus", "ra", "mawk", "nfcapd", "nfreplay"} {
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
	for _, n := range nodes { // neighbour discovery would be further flows
		l.must(errors.Join(n.Sysctl("net.ipv6.conf.all.disable_ipv6", "1"), n.Sysctl("net.ipv6.conf.default.disable_ipv6", "1")))
	}
	l.must(errors.Join(
		network.Wire(l.client, "eth0", l.cloud, "toclient"), network.Wire(l.server, "eth0", l.cloud, "toserver"),
		l.client.Address("eth0", netip.MustParsePrefix("10.9.0.1/24")), l.server.Address("eth0", netip.MustParsePrefix("10.9.0.2/24")),
	))
	for _, address := range []string{openVSwitch, sampledFlow, replayed} {
		l.must(l.cloud.Address("lo", netip.PrefixFrom(netip.MustParseAddr(address), 32)))
	}
	sockets, err := os.MkdirTemp("", "ovs")
	l.must(err)
	t.Cleanup(func() { os.RemoveAll(sockets) })
	s, err := l.cloud.VirtualSwitch(sockets)
	l.must(err)
	l.must(s.AddBridge("br0", "toclient", "toserver"))
	l.export(s)
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
	defer func(began time.Time) { l.t.Logf("%v: %s", time.Since(began).Round(time.Millisecond), what) }(time.Now())
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(300 * time.Millisecond) {
		if f() {
			return
		}
	}
	for _, p := range l.started {
		l.t.Logf("%s", p.Output())
	}
	if _, err := os.Stat(l.dir + "/all/node.sock"); err == nil {
		l.t.Log(l.run("source", "list", "--data", l.dir+"/all"))
		l.t.Log(l.run("flow", "stat", "--data", l.dir+"/all", "--by", "state"))
		l.t.Log(l.run("flow", "list", "--data", l.dir+"/all", "dst=10.9.0.2", "--limit", "500", "-o", "jsonl"))
	}
	l.t.Fatalf("still not: %s", what)
}

// talk makes connections from the client to an open and to a closed port, with the
// client's ports from first on.
func (l *lab) talk(first int) {
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
		port := 8080 + n%2
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 9, 0, 1), Port: first + n}, Timeout: 5 * time.Second}
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
	}
}

// listed is what is read of a flow that the node lists.
type listed struct {
	Port      int    `json:"src_port"`
	OrigBytes uint64 `json:"bytes_orig"`
	RespBytes uint64 `json:"bytes_resp"`
	OrigPkts  uint64 `json:"pkts_orig"`
	RespPkts  uint64 `json:"pkts_resp"`
	Sampling  uint32 `json:"sampling_rate"`
	Exporter  string `json:"exporter_addr"`
}

// list returns the stored flows that fit a filter.
func (l *lab) list(filter ...string) (all []listed) {
	l.t.Helper()
	text := l.run(append([]string{"flow", "list", "--data", l.dir + "/all", "--limit", "0", "-o", "jsonl"}, filter...)...)
	for line := range strings.Lines(text) {
		var f listed
		l.must(json.Unmarshal([]byte(line), &f))
		all = append(all, f)
	}
	return all
}

// await waits until each of that many sources that do not sample has given each of
// that many established and refused connections, once.
func (l *lab) await(sources, connections int) {
	l.t.Helper()
	for _, filter := range [][]string{{"dport=8080", "state=established"}, {"dport=8081", "state=failed"}} {
		l.until(fmt.Sprintf("%d sources have given %d connections: %v", sources, connections, filter), func() bool {
			times, whole := map[int]int{}, 0
			for _, f := range l.list(append(filter, "dst=10.9.0.2", "proto=tcp")...) {
				if f.Sampling > 1 {
					continue
				}
				if times[f.Port]++; times[f.Port] == sources {
					whole++
				}
				if times[f.Port] > sources {
					l.t.Fatalf("port %d has more than %d flows: %v", f.Port, sources, filter)
				}
			}
			return whole == connections
		})
	}
}

func TestOneNodeAndEverySource(t *testing.T) {
	l := build(t)
	capture := l.feed()
	l.talk(40000)
	time.Sleep(time.Second) // dumpcap's buffer
	l.must(l.processes["pipe"].Stop())
	l.await(5, connections)
	// After restarts nothing may come twice, and templates are still known.
	l.must(errors.Join(l.processes["sensor"].Stop(), l.processes["all"].Stop()))
	l.must(os.RemoveAll(filepath.Join(l.dir, "all", "node.sock")))
	l.startNode("all")
	l.startSensor()
	l.softflowd()
	l.talk(41000)
	time.Sleep(time.Second)
	l.must(errors.Join(l.processes["truth"].Stop(), l.processes["pipe"].Stop()))
	l.await(5, 2*connections)
	l.replay()
	l.await(6, 2*connections)
	l.sums(capture)
	l.hunts(capture)
	l.losses()
}

// sums compares the packets and bytes that each exporter counted with those that
// tshark counts in the capture.
func (l *lab) sums(capture string) {
	l.t.Helper()
	out, err := exec.Command("tshark", "-n", "-r", capture, "-Y", "tcp.port in {8080,8081}", "-T", "fields", "-e", "ip.len", "-e", "frame.len").Output()
	l.must(err)
	var packets, ip, frames uint64
	for line := range strings.Lines(string(out)) {
		var n, f uint64
		_, err := fmt.Sscan(line, &n, &f)
		l.must(err)
		packets, ip, frames = packets+1, ip+n, frames+f
	}
	pkts, bytes := map[string]uint64{}, map[string]uint64{}
	for _, f := range l.list("dst=10.9.0.2", "proto=tcp") {
		pkts[f.Exporter] += f.OrigPkts + f.RespPkts
		bytes[f.Exporter] += f.OrigBytes + f.RespBytes
	}
	// Open vSwitch counts the bytes of frames.
	for exporter, want := range map[string]uint64{softflowd: ip, replayed: ip, openVSwitch: frames} {
		if pkts[exporter] != packets || bytes[exporter] != want {
			l.t.Errorf("%s counted %d packets and %d bytes; %d and %d (%d with headers of frames) were sent", exporter, pkts[exporter], bytes[exporter], packets, ip, frames)
		}
	}
	if n := pkts[sampledFlow]; n == 0 || n >= packets {
		l.t.Errorf("%d packets were sampled of %d", n, packets)
	}
}

// hosts are the hosts that a hunt finds.
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

// hunts compares the answers of both nodes with that of the capture: the one that
// hears all must give the same; the one that hears samples only may give less, and
// says why.
func (l *lab) hunts(capture string) {
	l.t.Helper()
	differ := 0
	for _, pattern := range []string{
		"out dst=10.9.0.2 dport=8081 proto=tcp state=failed", "out dst=10.9.0.2 dport=8080 proto=tcp state=established", "in src=10.9.0.1 dport=8080 proto=tcp",
		"out dst=10.9.0.2 dport=8080 proto=tcp then[1h] out dst=10.9.0.2 dport=8081 proto=tcp", "out dst=10.9.0.2 dport=8082 proto=tcp",
		"out dst=10.9.0.2 dport=8080 proto=tcp state=failed", "in src=10.9.0.2 dport=8080 proto=tcp",
	} {
		want, all, sampled := l.hosts(pattern, capture), l.hosts(pattern, l.dir+"/all"), l.hosts(pattern, l.dir+"/sampled")
		if !slices.Equal(all, want) {
			l.t.Errorf("%s: %v at the node, %v in the capture", pattern, all, want)
		}
		for _, host := range sampled {
			if !slices.Contains(want, host) {
				l.t.Errorf("%s: samples give %s, the capture %v", pattern, host, want)
			}
		}
		report := l.run("hunt", pattern, "--witness", "w="+l.dir+"/sampled", "--force")
		if why := fmt.Sprintf("w holds flows of sampled packets, 1 in %d at the coarsest", sampling); !strings.Contains(report, why) {
			l.t.Errorf("%s: the answer over samples does not say %q:\n%s", pattern, why, report)
		}
		if !slices.Equal(sampled, want) {
			differ++
			l.t.Logf("%s: %v of samples, %v in the capture", pattern, sampled, want)
		}
	}
	if differ == 0 {
		l.t.Error("no answer over samples differs, so that nothing was compared")
	}
	if report := l.run("hunt", "in src=10.9.0.1 dport=8080 proto=tcp", "--witness", "w="+capture, "--force"); strings.Contains(report, "sampled packets") {
		l.t.Errorf("the capture is not sampled:\n%s", report)
	}
}

// losses checks that every source is named, with its flows and what it lost.
func (l *lab) losses() {
	l.t.Helper()
	type source struct {
		Kind, Name string
		Flows      uint64
		Sampling   uint32
		Lost       map[string]uint64
	}
	text := l.run("source", "list", "--data", l.dir+"/all", "-o", "json")
	if asked := l.run("source", "list", "--node", "unix://"+l.dir+"/all/node.sock", "-o", "json"); asked != text {
		l.t.Errorf("the node lists\n%s, its directory has\n%s", asked, text)
	}
	all, err := cli.ReadItems[source](strings.NewReader(text))
	l.must(err)
	rates := map[string]uint32{"log conn.log": 0, "log eve.json": 0, "sensor tap-1": 1, "exporter " + softflowd: 1, "exporter " + openVSwitch: 0, "exporter " + replayed: 0, "exporter " + sampledFlow: sampling}
	for _, s := range all {
		name := s.Kind + " " + filepath.Base(strings.TrimSuffix(s.Name, "/32"))
		for cause, n := range s.Lost {
			if cause == "flows_one_sided" && s.Sampling > 1 {
				continue // no packet of the other side was picked
			}
			l.t.Errorf("%s lost %d %s", name, n, cause)
		}
		rate, expected := rates[name]
		if delete(rates, name); !expected {
			continue
		}
		if s.Flows < 4*connections && name != "exporter "+sampledFlow || s.Flows == 0 || s.Sampling != rate {
			l.t.Errorf("%s gave %d flows, 1 in %d; want 1 in %d", name, s.Flows, s.Sampling, rate)
		}
	}
	if len(rates) > 0 {
		l.t.Errorf("not listed: %v, in\n%s", rates, text)
	}
}
