package rules_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/publish/publishtest"
	"dragnet/publish/rules"
	"dragnet/signature"
	"dragnet/signature/match"
	"dragnet/signature/sequence"
	"dragnet/simulate/variants"
)

// modeRun is how unseen variants of a mode, and clean traffic, are looked for.
type modeRun struct {
	seed            uint64
	samples, unseen int
	thirds          [3][][]byte
	clean           string // a capture of all of them
	recorded        []string
	keep            string // folder of signatures, "" for none
}

// learnMode learns the signatures of a mode, or reads those kept.
func (r *modeRun) learnMode(t *testing.T, m *variants.Mode) (all []*dossier.Signature) {
	t.Helper()
	path := func(i int) string {
		return filepath.Join(r.keep, fmt.Sprintf("%s-%d-%d.signature.json", m.Name, r.seed, i))
	}
	for i := range 2 {
		if r.keep == "" {
			break
		}
		file, err := os.ReadFile(path(i))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		s, _, err := dossier.OpenSignature(file)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if all != nil {
		return all
	}
	all, err := signature.LearnFamilies(t.Context(), m.Samples(r.seed, r.samples, variants.FromCorpus(r.thirds[0])), signature.NewClean(r.thirds[0], nil), signature.Options{Name: m.Name})
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range all {
		file, err := dossier.EncodeSignature(s, nil)
		if err == nil && r.keep != "" {
			err = os.WriteFile(path(i), file, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// exportAll writes the rules of all signatures into one file of each program; those
// that 'signature export' refuses are left out, and named.
func exportAll(t *testing.T, all []*dossier.Signature) (files map[string]string, refused []string) {
	t.Helper()
	files = map[string]string{}
	texts := map[string]*bytes.Buffer{"suricata": {}, "yara": {}}
	for _, s := range all {
		if s.Strings == nil || s.Strings.Loss > signature.MostLoss {
			refused = append(refused, s.Name)
			continue
		}
		for format, text := range texts {
			if err := rules.Writers()[format](text, &rules.Set{Alternatives: s.Strings, Background: &s.Background}); err != nil {
				t.Logf("%s of %s: %v", format, s.Name, err)
				refused = append(refused, s.Name+" as "+format)
			}
		}
	}
	dir := t.TempDir()
	for format, text := range texts {
		if text.Len() > 0 {
			files[format] = filepath.Join(dir, format)
			if err := os.WriteFile(files[format], text.Bytes(), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return files, refused
}

// matchAll is which of the payloads the signatures match.
func matchAll(t *testing.T, all []*dossier.Signature, payloads [][]byte) map[int]bool {
	t.Helper()
	m, err := match.New(all, match.Options{Kernel: match.Fastest()})
	if err != nil {
		t.Fatal(err)
	}
	found := map[int]bool{}
	for i, p := range payloads {
		if slices.ContainsFunc(m.Match(p), func(v match.Result) bool { return v.Match }) {
			found[i] = true
		}
	}
	return found
}

// runYARAOn is which of the payloads a file of rules matches.
func runYARAOn(t *testing.T, file string, payloads [][]byte) map[int]bool {
	t.Helper()
	dir := t.TempDir()
	for i, p := range payloads {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("payload", i)), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.CommandContext(t.Context(), testkit.Tool(t, "yara"), "--no-warnings", "--recursive", file, dir).Output()
	if err != nil {
		t.Fatalf("yara: %v", err)
	}
	found := map[int]bool{}
	for line := range strings.Lines(string(out)) {
		var i int
		if _, err := fmt.Sscanf(line[strings.LastIndex(line, "/"):], "/payload%d", &i); err != nil {
			t.Fatalf("yara says %q", line)
		}
		found[i] = true
	}
	return found
}

// captureOf writes each payload as a connection; its number is in the addresses.
func captureOf(t *testing.T, payloads [][]byte) string {
	t.Helper()
	var all []publishtest.Connection
	for i, p := range payloads {
		all = append(all, publishtest.Connection{From: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(10_000+i)), To: netip.MustParseAddrPort("198.51.100.1:9999"), Sent: p})
	}
	path := filepath.Join(t.TempDir(), "capture.pcap")
	publishtest.Capture(t, path, all)
	return path
}

// runSuricataOn is which connections of captureOf a file of rules alerts about.
func runSuricataOn(t *testing.T, file, capture string) map[int]bool {
	t.Helper()
	found := map[int]bool{}
	for _, a := range publishtest.Suricata(t, file, publishtest.LookIntoTLS, capture) {
		found[int(max(a.Port, a.ToPort))-10_000] = true
	}
	return found
}

// TestProgramsFindModes compares the exports of what is learnt of each mode, in Debian's
// Suricata and YARA, with the native matcher, on unseen variants and clean traffic: of
// one mode, or with MODES=held-out, for the report, of all. KEEP names a folder
// for signatures, so that they need be learnt only once.
func TestProgramsFindModes(t *testing.T) {
	testkit.Long(t)
	c := &sequence.Collector{Most: 1 << 20, Total: 256 << 20}
	r := modeRun{seed: 1, unseen: 200, keep: os.Getenv("KEEP")}
	for _, folder := range []string{"benign", "ndpi", "zeek-traces/Traces"} {
		path := testkit.Data(t, folder)
		if _, err := sequence.Each(t.Context(), path, nil, c.Open, nil); err != nil {
			t.Fatal(err)
		}
		if folder != "zeek-traces/Traces" { // some are compressed, which Suricata does not read
			r.recorded = append(r.recorded, path)
		}
	}
	r.thirds = variants.Deal(c.Sequences)
	which := os.Getenv("MODES")
	if which == "held-out" {
		r.seed, r.unseen = 1001, 1000
	}
	clean := slices.Concat(r.thirds[:]...)
	r.clean = captureOf(t, clean)
	for _, m := range variants.Modes() {
		if m.HeldOut && which != "held-out" || which == "" && m.Name != "registers" {
			continue
		}
		t.Run(m.Name, func(t *testing.T) { r.compare(t, &m, clean) })
	}
}

func (r *modeRun) compare(t *testing.T, m *variants.Mode, clean [][]byte) {
	r.samples = 50
	if strings.HasPrefix(m.Name, "decoders") {
		r.samples = 100
	}
	began := time.Now()
	all := r.learnMode(t, m)
	took := time.Since(began)
	files, refused := exportAll(t, all)
	if len(refused) > 0 {
		t.Logf("learnt in %v; not exported: %s", took.Round(time.Second), strings.Join(refused, ", "))
	}
	var payloads [][]byte
	for k := range m.Worms() {
		payloads = append(payloads, m.Unseen(r.seed, k, r.unseen, variants.FromCorpus(r.thirds[1]))...)
	}
	ours := matchAll(t, all, payloads)
	line := fmt.Sprintf("of %d variants the matcher finds %d", len(payloads), len(ours))
	type program struct {
		name         string
		found, alarm map[int]bool
		recorded     int // alarms on recorded captures
	}
	var programs []program
	if f := files["suricata"]; f != "" {
		p := program{"Suricata", runSuricataOn(t, f, captureOf(t, payloads)), runSuricataOn(t, f, r.clean), 0}
		for _, path := range r.recorded {
			p.recorded += len(publishtest.Suricata(t, f, "pcap-file: {checksum-checks: no}\n", path))
		}
		programs = append(programs, p)
	}
	if f := files["yara"]; f != "" {
		programs = append(programs, program{"YARA", runYARAOn(t, f, payloads), runYARAOn(t, f, clean), 0})
	}
	for _, p := range programs {
		of := both(ours, p.found)
		line += fmt.Sprintf("; %s %d, of those %d (%.1f %% lost)", p.name, len(p.found), of, 100*float64(len(ours)-of)/float64(max(1, len(ours))))
		if alarms := len(p.alarm) + p.recorded; alarms > 0 {
			t.Errorf("%s: %d alarms on %d clean sequences, %d on captures: %v", p.name, len(p.alarm), len(clean), p.recorded, slices.Collect(maps.Keys(p.alarm)))
		}
		if len(refused) == 0 && float64(len(p.found)) < float64(len(ours))*(1-signature.MostLoss) {
			t.Errorf("%s finds %d, more than a hundredth less than the matcher's %d", p.name, len(p.found), len(ours))
		}
	}
	if alarms := matchAll(t, all, clean); len(alarms) > 0 {
		t.Errorf("the matcher: %d alarms on %d clean sequences", len(alarms), len(clean))
	}
	t.Logf("%s (%d strings, learnt in %v)", line, countContents(all), took.Round(time.Second))
}

func countContents(all []*dossier.Signature) (n int) {
	for _, s := range all {
		if s.Strings != nil {
			n += len(s.Strings.Contents)
		}
	}
	return n
}
