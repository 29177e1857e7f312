package publishtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"dragnet/internal/testkit"
)

// Connection is one over TCP, in which the originator sends Sent.
type Connection struct {
	From, To netip.AddrPort
	Sent     []byte
}

// segment is how many bytes of a connection are in a packet, so that what is
// looked for lies across packets, too.
const segment = 536

// Capture writes the connections, whole and one after the other, as a pcap file.
func Capture(t testing.TB, path string, all []Connection) {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeEthernet); err != nil {
		t.Fatal(err)
	}
	now := Start
	for _, c := range all {
		seq, ack := uint32(1000), uint32(5000)
		send := func(forward bool, flags layers.TCP, data []byte) {
			from, to := c.From, c.To
			flags.Seq, flags.Ack = seq, ack
			if !forward {
				from, to = to, from
				flags.Seq, flags.Ack = ack, seq
			}
			now = now.Add(time.Millisecond)
			packet := frame(t, from, to, &flags, data)
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: now, CaptureLength: len(packet), Length: len(packet)}, packet); err != nil {
				t.Fatal(err)
			}
		}
		send(true, layers.TCP{SYN: true}, nil)
		seq++
		send(false, layers.TCP{SYN: true, ACK: true}, nil)
		ack++
		send(true, layers.TCP{ACK: true}, nil)
		for rest := c.Sent; len(rest) > 0; {
			n := min(len(rest), segment)
			send(true, layers.TCP{ACK: true, PSH: true}, rest[:n])
			seq, rest = seq+uint32(n), rest[n:]
			send(false, layers.TCP{ACK: true}, nil)
		}
		send(true, layers.TCP{ACK: true, FIN: true}, nil)
		seq++
		send(false, layers.TCP{ACK: true, FIN: true}, nil)
		ack++
		send(true, layers.TCP{ACK: true}, nil)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func frame(t testing.TB, from, to netip.AddrPort, tcp *layers.TCP, data []byte) []byte {
	t.Helper()
	tcp.SrcPort, tcp.DstPort, tcp.Window = layers.TCPPort(from.Port()), layers.TCPPort(to.Port()), 65535
	ethernet := &layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: layers.EthernetTypeIPv4}
	var ip gopacket.SerializableLayer
	if from.Addr().Is4() {
		v4 := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
		ip = v4
		_ = tcp.SetNetworkLayerForChecksum(v4)
	} else {
		v6 := &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
		ethernet.EthernetType, ip = layers.EthernetTypeIPv6, v6
		_ = tcp.SetNetworkLayerForChecksum(v6)
	}
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ethernet, ip, tcp, gopacket.Payload(data)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// Alert is one of Suricata.
type Alert struct {
	From   netip.Addr `json:"src_ip"`
	To     netip.Addr `json:"dest_ip"`
	Port   uint16     `json:"src_port"`
	ToPort uint16     `json:"dest_port"`
	Alert  struct {
		Rule int `json:"signature_id"`
	} `json:"alert"`
}

// LookIntoTLS has Suricata look into connections that begin like TLS: the carriers of
// simulated worms are of real traffic.
const LookIntoTLS = "app-layer: {protocols: {tls: {enabled: yes, encryption-handling: full}}}\n"

// Suricata has Debian's Suricata load rules, with more lines of configuration,
// and read a capture. It fails the test for anything Suricata complains about.
func Suricata(t testing.TB, rules, configuration, capture string) (alerts []Alert) {
	t.Helper()
	suricata := testkit.Tool(t, "suricata")
	logs := t.TempDir()
	conf := filepath.Join(logs, "suricata.yaml")
	text := fmt.Sprintf(`%%YAML 1.1
---
default-log-dir: %s
stats: {enabled: no}
logging: {default-log-level: notice, outputs: [{console: {enabled: yes}}]}
outputs: [{eve-log: {enabled: yes, filetype: regular, filename: eve.json, types: [alert]}}]
classification-file: /etc/suricata/classification.config
reference-config-file: /etc/suricata/reference.config
%s`, logs, configuration)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), suricata, "-c", conf, "-S", rules, "-r", capture, "-l", logs, "--runmode", "single", "--init-errors-fatal")
	cmd.Dir = filepath.Dir(rules)
	said, err := cmd.CombinedOutput()
	for line := range strings.Lines(string(said)) {
		if strings.HasPrefix(line, "E: ") || strings.HasPrefix(line, "W: ") {
			t.Errorf("suricata says %s", line)
		}
	}
	if err != nil {
		t.Fatalf("suricata: %v: %s", err, said)
	}
	eve, err := os.ReadFile(filepath.Join(logs, "eve.json"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(eve)) {
		var a Alert
		if err := json.Unmarshal([]byte(line), &a); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		alerts = append(alerts, a)
	}
	return alerts
}
