package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dragnet/internal/testkit"
	"dragnet/node/layout"
	"dragnet/publish/publishtest"
	"dragnet/signature/sequence"
)

// copied is a captured copy, and learnCopy learns the exact signature "copy" of it.
const copied = "a captured copy of an attack, with enough bytes to be matched by itself"

func learnCopy(t *testing.T) {
	t.Helper()
	if err := os.WriteFile("copy.bin", []byte(copied), 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "learn", "copy.bin", "--name", "copy")
}

// attacks are n connections, each from another host, that carry the copy.
func attacks(n int) (all []publishtest.Connection) {
	for i := range n {
		all = append(all, publishtest.Connection{From: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)}), 4000),
			To: netip.MustParseAddrPort("198.51.100.1:445"), Sent: append([]byte("hello "), copied...)})
	}
	return all
}

// lockedBuffer is a buffer that one goroutine writes while another reads.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// TestMatchStreams: a match on standard input is printed while the connection, and the
// input, are still open; Ctrl-C ends the command although nothing comes, and what was
// found is kept.
func TestMatchStreams(t *testing.T) {
	t.Chdir(t.TempDir())
	learnCopy(t)
	publishtest.Capture(t, "attack.pcap", attacks(1))
	file, err := os.ReadFile("attack.pcap")
	if err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe()
	root := newRoot()
	var printed lockedBuffer
	root.SetOut(&printed)
	root.SetErr(io.Discard)
	root.SetIn(in)
	root.SetArgs([]string{"signature", "match", "-s", "copy.signature.json", "--keep", "data", "-o", "jsonl", "-"})
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- root.ExecuteContext(ctx) }()
	// All but the packets that close the connection.
	if _, err := out.Write(file[:len(file)-3*(16+54)]); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !strings.Contains(printed.String(), "\n"); {
		if time.Now().After(deadline) {
			t.Fatal("no match is printed while the input is open")
		}
		time.Sleep(10 * time.Millisecond)
	}
	var item matchedItem
	if err := json.Unmarshal([]byte(printed.String()), &item); err != nil || item.Signature != "copy" || !item.Exact || !strings.Contains(item.Sequence, "192.0.2.1:4000") {
		t.Errorf("printed %q, %v", printed.String(), err)
	}
	interrupt()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "1 matches") {
		t.Errorf("interrupted, the command ends with %v", err)
	}
	ledger, err := layout.Directory("data").OpenLedger(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	found, err := ledger.Findings(t.Context(), "", 10)
	if err != nil || len(found) != 1 || found[0].Host.Addr != netip.MustParseAddr("192.0.2.1") || found[0].Kind != "payload-match" || found[0].Evidence.Counts["matches"] != 1 {
		t.Errorf("kept %+v, %v", found, err)
	}
}

// TestRepliesAreNotMatched: what a server sends is compared only when asked for.
func TestRepliesAreNotMatched(t *testing.T) {
	file := filepath.Join(testkit.Data(t, "benign"), "http.pcap")
	cmd := newSignatureLearn()
	cmd.SetContext(t.Context())
	all, err := collectSamples(cmd, []string{file}, false)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all.Names, func(name string) bool { return strings.HasSuffix(name, sequence.ToClient) })
	if i < 0 || len(all.Sequences[i]) < 64 {
		t.Fatalf("no reply in %s", file)
	}
	t.Chdir(t.TempDir())
	if err := os.WriteFile("reply.bin", all.Sequences[i][:64], 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "learn", "reply.bin", "--name", "reply")
	if out, err := signatureCommand(t, "", "match", "-s", "reply.signature.json", file); err != nil {
		t.Errorf("a reply is matched: %s", out)
	}
	if _, err := signatureCommand(t, "", "match", "-s", "reply.signature.json", "--to-server=false", file); err == nil {
		t.Error("a reply is not matched when it is asked for")
	}
}

