package blocklist_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/publish"
	"dragnet/publish/blocklist"
	"dragnet/publish/publishtest"
)

func source() *publishtest.Source {
	s := publishtest.New()
	s.List("g1", []string{"in dport=445"}, 75, "198.51.100.7", "2001:db8::7")
	s.List("g2", nil, 40, "203.0.113.9", "198.51.100.7")
	return s
}

func written(t *testing.T, v *publish.View, least int) map[string]string {
	t.Helper()
	files := map[string]*bytes.Buffer{}
	err := blocklist.Files(least)(v, publish.Out{Create: func(path string) (io.Writer, error) {
		files[path] = &bytes.Buffer{}
		return files[path], nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for path, b := range files {
		out[path] = b.String()
	}
	return out
}

func TestOnlyWhatIsSureEnough(t *testing.T) {
	s := source()
	s.Advance(time.Hour)
	s.List("g2", nil, 40, "198.51.100.7") // lives an hour longer, but is not sure
	v := s.Feed(t).View()
	for path, text := range written(t, v, 50) {
		if strings.Contains(text, "203.0.113.9") || !strings.Contains(text, "198.51.100.7 timeout 82800") || !strings.Contains(text, "2001:db8::7 timeout 82800") {
			t.Errorf("%s:\n%s", path, text)
		}
	}
}

// TestKernelTakesThem loads the sets, then others over them.
func TestKernelTakesThem(t *testing.T) {
	nft, ipset := testkit.Tool(t, "nft"), testkit.Tool(t, "ipset")
	nodes, err := netlab.For(t).Nodes("firewall")
	if err != nil {
		t.Fatal(err)
	}
	s, dir := source(), t.TempDir()
	feed := s.Feed(t)
	run := func(program string, args ...string) string {
		t.Helper()
		out, err := nodes[0].Run(t.Context(), program, args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	for round, want := range []map[string]bool{
		{"198.51.100.7": true, "203.0.113.9": true, "2001:db8::7": true},
		{"198.51.100.7": false, "203.0.113.9": true, "2001:db8::7": true},
	} {
		if round == 1 {
			s.Withdraw("g1", "198.51.100.7")
			s.Withdraw("g2", "198.51.100.7")
		}
		for path, text := range written(t, publishtest.Refresh(t, feed), 0) {
			if err := os.WriteFile(filepath.Join(dir, filepath.Base(path)), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run(nft, "-c", "-f", filepath.Join(dir, "nftables.nft"))
		run(nft, "-f", filepath.Join(dir, "nftables.nft"))
		run(ipset, "-exist", "-file", filepath.Join(dir, "ipset.txt"), "restore")
		for kind, loaded := range map[string]string{"nft": run(nft, "list", "table", "inet", "dragnet"), "ipset": run(ipset, "save")} {
			for host, listed := range want {
				if strings.Contains(loaded, host+" ") != listed {
					t.Errorf("round %d, %s: %s listed %v, want %v:\n%s", round, kind, host, !listed, listed, loaded)
				}
			}
			if !strings.Contains(loaded, "timeout") || strings.Contains(loaded, "-new") {
				t.Errorf("round %d, %s: %s", round, kind, loaded)
			}
		}
	}
}

// TestRuleOfTheCommentBlocks runs the commands that the file's comment gives.
func TestRuleOfTheCommentBlocks(t *testing.T) {
	nft := testkit.Tool(t, "nft")
	nodes, err := netlab.For(t).Nodes("firewall")
	if err != nil {
		t.Fatal(err)
	}
	text := written(t, source().Feed(t).View(), 0)["blocklist/nftables.nft"]
	path := filepath.Join(t.TempDir(), "nftables.nft")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nodes[0].Run(t.Context(), nft, "-f", path); err != nil {
		t.Fatal(err)
	}
	commands := 0
	for line := range strings.Lines(text) {
		if command, ok := strings.CutPrefix(strings.TrimSpace(line), "#   nft '"); ok {
			commands++
			if _, err := nodes[0].Run(t.Context(), nft, strings.TrimSuffix(command, "'")); err != nil {
				t.Error(err)
			}
		}
	}
	if commands != 3 {
		t.Errorf("the comment gives %d commands, want 3", commands)
	}
}

// BenchmarkWrite writes both files with 300,000 hosts.
func BenchmarkWrite(b *testing.B) {
	s := publishtest.New()
	s.Fill(300_000)
	v := s.Feed(b).View()
	for b.Loop() {
		err := blocklist.Files(0)(v, publish.Out{Create: func(string) (io.Writer, error) { return io.Discard, nil }})
		if err != nil {
			b.Fatal(err)
		}
	}
}
