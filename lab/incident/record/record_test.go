package main

import (
	"bufio"
	"bytes"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/lab/incident"
)

func TestCommittedCapturesHoldTheTruth(t *testing.T) {
	checkRecording(t, incident.Captures())
}

// TestRecordingHoldsTheTruth stages the whole incident again, in real time.
func TestRecordingHoldsTheTruth(t *testing.T) {
	testkit.Long(t) // a minute
	testkit.Root(t)
	for _, p := range programs {
		testkit.Tool(t, p[0])
	}
	dir := t.TempDir()
	if err := recordIncident(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	checkRecording(t, os.DirFS(dir))
}

// stories are what tshark must see of each part, in order of time.
var stories = map[incident.Part]string{
	incident.Infected:      "contact fetch",
	incident.ContactedOnly: "contact",
	incident.FetchedOnly:   "fetch",
	incident.FetchedFirst:  "fetch contact",
	incident.Refused:       "refusal fetch",
	incident.OtherServer:   "contact other-fetch",
	incident.OtherClient:   "other-contact fetch",
	incident.OtherPort:     "read fetch",
}

// checkRecording compares the truth with what tshark reads in each capture.
// Every capture must show its own organisation's part of the incident and
// nothing of the others'.
func checkRecording(t *testing.T, files fs.FS) {
	t.Helper()
	truth, err := incident.ReadTruth(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, org := range truth.Organisations {
		want := make(map[netip.Addr]string)
		for _, host := range org.Infected {
			want[host] = stories[incident.Infected]
		}
		for _, l := range org.LookAlikes {
			want[l.Host] = stories[l.Part]
		}
		packets := readCapture(t, files, org.Name)
		got := describeHosts(truth, packets)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%s: hosts' stories (-truth +capture):\n%s", org.Name, diff)
		}
		checkOrdinary(t, truth, org, packets)
	}
}

// checkOrdinary asserts that a capture holds every kind of ordinary traffic,
// only of the time it was recorded, and only what crossed the edge.
func checkOrdinary(t *testing.T, truth incident.Truth, org incident.Organisation, packets []packet) {
	t.Helper()
	kinds := make(map[string]int)
	for _, p := range packets {
		kinds[p.proto+" "+strconv.Itoa(int(p.to.Port()))]++
		if p.at.Before(truth.Recorded) || p.at.After(truth.Recorded.Add(2*span)) {
			t.Fatalf("%s: packet of %s in the recording of %s", org.Name, p.at, truth.Recorded)
		}
		if p.to.Addr().IsMulticast() {
			continue
		}
		if flow.Within(org.Networks, p.from.Addr()) == flow.Within(org.Networks, p.to.Addr()) {
			t.Errorf("%s: packet from %s to %s did not cross the edge", org.Name, p.from, p.to)
		}
	}
	for _, kind := range []string{"tcp 80", "tcp 22", "udp 53", "icmp 0"} {
		if kinds[kind] < 10 {
			t.Errorf("%s: only %d packets to %s", org.Name, kinds[kind], kind)
		}
	}
}

// packet is one IPv4 packet; ports are 0 where there are none.
type packet struct {
	at       time.Time
	proto    string // tcp, udp, icmp or a number
	from, to netip.AddrPort
	flags    string // tshark's TCP flag letters, such as "A··S·"
}

// describeHosts gives each host's part in the incident as words in order of time. Hosts
// of which there is nothing to say but that the attacker read their pages are
// left out: it does so everywhere.
func describeHosts(truth incident.Truth, packets []packet) map[netip.Addr]string {
	words := make(map[netip.Addr][]string)
	say := func(host netip.Addr, word string) {
		words[host] = slices.Compact(append(words[host], word)) // a request sent again adds nothing
	}
	for _, p := range packets {
		accepted := strings.Contains(p.flags, "A") && strings.Contains(p.flags, "S")
		refused := strings.Contains(p.flags, "A") && strings.Contains(p.flags, "R")
		database := p.proto == "tcp" && p.from.Port() == incident.ContactPort
		request := p.proto == "udp" && p.to.Port() == incident.FetchPort
		switch {
		case database && accepted && p.to.Addr() == truth.Attacker:
			say(p.from.Addr(), "contact")
		case database && refused && p.to.Addr() == truth.Attacker:
			say(p.from.Addr(), "refusal")
		case database && accepted && p.to.Addr() == truth.OrdinaryClient:
			say(p.from.Addr(), "other-contact")
		case database && accepted:
			say(p.from.Addr(), "contact by "+p.to.Addr().String())
		case request && p.to.Addr() == truth.CodeServer:
			say(p.from.Addr(), "fetch")
		case request && p.to.Addr() == truth.OrdinaryServer:
			say(p.from.Addr(), "other-fetch")
		case request:
			say(p.from.Addr(), "fetch from "+p.to.Addr().String())
		case p.proto == "tcp" && p.from.Port() == 80 && accepted && p.to.Addr() == truth.Attacker:
			say(p.from.Addr(), "read")
		}
	}
	story := make(map[netip.Addr]string)
	for host, w := range words {
		if !slices.Equal(w, []string{"read"}) {
			story[host] = strings.Join(w, " ")
		}
	}
	return story
}

// readCapture lists a capture's IPv4 packets as tshark decodes them.
func readCapture(t *testing.T, files fs.FS, organisation string) []packet {
	t.Helper()
	tshark := testkit.Tool(t, "tshark")
	packed, err := fs.ReadFile(files, incident.CaptureFile(organisation))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), incident.CaptureFile(organisation))
	if err := os.WriteFile(path, packed, 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), tshark, "-n", "-r", path, "-Y", "ip", "-T", "fields",
		"-E", "separator=,", "-E", "occurrence=f", // the outer header of an ICMP error
		"-e", "frame.time_epoch", "-e", "ip.proto", "-e", "ip.src", "-e", "ip.dst",
		"-e", "tcp.srcport", "-e", "tcp.dstport", "-e", "udp.srcport", "-e", "udp.dstport", "-e", "tcp.flags.str")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, &complaints)
	}
	var packets []packet
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		packets = append(packets, parse(t, strings.Split(lines.Text(), ",")))
	}
	return packets
}

