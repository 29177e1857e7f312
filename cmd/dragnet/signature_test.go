package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"dragnet/internal/cli"
	"dragnet/internal/testkit"
	"dragnet/signature/sequence"
)

// signatureCommand runs one command line of the program.
func signatureCommand(t *testing.T, stdin string, args ...string) (stdout string, err error) {
	t.Helper()
	root := newRoot()
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetIn(strings.NewReader(stdin))
	root.SetArgs(append([]string{"signature"}, args...))
	err = root.ExecuteContext(t.Context())
	t.Logf("signature %s: %v\n%s", strings.Join(args, " "), err, errs.String())
	return out.String(), err
}

func must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := signatureCommand(t, "", args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestNewcomer follows the README: variants, a signature, a confusion table.
func TestNewcomer(t *testing.T) {
	testkit.Long(t)
	t.Chdir(t.TempDir())
	must(t, "generate", "worm", "--family", "cedar", "--count", "50", "--carrier", "5000")
	must(t, "generate", "mixed", "--family", "cedar", "--first", "1000", "--count", "60", "--benign", "60")
	must(t, "generate", "clean", "--count", "0", "--benign", "40", "--seed", "9")
	must(t, "learn", "worm", "--name", "cedar", "--clean", "clean", "--restarts", "2")
	table := must(t, "match", "-s", "cedar.signature.json", "--labels", "mixed.labels.jsonl", "-o", "jsonl", "mixed")
	got := map[string][2]int{}
	for line := range strings.Lines(table) {
		var r struct {
			Truth           string
			Matched, Passed int
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got[r.Truth] = [2]int{r.Matched, r.Passed}
	}
	if got["cedar"][0] < 59 || got["benign"][0] != 0 || got["benign"][1] != 60 {
		t.Errorf("confusion %v: want at least 59 of 60 variants, and no benign payload", got)
	}
	if out, err := signatureCommand(t, "nothing here", "match", "-s", "cedar.signature.json", "-"); err != nil || !strings.Contains(out, "SEQUENCE") {
		t.Errorf("nothing on standard input: %q, %v", out, err)
	}
	if _, err := signatureCommand(t, "", "match", "-s", "cedar.signature.json", "worm"); err == nil {
		t.Error("matches must end with a finding, for the exit code")
	}
	if out := must(t, "test", "-s", "cedar.signature.json", "clean"); !strings.Contains(out, " 40 ") {
		t.Errorf("test says nothing of 40 sequences: %s", out)
	}
	must(t, "show", "cedar.signature.json", "--svg", "c.svg")
	if svg, err := os.ReadFile("c.svg"); err != nil || !bytes.Contains(svg, []byte("information content")) {
		t.Errorf("heat map: %v", err)
	}
	for format, want := range map[string]string{"suricata": "content:", "snort": "content:", "yara": "any of them", "zeek": "payload /"} {
		if out := must(t, "export", "--format", format, "cedar.signature.json"); !strings.Contains(out, want) {
			t.Errorf("export %s: %s", format, out)
		}
	}
}

func TestClusterCommand(t *testing.T) {
	testkit.Long(t)
	t.Chdir(t.TempDir())
	must(t, "generate", "a", "--family", "alder", "--count", "12", "--carrier", "3000")
	must(t, "generate", "b", "--family", "dogwood", "--count", "10", "--carrier", "3000")
	must(t, "generate", "clean", "--count", "0", "--benign", "40", "--seed", "9")
	type family struct {
		Family  string
		Samples []string
	}
	families, err := cli.ReadItems[family](strings.NewReader(must(t, "cluster", "--clean", "clean", "-o", "json", "a", "b")))
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != 2 || len(families[0].Samples) != 12 || len(families[1].Samples) != 10 {
		t.Fatalf("families %v", families)
	}
	for _, f := range families {
		for _, s := range f.Samples {
			if filepath.Dir(s) != filepath.Dir(f.Samples[0]) {
				t.Errorf("family %s holds %s and %s", f.Family, f.Samples[0], s)
			}
		}
	}
}

func TestSealedSignatures(t *testing.T) {
	t.Chdir(t.TempDir())
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, _ := x509.MarshalPKCS8PrivateKey(private)
	publicDER, _ := x509.MarshalPKIXPublicKey(public)
	os.WriteFile("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}), 0o600)
	os.WriteFile("pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), 0o600)
	os.Mkdir("one", 0o700)
	os.WriteFile("one/copy", []byte("a captured copy"), 0o600)
	must(t, "learn", "one", "--name", "plain")
	must(t, "learn", "one", "--name", "sealed", "--sign", "key.pem")
	must(t, "show", "sealed.signature.json", "--trust", "pub.pem")
	if _, err := signatureCommand(t, "", "show", "plain.signature.json", "--trust", "pub.pem"); err == nil {
		t.Error("an unsealed file passed where a key is required")
	}
	if _, err := signatureCommand(t, "", "show", "sealed.signature.json", "--trust", "key.pem"); err == nil {
		t.Error("a private key was taken as a public one")
	}
}

// TestSamplesAreOfClients: of the connections of a capture, only what clients sent is
// learnt from, unless all is asked for.
func TestSamplesAreOfClients(t *testing.T) {
	file := filepath.Join(testkit.Data(t, "benign"), "http.pcap")
	cmd := newSignatureLearn()
	cmd.SetContext(t.Context())
	some, err := collectSamples(cmd, []string{file}, true)
	if err != nil {
		t.Fatal(err)
	}
	all, err := collectSamples(cmd, []string{file}, false)
	if err != nil {
		t.Fatal(err)
	}
	clients := 0
	for _, name := range all.Names {
		if strings.HasSuffix(name, sequence.ToServer) {
			clients++
		}
	}
	for _, name := range some.Names {
		if strings.HasSuffix(name, sequence.ToClient) {
			t.Errorf("%s is a sample", name)
		}
	}
	if clients == 0 || len(some.Names) != clients || len(all.Names) <= clients {
		t.Errorf("%d samples, of %d that clients sent, of %d in all", len(some.Names), clients, len(all.Names))
	}
}

// TestRefusalSaysWhy: samples with nothing in common end with the reason, and no file.
func TestRefusalSaysWhy(t *testing.T) {
	t.Chdir(t.TempDir())
	for i := range 12 {
		b := make([]byte, 600)
		rand.Read(b)
		if err := os.WriteFile("sample"+strings.Repeat("x", i)+".bin", b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile("normal.txt", []byte(strings.Repeat("GET / HTTP/1.1\r\n", 99)), 0o600); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.bin")
	if err != nil {
		t.Fatal(err)
	}
	_, err = signatureCommand(t, "", append([]string{"learn", "--clean", "normal.txt"}, files...)...)
	if err == nil || !strings.Contains(err.Error(), "no safe signature") {
		t.Errorf("random bytes: %v", err)
	}
	if _, err := os.Stat("worm.signature.json"); err == nil {
		t.Error("a signature was written")
	}
}
