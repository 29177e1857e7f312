package dossier_test

import (
	"bytes"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/dossier"
)

func exampleReport() *dossier.Report {
	return &dossier.Report{
		Pattern: "in src=203.0.113.5 dport=1433", Disclose: true, Made: 1000, Until: 5000, Asked: 9,
		Hosts: []dossier.ReportedHost{
			{Addr: netip.MustParseAddr("198.51.100.7"), Witnesses: 9, First: 1, Last: 2},
			{Addr: netip.MustParseAddr("2001:db8::7"), Witnesses: 1, First: 3, Last: 3},
		},
	}
}

func TestReport(t *testing.T) {
	r := exampleReport()
	data, err := r.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var back dossier.Report
	if err := back.UnmarshalBinary(data); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(r, &back, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	for name, spoil := range map[string]func(*dossier.Report){
		"a pattern in another form":   func(r *dossier.Report) { r.Pattern = "in dport=1433 src=203.0.113.5" },
		"no pattern":                  func(r *dossier.Report) { r.Pattern = "" },
		"a file in the pattern":       func(r *dossier.Report) { r.Pattern = "in src=@/etc/passwd" },
		"no life":                     func(r *dossier.Report) { r.Until = r.Made },
		"too long a life":             func(r *dossier.Report) { r.Until = r.Made + dossier.MaxReportLife + 1 },
		"a life that overflows":       func(r *dossier.Report) { r.Made, r.Until = -1<<63, 1<<63-1 },
		"no host":                     func(r *dossier.Report) { r.Hosts = nil },
		"a private host":              func(r *dossier.Report) { r.Hosts[0].Addr = netip.MustParseAddr("10.0.0.1") },
		"no address":                  func(r *dossier.Report) { r.Hosts[0].Addr = netip.Addr{} },
		"an address in another form":  func(r *dossier.Report) { r.Hosts[0].Addr = netip.MustParseAddr("::ffff:198.51.100.7") },
		"a zone":                      func(r *dossier.Report) { r.Hosts[1].Addr = r.Hosts[1].Addr.WithZone("eth0") },
		"a host twice":                func(r *dossier.Report) { r.Hosts[1] = r.Hosts[0] },
		"no witness":                  func(r *dossier.Report) { r.Hosts[0].Witnesses = 0 },
		"more witnesses than asked":   func(r *dossier.Report) { r.Hosts[0].Witnesses = 10 },
		"seen last before seen first": func(r *dossier.Report) { r.Hosts[0].Last = 0 },
	} {
		bad := exampleReport()
		spoil(bad)
		if data, err := bad.MarshalBinary(); err == nil {
			t.Errorf("%s was written: %x", name, data)
		}
	}
}

func TestReportIDs(t *testing.T) {
	data, err := exampleReport().MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	a, b := dossier.ReportIDOf([32]byte{1}, data), dossier.ReportIDOf([32]byte{2}, data)
	if a == b || a != dossier.ReportIDOf([32]byte{1}, data) {
		t.Error("the same report of two signers is two reports, of one it is one")
	}
}

func FuzzReport(f *testing.F) {
	data, err := exampleReport().MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var r dossier.Report
		if r.UnmarshalBinary(data) != nil {
			return
		}
		if again, err := r.MarshalBinary(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: read %x, wrote %x", err, data, again)
		}
	})
}

func FuzzWithdrawal(f *testing.F) {
	data, err := (&dossier.Withdrawal{Report: dossier.ReportID{1}, Why: "wrong"}).MarshalBinary()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		var w dossier.Withdrawal
		if w.UnmarshalBinary(data) != nil {
			return
		}
		if again, err := w.MarshalBinary(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("%v: read %x, wrote %x", err, data, again)
		}
	})
}
