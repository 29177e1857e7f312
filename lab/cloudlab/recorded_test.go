package cloudlab

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"dragnet/detect/coresidence"
	"dragnet/flow"
	"dragnet/simulate/cloud"
	"dragnet/source/biflow"
	"dragnet/source/netflow"
	"dragnet/source/sflow"
	"dragnet/source/sourcetest"
)

// record makes the recordings again: go test ./lab/cloudlab -run Record -record
var record = flag.Bool("record", false, "record exports of an attack into testdata")

var only = flag.String("only", "", "record exports by this protocol only")

// recorded is the cloud that was recorded: with sFlow one packet of 32 was sampled, so
// that more rounds are needed.
func recorded(export Export) Configuration {
	c := Short()
	if c.Export = export; export == SFlow {
		c.Sampling, c.Rounds = 32, 10
	}
	return c
}

// recording is the truth of a recorded attack.
type recording struct {
	Start    flow.Time
	End      flow.Time
	Interval time.Duration
	VMs      []coresidence.VM
	Master   netip.Addr
	Flooders []netip.Addr
}

func TestRecordExports(t *testing.T) {
	if !*record {
		t.Skip("records only with -record")
	}
	for _, export := range []Export{NetFlow, IPFIX, SFlow} {
		if *only != "" && string(export) != *only {
			continue
		}
		c := recorded(export)
		w, err := New(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		path, err := filepath.Abs(filepath.Join("testdata", string(export)+".pcap"))
		if err != nil {
			t.Fatal(err)
		}
		tcpdump, err := w.host.Start("tcpdump", "-U", "-i", "lo", "-w", path, "udp port 2055")
		if err != nil {
			t.Fatal(err)
		}
		if err := tcpdump.Await(t.Context(), "listening on"); err != nil {
			t.Fatal(err)
		}
		for k := range c.Bridges { // so that templates are recorded, too
			if _, err := w.Switch.Set("clear", "Bridge", bridgeName(k), string(export)); err != nil {
				t.Fatal(err)
			}
			if err := w.export(k); err != nil {
				t.Fatal(err)
			}
		}
		run, err := w.Attack()
		if err != nil {
			t.Fatal(err)
		}
		truth, err := json.MarshalIndent(recording{run.Start, run.Ends[len(run.Ends)-1], c.Interval, run.VMs, run.Master, run.Flooders}, "", "\t")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join("testdata", string(export)+".json"), truth, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gzip", "-9nf", path).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
}

// replay makes flows of recorded exports, as a collector would, with the parts of a
// conversation as long as an interval.
func replay(t *testing.T, export Export) (*cloud.Run, recording, biflow.Quality) {
	t.Helper()
	var truth recording
	text, err := os.ReadFile(filepath.Join("testdata", string(export)+".json"))
	if err == nil {
		err = json.Unmarshal(text, &truth)
	}
	if err != nil {
		t.Fatal(err)
	}
	run := &cloud.Run{Start: truth.Start, Ends: []flow.Time{truth.End}}
	c := biflow.DefaultConfiguration()
	c.Longest, c.Wait, c.Linger = truth.Interval, 2*time.Second, 100*time.Millisecond
	join := biflow.New(c, func(f *flow.Flow) { run.Flows = append(run.Flows, *f) })
	decoder, sampled := netflow.New(netflow.DefaultConfiguration()), sflow.New(sflow.DefaultConfiguration())
	for _, d := range sourcetest.Datagrams(t, filepath.Join("testdata", string(export)+".pcap.gz"), func(b []byte) bool { return netflow.Is(b) || sflow.Is(b) }) {
		if sflow.Is(d.Data) {
			if err := sampled.Decode(d.At, d.From, d.Data, func(r *biflow.Record) { join.Add(d.At, r) }); err != nil {
				t.Errorf("%s: %v", export, err)
			}
			continue
		}
		if err := decoder.Decode(d.At, d.From, d.Data, func(r *biflow.Record) { join.Add(d.At, r) }); err != nil {
			t.Errorf("%s: %v", export, err)
		}
	}
	join.Flush()
	for from, n := range decoder.Counters() {
		if n.Lost > 0 || n.Restarts > 0 || n.UnknownTemplate > 0 {
			t.Errorf("%s, %s: %+v", export, from, n)
		}
	}
	return run, truth, join.Qualities()[netip.MustParseAddr("127.0.0.1")]
}

// Open vSwitch exports a flow at each bridge it crosses, IPFIX also as it enters
// and as it leaves: counted once, they tell who transmitted when.
func TestRecordedExportsNameTheAttacker(t *testing.T) {
	for _, export := range []Export{NetFlow, IPFIX, SFlow} {
		run, truth, quality := replay(t, export)
		if quality.Duplicates == 0 {
			t.Errorf("%s: no flow was exported twice, which this recording is to have", export)
		}
		sent := map[netip.Addr]uint64{}
		for _, f := range coresidence.Unique(run.Flows) {
			if f.Duration > 2*time.Second {
				t.Errorf("%s: a part of a flow lasts %s", export, f.Duration)
			}
			if f.Proto == flow.UDP && f.RespPort == sinkPort {
				sent[f.Orig] += f.OrigIPBytes * uint64(max(1, f.Sampling))
			}
		}
		c := recorded(export)
		flood := float64(c.Rounds) * float64(c.Uplink) * 1e6 / 8 * 0.8 * (c.Interval * 6 / 5).Seconds()
		for k, flooder := range truth.Flooders {
			if ratio := float64(sent[flooder]) / flood; ratio < 0.8 || ratio > 1.2 {
				t.Errorf("%s: of what flooder %d sent %.0f %% was counted", export, k, 100*ratio)
			}
		}
		found := detect(t, run, truth.VMs, truth.Interval)
		named := map[netip.Addr]bool{}
		for _, a := range found.Alarms {
			for _, vm := range a.Machines() {
				if vm.Tenant != attackerTenant && a.ExplainedBy == nil {
					t.Errorf("%s: %s of %s is accused", export, vm.Name, vm.Tenant)
				}
				named[vm.Address] = true
			}
		}
		if !named[truth.Master] || !named[truth.Flooders[0]] || !named[truth.Flooders[1]] {
			t.Errorf("%s: named are %s", export, fmt.Sprint(named))
		}
	}
}
