package netflow

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

// oracles are the captures that tshark and pmacct are given: each is of one exporter
// or of some, each with its own address.
func oracles(t *testing.T) (files []string) {
	for _, file := range captures(t) {
		name := filepath.Base(file)
		if strings.HasPrefix(name, "softflowd") || strings.Contains(file, "pmacct") {
			files = append(files, file)
		}
	}
	return files
}

// TestAgainstTshark compares every record of each capture with what tshark shows.
func TestAgainstTshark(t *testing.T) {
	testkit.Long(t) // one goroutine
	tshark, compared := testkit.Tool(t, "tshark"), 0
	for _, file := range oracles(t) {
		if name := filepath.Base(file); strings.Contains(name, "SRv6") || strings.Contains(name, "HUAWEI") || strings.HasPrefix(name, "112") {
			continue // records with addresses of several layers; templates that tshark does not find
		}
		want := ofTshark(t, tshark, file)
		got := map[essence]int{}
		for _, r := range decode(New(DefaultConfiguration()), datagramsOf(t, file)) {
			got[essence{r.Orig, r.Resp, r.OrigPort, r.RespPort, r.Proto, r.OrigPkts, r.OrigIPBytes, r.OrigFlags}.comparable()]++
			compared++
		}
		for e, n := range want {
			if got[e] != n {
				t.Errorf("%s: %d times %+v, for tshark %d", filepath.Base(file), got[e], e, n)
			}
			delete(got, e)
		}
		for e, n := range got {
			t.Errorf("%s: %d times %+v, for tshark never", filepath.Base(file), n, e)
		}
	}
	if compared < 4000 {
		t.Errorf("compared only %d records", compared)
	}
}

// ports are the UDP ports that a capture's datagrams went to.
func ports(t *testing.T, tshark, file string) (all []string) {
	t.Helper()
	out, err := exec.Command(tshark, "-n", "-r", file, "-T", "fields", "-e", "udp.dstport").Output()
	if err != nil {
		t.Fatal(err)
	}
	all = strings.Fields(string(out))
	slices.Sort(all)
	return slices.Compact(all)
}

// ofTshark counts the records that tshark shows (PDML).
func ofTshark(t *testing.T, tshark, file string) map[essence]int {
	t.Helper()
	args := []string{"-n", "-r", file, "-T", "pdml"}
	for _, port := range ports(t, tshark, file) {
		args = append(args, "-d", "udp.port=="+port+",cflow")
	}
	out, err := exec.Command(tshark, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	all := map[essence]int{}
	var record *essence
	depth, from := 0, 0
	for d := xml.NewDecoder(bytes.NewReader(out)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		switch e := token.(type) {
		case xml.StartElement:
			depth++
			at := map[string]string{}
			for _, a := range e.Attr {
				at[a.Name.Local] = a.Value
			}
			switch {
			case record != nil:
				record.show(at)
			case at["name"] == "" && strings.HasPrefix(at["show"], "Flow "), strings.HasPrefix(at["show"], "pdu "):
				record, from = new(essence), depth
			}
		case xml.EndElement:
			if record != nil && depth == from {
				if record.orig.IsValid() && record.resp.IsValid() {
					all[record.comparable()]++
				}
				record = nil
			}
			depth--
		}
	}
}

// show takes one field of tshark's.
func (e *essence) show(at map[string]string) {
	n, _ := strconv.ParseUint(at["value"], 16, 64)
	switch at["name"] {
	case "cflow.srcaddr", "cflow.srcaddrv6":
		e.orig = either(e.orig, at["show"])
	case "cflow.dstaddr", "cflow.dstaddrv6":
		e.resp = either(e.resp, at["show"])
	case "cflow.srcport":
		e.srcPort = uint16(n)
	case "cflow.dstport":
		e.dstPort = uint16(n)
	case "cflow.protocol":
		e.proto = flow.Proto(n)
	case "cflow.packets":
		e.packets = n
	case "cflow.octets":
		e.octets = n
	case "cflow.tcpflags":
		e.flags = flow.TCPFlags(n)
	}
}

// either keeps the address that says something: a record may have fields for both
// versions.
func either(a netip.Addr, text string) netip.Addr {
	b, err := netip.ParseAddr(text)
	if err != nil || a.IsValid() && (b.IsUnspecified() || !a.IsUnspecified()) {
		return a
	}
	return b
}

// TestAgainstPmacct compares the sums by conversation and exporter with those of
// nfacctd.
func TestAgainstPmacct(t *testing.T) {
	nfacctd := testkit.Tool(t, "nfacctd")
	for _, file := range oracles(t) {
		if strings.Contains(file, "HUAWEI") {
			continue // nfacctd keeps one of its two records, tshark and goflow2 both
		}
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			want, got := ofPmacct(t, nfacctd, file), map[accounted][2]uint64{}
			if len(want) == 0 {
				t.Fatal("nfacctd accounted nothing")
			}
			for _, r := range decode(New(DefaultConfiguration()), datagramsOf(t, file)) {
				k := accounted{r.Exporter, r.Orig, r.Resp, r.OrigPort, r.RespPort, r.Proto}.comparable()
				got[k] = [2]uint64{got[k][0] + r.OrigPkts, got[k][1] + r.OrigIPBytes}
			}
			for k, n := range want {
				if got[k] != n {
					t.Errorf("%v: %d packets and bytes, for nfacctd %d", k, got[k], n)
				}
				delete(got, k)
			}
			for k, n := range got {
				t.Errorf("%v: %d packets and bytes, for nfacctd none", k, n)
			}
		})
	}
}

