package sources_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"dragnet/internal/netlab"
)

// Exporters of the node "all", each with its own address, since that is how
// a node distinguishes them.
const (
	softflowd   = "127.0.0.1"
	openVSwitch = "10.10.0.1" // NetFlow of every packet
	sampledFlow = "10.10.0.2" // sFlow of one packet in sampling
	replayed    = "10.10.0.3" // what nfcapd kept, sent again by nfreplay
)

// sampling is N of the switch's 1-in-N.
const sampling = 4

// export has the switch send NetFlow, and samples to both nodes.
func (l *lab) export(s *netlab.VirtualSwitch) {
	l.t.Helper()
	for _, args := range [][]string{
		{"set", "Open_vSwitch", ".", "other_config:max-idle=500"},
		{"--", "--id=@n", "create", "NetFlow", `targets="` + openVSwitch + `:2055"`, "active_timeout=1", "--", "set", "Bridge", "br0", "netflow=@n"},
		{"--", "--id=@s", "create", "sFlow", "agent=lo", fmt.Sprintf(`targets=["%s:6343","%s:6344"]`, sampledFlow, softflowd), "header=128",
			fmt.Sprint("sampling=", sampling), "polling=600", "--", "set", "Bridge", "br0", "sflow=@s"},
	} {
		_, err := s.Set(args...)
		l.must(err)
	}
}

// nodes writes the configuration of the node that hears all, and of one that hears
// samples only.
func (l *lab) nodes() {
	l.t.Helper()
	for name, text := range map[string]string{
		"all": `
follow: {logs: [%[1]s/logs], every: 200ms}
api: {listen: "127.0.0.1:9121"}
collect: {exporters: [127.0.0.1/32, 10.10.0.1/32, 10.10.0.2/32, 10.10.0.3/32], join: {wait: 3s, linger: 500ms}}
`,
		"sampled": `
follow: {every: 200ms}
api: {listen: ""}
collect: {exporters: [127.0.0.1/32], listen: ["127.0.0.1:6344"], join: {wait: 3s, linger: 500ms}}
`,
	} {
		text = "store: {directory: %[1]s/" + name + "}\nadmin: {listen: \"\"}\n" + text
		l.must(os.WriteFile(filepath.Join(l.dir, name+".yaml"), fmt.Appendf(nil, text, l.dir), 0o600))
	}
}

// startNode starts a node and waits until it answers.
func (l *lab) startNode(name string) {
	l.t.Helper()
	socket := filepath.Join(l.dir, name, "node.sock")
	l.processes[name] = l.start(l.dragnet, "run", "node", "--config", filepath.Join(l.dir, name+".yaml"))
	l.until("the node "+name+" answers", func() bool { _, err := os.Stat(socket); return err == nil })
}

// startSensor starts the sensor, which is enrolled.
func (l *lab) startSensor() {
	l.t.Helper()
	p := l.start(l.agent, "run", "sensor", "--config", l.dir+"/sensor.yaml")
	l.processes["sensor"] = p
	l.until("the sensor watches", func() bool { return strings.Contains(string(p.Output()), "sensor started") })
}

// feed starts the nodes and all that feeds them; it returns the capture of what
// there was to see.
func (l *lab) feed() (capture string) {
	l.t.Helper()
	l.must(os.Mkdir(filepath.Join(l.dir, "logs"), 0o700))
	l.nodes()
	l.startNode("all")
	l.startNode("sampled")
	token := l.run("agent", "token", "--data", l.dir+"/all", "--name", "tap-1", "--role", "sensor")
	if out, err := l.cloud.Run(l.t.Context(), l.agent, "enrol", "sensor", "https://127.0.0.1:9121", strings.TrimSpace(token), "--state", l.dir+"/enrolled"); err != nil {
		l.t.Fatalf("%v\n%s", err, out)
	}
	l.must(os.WriteFile(filepath.Join(l.dir, "sensor.yaml"), fmt.Appendf(nil, "live: {interface: toserver}\nevery: 200ms\nchannel: {state: %s/enrolled}\n", l.dir), 0o600))
	l.startSensor()
	l.suricata()
	l.argus()
	l.softflowd()
	capture = filepath.Join(l.dir, "truth.pcap")
	dumpcap := l.start("dumpcap", "-q", "-P", "-i", "toserver", "-w", capture)
	l.processes["truth"] = dumpcap
	l.until("dumpcap records", func() bool { return strings.Contains(string(dumpcap.Output()), "File:") })
	return capture
}