func parse(t *testing.T, field []string) packet {
	t.Helper()
	seconds, err := strconv.ParseFloat(field[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	proto := field[1]
	if name, ok := map[string]string{"1": "icmp", "6": "tcp", "17": "udp"}[proto]; ok {
		proto = name
	}
	end := func(addr, tcp, udp string) netip.AddrPort {
		port, _ := strconv.ParseUint(tcp+udp, 10, 16) // at most one is there
		return netip.AddrPortFrom(netip.MustParseAddr(addr), uint16(port))
	}
	return packet{
		at: time.UnixMicro(int64(seconds * 1e6)), proto: proto,
		from: end(field[2], field[4], field[6]), to: end(field[3], field[5], field[7]), flags: field[8],
	}
}

func TestPlan(t *testing.T) {
	c := newParticipants()
	acts := planActs(c)
	if diff := cmp.Diff(acts, planActs(c), cmp.AllowUnexported(act{})); diff != "" {
		t.Errorf("two plans differ:\n%s", diff)
	}
	names := make(map[string]host)
	for _, h := range c.beyondHosts() {
		names[h.name] = h
	}
	for _, o := range c.organisations {
		for _, h := range append([]host{o.nameServer, o.web}, o.hosts...) {
			if _, twice := names[h.name]; twice {
				t.Errorf("two hosts are called %s", h.name)
			}
			names[h.name] = h
		}
	}
	contacts := make(map[string]time.Duration)
	for _, a := range acts {
		if _, known := names[a.who]; !known {
			t.Errorf("%+v has no origin", a)
		}
		if a.at < 0 || a.at > span-quiet {
			t.Errorf("%+v is outside the recording", a)
		}
		if a.does == contact || a.does == refused {
			contacts[a.to] = a.at
		}
		if reached, ok := contacts[names[a.who].outside.String()]; ok && a.does == fetch && a.at-reached <= contactTime {
			t.Errorf("%+v may come before the end of the contact at %s", a, reached)
		}
	}
}

func TestPackagesAreListed(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "PACKAGES"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for line := range strings.Lines(string(text)) {
		name, reason, _ := strings.Cut(line, "#")
		if name = strings.TrimSpace(name); name != "" {
			listed = append(listed, name)
			if strings.TrimSpace(reason) == "" {
				t.Errorf("package %s has no reason", name)
			}
		}
	}
	for _, p := range programs {
		if !slices.Contains(listed, p[1]) {
			t.Errorf("%s needs package %s, which lab/PACKAGES does not list", p[0], p[1])
		}
	}
}