// accounted is what pmacct sums by.
type accounted struct {
	exporter, orig, resp netip.Addr
	srcPort, dstPort     uint16
	proto                flow.Proto
}

func (k accounted) comparable() accounted {
	if k.proto == flow.ICMP || k.proto == flow.ICMPv6 {
		k.srcPort, k.dstPort = 0, 0 // ours are types
	}
	return k
}

// ofPmacct has nfacctd account a capture.
func ofPmacct(t *testing.T, nfacctd, file string) map[accounted][2]uint64 {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`daemonize: false
pcap_savefile: %s
aggregate: peer_src_ip, src_host, dst_host, src_port, dst_port, proto
plugins: print
print_refresh_time: 3600
print_output: json
print_output_file: %s/out.json
print_output_file_append: true
plugin_buffer_size: 102400
plugin_pipe_size: 10240000
nfacctd_disable_checks: true
logfile: %s/log
`, file, dir, dir)
	if err := os.WriteFile(dir+"/conf", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, nfacctd, "-f", dir+"/conf").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	read, err := os.ReadFile(dir + "/out.json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	all := map[accounted][2]uint64{}
	for line := range bytes.Lines(read) {
		var r struct {
			Peer    netip.Addr `json:"peer_ip_src"`
			Src     netip.Addr `json:"ip_src"`
			Dst     netip.Addr `json:"ip_dst"`
			SrcPort uint16     `json:"port_src"`
			DstPort uint16     `json:"port_dst"`
			Proto   string     `json:"ip_proto"`
			Packets uint64     `json:"packets"`
			Bytes   uint64     `json:"bytes"`
		}
		if err := json.Unmarshal(bytes.Trim(line, "\x00\n"), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		proto, err := flow.ParseProto(strings.NewReplacer("ipv6-icmp", "icmp6", "vrrp", "112").Replace(r.Proto))
		if err != nil {
			t.Fatal(err)
		}
		k := accounted{r.Peer.Unmap(), r.Src, r.Dst, r.SrcPort, r.DstPort, proto}.comparable()
		all[k] = [2]uint64{all[k][0] + r.Packets, all[k][1] + r.Bytes}
	}
	return all
}