// suricata has Suricata write eve.json beside the other logs.
func (l *lab) suricata() {
	l.t.Helper()
	l.must(os.WriteFile(filepath.Join(l.dir, "suricata.yaml"), []byte(`%YAML 1.1
---
outputs:
  - eve-log: {enabled: yes, filetype: regular, filename: eve.json, types: [flow]}
stats: {enabled: no}
logging: {default-log-level: notice, outputs: [{console: {enabled: yes}}]}
af-packet: [{interface: toserver, threads: 1, cluster-id: 99, cluster-type: cluster_flow, checksum-checks: no}]
flow: {memcap: 16mb, hash-size: 256, prealloc: 100, emergency-recovery: 30, managers: 1, recyclers: 1}
stream: {memcap: 16mb, checksum-validation: no, reassembly: {memcap: 16mb}}
flow-timeouts:
  tcp: {new: 3, established: 60, closed: 1, bypassed: 10, emergency-new: 1, emergency-established: 10, emergency-closed: 0, emergency-bypassed: 1}
`), 0o600))
	p := l.start("suricata", "-c", l.dir+"/suricata.yaml", "--af-packet=toserver", "--runmode", "single", "-l", l.dir+"/logs", "-S", "/dev/null")
	l.until("Suricata watches", func() bool { return strings.Contains(string(p.Output()), "Engine started") })
}

// asZeek writes Zeek's conn.log from what ra prints of argus's flows. The states are
// those that Zeek's manual defines ("conn_state"), of the flags of each side.
const asZeek = `
BEGIN { FS = ","; OFS = "\t"
	print "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn"
	print "#fields\tts\tuid\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tduration\tconn_state\torig_pkts\torig_ip_bytes\tresp_pkts\tresp_ip_bytes"
	fflush() }
{ split($11, flags, "_"); state = "OTH"
	if (flags[1] ~ /S/) {
		if (flags[2] == "") state = "S0"
		else if (flags[2] !~ /S/ && flags[2] ~ /R/) state = "REJ"
		else if (flags[2] ~ /S/) state = flags[1] ~ /F/ && flags[2] ~ /F/ ? "SF" : "S1"
	}
	print $1, "C" NR, $3, $4, $5, $6, "tcp", $2, state, $7, $9 - 14 * $7, $8, $10 - 14 * $8
	fflush() }
`

// argus has argus make flows of the interface; Zeek is not in Debian, and argus is as
// independent of us.
func (l *lab) argus() {
	l.t.Helper()
	script := filepath.Join(l.dir, "zeek.awk")
	l.must(os.WriteFile(script, []byte(asZeek), 0o600))
	l.start("sh", "-c", fmt.Sprintf("argus -i toserver -S 1 -w - | ra -r - -n -u -L -1 -c , -Z b -s stime dur saddr sport daddr dport spkts dpkts sbytes dbytes state - tcp | mawk -W interactive -f %s > %s/logs/conn.log", script, l.dir))
	l.until("argus watches", func() bool { _, err := os.Stat(l.dir + "/logs/conn.log"); return err == nil })
}

// softflowd exports what dumpcap gives it to the node, and to nfcapd. On an interface,
// softflowd gets packets only when libpcap's buffer is full; through a pipe it gets
// each as it comes, and exports when the pipe ends.
func (l *lab) softflowd() {
	l.t.Helper()
	if l.processes["nfcapd"] == nil {
		l.must(os.Mkdir(l.dir+"/nfcapd", 0o700))
		l.processes["nfcapd"] = l.start("nfcapd", "-w", l.dir+"/nfcapd", "-p", "9995", "-b", "127.0.0.1", "-t", "3600")
		l.must(syscall.Mkfifo(l.dir+"/pipe", 0o600))
	}
	l.start("softflowd", "-d", "-r", l.dir+"/pipe", "-v", "9", "-n", "127.0.0.1:2055,127.0.0.1:9995", "-p", l.dir+"/softflowd.pid", "-c", "none")
	p := l.start("dumpcap", "-q", "-P", "-i", "toserver", "-w", l.dir+"/pipe")
	l.processes["pipe"] = p
	l.until("dumpcap gives softflowd packets", func() bool { return strings.Contains(string(p.Output()), "File:") })
}

// replay ends nfcapd, and has nfreplay send the node what it kept.
func (l *lab) replay() {
	l.t.Helper()
	l.must(l.processes["nfcapd"].Stop())
	files, err := filepath.Glob(l.dir + "/nfcapd/nfcapd.2*")
	if err != nil || len(files) == 0 {
		l.t.Fatalf("nfcapd kept %q: %v\n%s", files, err, l.processes["nfcapd"].Output())
	}
	for _, file := range files { // it begins another with each hour
		out, err := l.cloud.Run(l.t.Context(), "nfreplay", "-r", file, "-H", replayed, "-p", "2055", "-v", "9")
		l.t.Logf("nfreplay: %s", out)
		l.must(err)
	}
}