// TestLifecycleIsObeyed: a signature on probation only counts, one that is retired or has
// expired is left out, and neither is exported; the file says who decided.
func TestLifecycleIsObeyed(t *testing.T) {
	t.Chdir(t.TempDir())
	learnCopy(t)
	publishtest.Capture(t, "attacks.pcap", attacks(3))
	matchIt := func() (string, error) {
		return signatureCommand(t, "", "match", "-s", "copy.signature.json", "-o", "csv", "attacks.pcap")
	}
	if _, err := matchIt(); fmt.Sprint(err) != "3 matches" {
		t.Fatalf("before any decision: %v", err)
	}
	if _, err := signatureCommand(t, "", "approve", "copy.signature.json"); err == nil {
		t.Error("a decision without a name was taken")
	}
	must(t, "approve", "copy.signature.json", "--by", "alice", "--probation")
	if out, err := matchIt(); err != nil || strings.Count(out, "\n") != 1 {
		t.Errorf("on probation it prints %q, %v", out, err)
	}
	if _, err := signatureCommand(t, "", "export", "copy.signature.json"); err == nil || !strings.Contains(err.Error(), "probation") {
		t.Errorf("on probation it is exported: %v", err)
	}
	must(t, "approve", "copy.signature.json", "--by", "alice", "--for", "1h")
	if _, err := matchIt(); fmt.Sprint(err) != "3 matches" {
		t.Errorf("approved: %v", err)
	}
	if rule := must(t, "export", "copy.signature.json"); !strings.Contains(rule, "rev:2;") {
		t.Errorf("the rules' revision is not the version: %s", rule)
	}
	must(t, "approve", "copy.signature.json", "--by", "alice", "--for", "1ns")
	if _, err := matchIt(); err == nil || !strings.Contains(err.Error(), "no signature is in use") {
		t.Errorf("expired: %v", err)
	}
	must(t, "retire", "copy.signature.json", "--by", "bob", "--why", "too old")
	if _, err := matchIt(); err == nil || !strings.Contains(err.Error(), "no signature is in use") {
		t.Errorf("retired: %v", err)
	}
	if out := must(t, "show", "copy.signature.json"); !strings.Contains(out, "retired") || !strings.Contains(out, "version 4, by bob; too old") {
		t.Errorf("show says %s", out)
	}
}

// TestSealSurvivesDecisions: a decision about a sealed file needs a key to seal it again.
func TestSealSurvivesDecisions(t *testing.T) {
	t.Chdir(t.TempDir())
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	privateDER, _ := x509.MarshalPKCS8PrivateKey(private)
	publicDER, _ := x509.MarshalPKIXPublicKey(public)
	os.WriteFile("key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}), 0o600)
	os.WriteFile("pub.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), 0o600)
	os.WriteFile("copy.bin", []byte(copied), 0o600)
	must(t, "learn", "copy.bin", "--name", "copy", "--sign", "key.pem")
	if _, err := signatureCommand(t, "", "retire", "copy.signature.json", "--by", "bob"); err == nil || !strings.Contains(err.Error(), "seal") {
		t.Errorf("a seal was broken: %v", err)
	}
	must(t, "retire", "copy.signature.json", "--by", "bob", "--sign", "key.pem")
	if out := must(t, "show", "copy.signature.json", "--trust", "pub.pem"); !strings.Contains(out, "retired") {
		t.Errorf("show says %s", out)
	}
	// Whoever changes the decision breaks the seal.
	file, err := os.ReadFile("copy.signature.json")
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile("forged.signature.json", bytes.Replace(file, []byte(`"retired"`), []byte(`"active"`), 1), 0o600)
	if _, err := signatureCommand(t, "", "show", "forged.signature.json"); err == nil {
		t.Error("a forged decision was accepted")
	}
}

// TestExplain shows the bytes of a match, and how near one came that is none.
func TestExplain(t *testing.T) {
	t.Chdir(t.TempDir())
	must(t, "generate", "worm", "--family", "alder", "--count", "12", "--carrier", "2048")
	must(t, "generate", "clean", "--count", "0", "--benign", "12", "--seed", "9")
	must(t, "learn", "worm", "--name", "alder", "--folds", "1", "--method", "em", "--clean", "clean")
	out := must(t, "explain", "alder.signature.json", "worm", "--most", "1")
	if !strings.Contains(out, "part 1: score ") || !strings.Contains(out, "##") || !strings.Contains(out, "most telling: byte ") || !strings.Contains(out, "more sequences match") {
		t.Errorf("explain says %s", out)
	}
	if out := must(t, "explain", "alder.signature.json", "clean"); !strings.Contains(out, "none of 12 sequences matches") || !strings.Contains(out, "the best score is") {
		t.Errorf("of clean traffic explain says %s", out)
	}
}
