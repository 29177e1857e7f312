package incident

import (
	"bytes"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"dragnet/flow"
)

// sizeLimit bounds what the recording adds to the repository, in bytes.
const sizeLimit = 400 << 10

func TestUnpackGivesACapturePerOrganisation(t *testing.T) {
	paths, err := Unpack(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	truth, err := ReadTruth(Captures())
	if err != nil {
		t.Fatal(err)
	}
	if len(paths) != 4 || len(truth.Organisations) != 4 {
		t.Fatalf("%d captures of %d organisations, want 4 of 4", len(paths), len(truth.Organisations))
	}
	for _, org := range truth.Organisations {
		capture, err := os.ReadFile(paths[org.Name])
		if err != nil {
			t.Fatal(err)
		}
		if magic := []byte{0xd4, 0xc3, 0xb2, 0xa1}; !bytes.HasPrefix(capture, magic) { // pcap, little endian, microseconds
			t.Errorf("%s does not begin as a pcap file: % x", paths[org.Name], capture[:min(4, len(capture))])
		}
	}
}

func TestRecordingIsSmall(t *testing.T) {
	var total int64
	err := fs.WalkDir(Captures(), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			total += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if total > sizeLimit {
		t.Errorf("the recording takes %d bytes, more than %d", total, sizeLimit)
	}
}

func TestTruthIsWorthAHunt(t *testing.T) {
	truth, err := ReadTruth(Captures())
	if err != nil {
		t.Fatal(err)
	}
	infected := make(map[string]int)
	var private []string
	for _, org := range truth.Organisations {
		infected[org.Name] = len(org.Infected)
		for _, host := range org.Infected {
			if !flow.Within(org.Networks, host) {
				t.Errorf("%s is infected in %s but not of it", host, org.Name)
			}
			if !flow.Global(host) {
				private = append(private, org.Name+" "+host.String())
			}
		}
		for _, outside := range []struct {
			name string
			in   bool
		}{
			{"attacker", flow.Within(org.Networks, truth.Attacker)},
			{"code server", flow.Within(org.Networks, truth.CodeServer)},
		} {
			if outside.in {
				t.Errorf("the %s belongs to %s", outside.name, org.Name)
			}
		}
	}
	want := map[string]int{"aurora": 3, "borealis": 3, "cygnus": 2, "draco": 0}
	if diff := cmp.Diff(want, infected); diff != "" {
		t.Errorf("infected hosts (-want +got):\n%s", diff)
	}
	// One private address, two hosts: only its scope distinguishes them.
	if diff := cmp.Diff([]string{"borealis 10.20.0.21", "cygnus 10.20.0.21"}, private); diff != "" {
		t.Errorf("private infected hosts (-want +got):\n%s", diff)
	}
}

func TestEveryPartHasItsReason(t *testing.T) {
	parts := []Part{Bystander, Infected, ContactedOnly, FetchedOnly, FetchedFirst, Refused, OtherServer, OtherClient, OtherPort}
	var reasons []string
	for _, p := range parts {
		if slices.Contains(reasons, p.Why()) {
			t.Errorf("part %q shares its reason with another: %s", p, p.Why())
		}
		reasons = append(reasons, p.Why())
	}
}

func TestBrokenRecordingsAreNamed(t *testing.T) {
	truth := &fstest.MapFile{Data: []byte(`{"organisations":[{"name":"aurora"}]}`)}
	for name, files := range map[string]fstest.MapFS{
		"truth.json":     {TruthFile: {Data: []byte("{")}},
		"aurora.pcap.gz": {TruthFile: truth, "aurora.pcap.gz": {Data: []byte("no gzip")}},
	} {
		_, err := unpackInto(files, t.TempDir())
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("error %v does not name %s", err, name)
		}
	}
}
