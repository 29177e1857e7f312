package rules_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/dossier"
	"dragnet/internal/testkit"
	"dragnet/publish/publishtest"
	"dragnet/publish/rules"
	"dragnet/signature"
	"dragnet/signature/match"
	"dragnet/signature/pads"
	"dragnet/simulate/variants"
)

// exported is a signature of a family's variants, with the matcher and the files
// that it was exported to.
type exported struct {
	*testing.T
	matcher        *match.Matcher
	lowered        *dossier.Alternatives
	yara, suricata string // files of rules
	zeek           func(payload []byte) bool
}

func benign(n int, seed uint64) (all [][]byte) {
	rng := rand.New(rand.NewPCG(seed, 1))
	for range n {
		all = append(all, variants.Session(rng, 5000))
	}
	return all
}

func export(t *testing.T, template *variants.Template) *exported {
	t.Helper()
	s, err := signature.Learn(context.Background(), variants.Published().MakeAll(template, 1, 0, 60), signature.NewClean(benign(60, 1), nil), signature.Options{Name: "alder", Options: pads.Options{Restarts: 2, Method: pads.EM}})
	if err != nil {
		t.Fatal(err)
	}
	e := &exported{T: t}
	if e.matcher, err = match.New([]*dossier.Signature{s}, match.Options{Kernel: match.Fastest()}); err != nil {
		t.Fatal(err)
	}
	if e.lowered = s.Strings; e.lowered == nil {
		t.Fatal("the signature has no strings to export")
	}
	dir := t.TempDir()
	write := func(format string) string {
		var text bytes.Buffer
		path := filepath.Join(dir, format)
		if err := rules.Writers()[format](&text, &rules.Set{Alternatives: e.lowered, Background: &s.Background, Service: &dossier.Service{Proto: "tcp", Port: 9999}}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	e.yara, e.suricata = write("yara"), write("suricata")
	text, err := os.ReadFile(write("zeek"))
	if err != nil {
		t.Fatal(err)
	}
	e.zeek = zeekMatches(t, string(text))
	return e
}

// matches says which of some payloads each program finds, by their index.
type matches struct {
	matcher, yara, suricata, zeek map[int]bool
	twice                         int // alerts of Suricata about a connection that has one
}

// find has the matcher, YARA and Suricata look at payloads: files for YARA,
// connections of a capture for Suricata.
func (e *exported) find(payloads [][]byte) matches {
	e.Helper()
	f := matches{matcher: map[int]bool{}, yara: map[int]bool{}, suricata: map[int]bool{}, zeek: map[int]bool{}}
	dir := e.TempDir()
	var connections []publishtest.Connection
	for i, p := range payloads {
		if e.matcher.Match(p)[0].Match {
			f.matcher[i] = true
		}
		if e.zeek(p) {
			f.zeek[i] = true
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint("payload", i)), p, 0o600); err != nil {
			e.Fatal(err)
		}
		connections = append(connections, publishtest.Connection{
			From: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), uint16(10_000+i)), To: netip.MustParseAddrPort("198.51.100.1:9999"), Sent: p})
	}
	for line := range strings.Lines(e.runYARA(dir)) {
		var i int
		if _, err := fmt.Sscanf(line[strings.LastIndex(line, "/"):], "/payload%d", &i); err != nil {
			e.Fatalf("yara says %q", line)
		}
		f.yara[i] = true
	}
	capture := filepath.Join(e.TempDir(), "capture.pcap")
	publishtest.Capture(e, capture, connections)
	for _, a := range publishtest.Suricata(e, e.suricata, "", capture) {
		i := int(max(a.Port, a.ToPort)) - 10_000
		if f.suricata[i] {
			f.twice++
		}
		f.suricata[i] = true
	}
	return f
}

func (e *exported) runYARA(path string) string {
	e.Helper()
	// It warns that strings of few fixed bytes in a row may be slow to look for.
	out, err := exec.Command(testkit.Tool(e, "yara"), "--no-warnings", "--recursive", e.yara, path).Output()
	if err != nil {
		e.Fatalf("yara: %v", err)
	}
	return string(out)
}

func both(a, b map[int]bool) (n int) {
	for i := range a {
		if b[i] {
			n++
		}
	}
	return n
}

// TestProgramsFindVariants learns a signature of a family's variants, exports it,
// and has Debian's YARA and Suricata and our matcher look at new variants and
// benign payloads. It prints how much of what the matcher finds they find: of two
// families, or with MODES=held-out of all.
func TestProgramsFindVariants(t *testing.T) {
	testkit.Long(t)
	families := []string{"alder", "cedar"}
	if os.Getenv("MODES") != "" {
		families = variants.Names()
	}
	for _, family := range families {
		t.Run(family, func(t *testing.T) { programsFind(t, family) })
	}
}

func programsFind(t *testing.T, family string) {
	template, err := variants.Family(family, 1)
	if err != nil {
		t.Fatal(err)
	}
	e := export(t, template)
	const n = 300
	f, alarms := e.find(variants.Published().MakeAll(template, 1, 1<<32, n)), e.find(benign(n, 2))
	ours := len(f.matcher)
	t.Logf("%d strings; the export expects to miss %.1f %%", len(e.lowered.Contents), 100*e.lowered.Loss)
	t.Logf("of %d variants the matcher finds %d, of which YARA finds %d and Suricata %d", n, ours, both(f.matcher, f.yara), both(f.matcher, f.suricata))
	t.Logf("of %d benign payloads the matcher finds %d, YARA %d, Suricata %d", n, len(alarms.matcher), len(alarms.yara), len(alarms.suricata))
	if ours < n*9/10 || len(alarms.matcher)+len(alarms.yara)+len(alarms.suricata) > 0 {
		t.Error("the matcher misses variants, or benign payloads are found")
	}
	for name, theirs := range map[string]map[int]bool{"YARA": f.yara, "Suricata": f.suricata} {
		if float64(both(f.matcher, theirs)) < float64(ours)*(1-max(e.lowered.Loss, signature.MostLoss)-0.02) { // 300 variants tell no more
			t.Errorf("%s finds less than the export promised", name)
		}
	}
	// Suricata places the contents of a rule one after the other, and may give up.
	if f.twice > 0 {
		t.Errorf("%d connections have more than one alert", f.twice)
	}
	if lost := len(f.yara) - both(f.yara, f.suricata); lost > n/100 || len(f.suricata) > both(f.yara, f.suricata) || !maps.Equal(f.yara, f.zeek) {
		t.Errorf("of the same strings YARA finds %d, Suricata %d, Zeek's expressions %d", len(f.yara), len(f.suricata), len(f.zeek))
	}
}
