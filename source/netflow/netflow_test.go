package netflow

import (
	"net/netip"
	"slices"
	"testing"

	"dragnet/flow"
	"dragnet/internal/testkit"
	"dragnet/source/biflow"
)

// TestThreeVersionsOfOneScan: softflowd exported one capture as version 5, 9
// and 10, so the three decode to the same records.
func TestThreeVersionsOfOneScan(t *testing.T) {
	type essence struct {
		orig, resp         netip.Addr
		origPort, respPort uint16
		proto              flow.Proto
		packets, octets    uint64
		flags              flow.TCPFlags
	}
	var lists [3][]essence
	for i, v := range []string{"v5", "v9", "v10"} {
		d := New(DefaultConfiguration())
		for _, r := range decode(d, datagramsOf(t, testkit.Data(t, "exports", "softflowd_xscan_"+v+".pcap"))) {
			one := []biflow.Record{r}
			if r.Biflow {
				back := r
				swapEnds(&back.Flow)
				one = append(one, back)
			}
			for _, r := range one {
				if r.OrigPkts > 0 {
					lists[i] = append(lists[i], essence{r.Orig, r.Resp, r.OrigPort, r.RespPort, r.Proto, r.OrigPkts, r.OrigIPBytes, r.OrigFlags})
				}
			}
		}
		slices.SortFunc(lists[i], func(a, b essence) int {
			if c := a.orig.Compare(b.orig); c != 0 {
				return c
			}
			if c := a.resp.Compare(b.resp); c != 0 {
				return c
			}
			if a.origPort != b.origPort {
				return int(a.origPort) - int(b.origPort)
			}
			if a.respPort != b.respPort {
				return int(a.respPort) - int(b.respPort)
			}
			return int(a.octets) - int(b.octets)
		})
		for from, c := range d.Counters() {
			if c.Malformed+c.UnknownTemplate+c.Lost+c.Restarts > 0 {
				t.Errorf("%s from %s: %+v", v, from, c)
			}
		}
	}
	if len(lists[0]) < 1000 {
		t.Errorf("only %d records", len(lists[0]))
	}
	for i := range lists {
		if !slices.Equal(lists[i], lists[0]) {
			t.Errorf("%d records differ from %d of version 5", len(lists[i]), len(lists[0]))
		}
	}
}

// TestDatagramsOfManyVendors decodes real datagrams of 42 exporters behind one
// address, so that templates collide, and with each as a separate exporter.
func TestDatagramsOfManyVendors(t *testing.T) {
	names, all := vendors(t)
	d := New(DefaultConfiguration())
	records := 0
	for i, b := range all {
		err := d.Decode(0, home, b, func(r *biflow.Record) {
			records++
			if !r.Orig.IsValid() || !r.Resp.IsValid() || r.Duration < 0 {
				t.Errorf("%s: %+v", names[i], r)
			}
		})
		// These two announce more records than they have.
		if lie := names[i] == "netflow5_test_invalid01.dat" || names[i] == "netflow5_test_invalid02.dat"; lie != (err == ErrTruncated) || !lie && err != nil {
			t.Errorf("%s: %v", names[i], err)
		}
	}
	if records < 450 {
		t.Errorf("%d records", records)
	}
}

// TestOpenVSwitch: nothing of its exports is lost, though its sequence numbers
// are those of the last record.
func TestOpenVSwitch(t *testing.T) {
	d := New(DefaultConfiguration())
	records := decode(d, datagramsOf(t, testkit.Data(t, "exports", "ovs-netflow-sflow-ipfix.pcap.gz")))
	for from, c := range d.Counters() {
		if c.Lost+c.Restarts+c.Malformed+c.UnknownTemplate > 0 || c.Records != uint64(len(records)) || len(records) < 3000 {
			t.Errorf("%s: %+v", from, c)
		}
	}
}
