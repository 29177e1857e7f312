package iprep_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"dragnet/publish"
	"dragnet/publish/iprep"
	"dragnet/publish/publishtest"
)

func write(t *testing.T, dir string, least int, s *publishtest.Source) {
	t.Helper()
	var open []*os.File
	err := iprep.Files(least)(s.Feed(t).View(), publish.Out{Create: func(path string) (io.Writer, error) {
		path = filepath.Join(dir, path)
		f, err := os.Create(path)
		open = append(open, f)
		return f, err
	}})
	for _, f := range open {
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestSuricataLoadsThem has Debian's Suricata load the files, by reputation and as
// a dataset, and read connections from and to listed hosts and others.
func TestSuricataLoadsThem(t *testing.T) {
	dir := t.TempDir()
	files := filepath.Join(dir, "suricata")
	if err := os.Mkdir(files, 0o700); err != nil {
		t.Fatal(err)
	}
	s := publishtest.New()
	s.List("g1", nil, 99, "198.51.100.7", "2001:db8::7")
	s.List("g2", nil, 50, "198.51.100.8")
	s.List("g3", nil, 49, "198.51.100.9") // less than is asked for
	write(t, dir, 50, s)
	address := func(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }
	inside, inside6 := address("192.0.2.1:80"), address("[2001:db8:1::1]:80")
	capture := filepath.Join(dir, "capture.pcap")
	publishtest.Capture(t, capture, []publishtest.Connection{
		{From: address("198.51.100.7:1001"), To: inside}, {From: address("[2001:db8::7]:1002"), To: inside6}, {From: address("198.51.100.8:1003"), To: inside},
		{From: address("198.51.100.9:1004"), To: inside}, {From: address("203.0.113.1:1005"), To: inside}, {From: address("[2001:db8::8]:1006"), To: inside6},
	})
	const from, to, fromDataset = 1999001, 1999002, 1999003
	conf := fmt.Sprintf("default-reputation-path: %[1]s\nreputation-categories-file: %[1]s/categories.txt\nreputation-files: [reputation.list]\n", files)
	rules := filepath.Join(files, "dragnet.rules")
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	// As its comment says.
	if err := os.WriteFile(rules, bytes.ReplaceAll(text, []byte("\n#alert"), []byte("\nalert")), 0o600); err != nil {
		t.Fatal(err)
	}
	got := map[int]map[string]bool{from: {}, to: {}, fromDataset: {}}
	for _, a := range publishtest.Suricata(t, rules, conf, capture) {
		host := a.From
		if a.Alert.Rule == to {
			host = a.To
		}
		got[a.Alert.Rule][host.String()] = true
	}
	listed := map[string]bool{"198.51.100.7": true, "2001:db8::7": true, "198.51.100.8": true}
	for rule, hosts := range got {
		if !maps.Equal(hosts, listed) {
			t.Errorf("rule %d alerts on %v, want %v", rule, hosts, listed)
		}
	}
}

// TestFiles reads the files by the rules of Suricata's documentation: three
// columns, a category that is defined, a score of 1 to 127.
func TestFiles(t *testing.T) {
	s := publishtest.New()
	s.List("g1", nil, 99, "198.51.100.7", "2001:db8::7")
	s.List("g2", nil, 0, "203.0.113.9")
	files := map[string]*bytes.Buffer{}
	err := iprep.Files(0)(s.Feed(t).View(), publish.Out{Create: func(path string) (io.Writer, error) {
		files[path] = &bytes.Buffer{}
		return files[path], nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	categories := map[string]string{}
	for line := range strings.Lines(files["suricata/categories.txt"].String()) {
		c := strings.Split(strings.TrimSpace(line), ",")
		if id, err := strconv.Atoi(c[0]); err != nil || len(c) != 3 || id < 1 || id > 60 {
			t.Errorf("category %q", line)
		}
		categories[c[0]] = c[1]
	}
	var hosts []string
	for line := range strings.Lines(files["suricata/reputation.list"].String()) {
		c := strings.Split(strings.TrimSpace(line), ",")
		score, err := strconv.Atoi(c[2])
		if _, bad := netip.ParseAddr(c[0]); bad != nil || err != nil || score < 1 || score > 127 || categories[c[1]] == "" {
			t.Errorf("reputation %q", line)
		}
		hosts = append(hosts, c[0])
	}
	if got := strings.Join(hosts, "\n") + "\n"; got != files["suricata/hosts.lst"].String() || len(hosts) != 3 {
		t.Errorf("reputation has %q, the dataset %q", got, files["suricata/hosts.lst"])
	}
	numbers := regexp.MustCompile(`sid:(\d+)`).FindAllStringSubmatch(files["suricata/dragnet.rules"].String(), -1)
	for _, n := range numbers {
		if sid, err := strconv.Atoi(n[1]); err != nil || sid < 1_000_000 || sid >= 2_000_000 {
			t.Errorf("rule number %v is not for local use", n)
		}
	}
	if len(numbers) != 3 {
		t.Errorf("%d rules", len(numbers))
	}
}
