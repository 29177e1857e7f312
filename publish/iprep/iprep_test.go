package iprep_test

import (
	"bytes"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"dragnet/publish"
	"dragnet/publish/iprep"
	"dragnet/publish/publishtest"
)

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
