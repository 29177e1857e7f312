package zeek

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dragnet/flow"
	"dragnet/internal/testkit"
)

const dnsTSV = "#separator \\x09\n#path\tdns\n#fields\tts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\n"

const dnsJSON = `{"ts":1.5,"uid":"C","id.orig_h":"192.0.2.1","id.orig_p":1,"id.resp_h":"192.0.2.2","id.resp_p":53,"proto":"udp","query":"example.net"}` + "\n"

func TestIs(t *testing.T) {
	for _, c := range []struct {
		name, prefix string
		want         bool
	}{
		{"TSV", smallTSV, true},
		{"TSV cut in #fields", smallTSV[:150], true},
		{"TSV after a comment", "### a comment\n" + smallTSV, true},
		{"TSV without path", head + good, true},
		{"JSON", smallJSON, true},
		{"JSON cut", smallJSON[:420], true},
		{"JSON by _path", `{"_path":"conn","ts":1`, true},
		{"nothing", "", false},
		{"dns as TSV", dnsTSV, false},
		{"dns as JSON", dnsJSON, false},
		{"dns with _path", `{"_path":"dns","ts":1}`, false},
		{"no addresses", "#fields\tts\tuid\n", false},
		{"only comments", "# hello\n# world\n", false},
		{"Suricata", `{"timestamp":"2024-01-01T00:00:00.1+0000","event_type":"flow","src_ip":"192.0.2.1"}`, false},
		{"pcap", "\xd4\xc3\xb2\xa1\x02\x00\x04\x00", false},
		{"text", "hello", false},
	} {
		if got := Is([]byte(c.prefix)); got != c.want {
			t.Errorf("Is(%s) = %v: %v", c.name, got, sniffPrefix([]byte(c.prefix)))
		}
	}
}

// tree makes a directory of files by name.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestOpenDirectory(t *testing.T) {
	dir := tree(t, map[string]string{
		"2026-11-21/conn.10:00:00-11:00:00.log.gz": string(gz(t, []byte(smallTSV))),
		"2026-11-21/conn.11:00:00-12:00:00.log":    smallJSON,
		"2026-11-21/conn-summary.log":              "Zeek's own summary",
		"2026-11-21/dns.log":                       dnsTSV,
		"2026-11-22/sensor-conn.log":               smallTSV,
		"2026-11-22/conn.log":                      "", // a quiet hour
		"2026-11-22/known_conn.log":                strings.Replace(smallTSV, "#path\tconn", "#path\tknown_conn", 1),
		"2026-11-22/conn.json":                     smallJSON, // another name
	})
	link := filepath.Join(t.TempDir(), "current")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	log, err := Open(link)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"2026-11-21/conn.10:00:00-11:00:00.log.gz", "2026-11-21/conn.11:00:00-12:00:00.log",
		"2026-11-22/conn.log", "2026-11-22/sensor-conn.log",
	}
	for i := range want {
		want[i] = filepath.Join(link, want[i])
	}
	if diff := cmp.Diff(want, log.Files()); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	_, cov := scanAll(t, flow.AllTime, 0, chunkSize, link)
	problem := []flow.Problem{{
		Place:  filepath.Join(link, "2026-11-22/known_conn.log"),
		Reason: `not a conn log: #path is "known_conn": only conn logs hold connections`,
	}}
	if diff := cmp.Diff(problem, cov.Problems); diff != "" || cov.Flows != 15 || cov.Skipped != 1 {
		t.Errorf("coverage %+v (-want +got):\n%s", cov, diff)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := tree(t, map[string]string{"dns.log": dnsTSV, "conn.log": dnsJSON, "x/readme": "", "conn.pcap": "\xd4\xc3\xb2\xa1\x02"})
	for _, c := range []struct{ path, want string }{
		{"dns.log", `dns.log is not a Zeek conn log: #path is "dns": only conn logs hold connections`},
		{"conn.log", "conn.log is not a Zeek conn log: its JSON objects have neither conn_state nor _path"},
		{"conn.pcap", "conn.pcap is not a Zeek conn log: starts neither like Zeek's TSV"},
		{"x", "x holds no conn log: no file below it is named *conn*.log, *conn*.log.gz or *conn*.log.zst"},
		{"missing", "missing: no such file or directory"},
	} {
		_, err := Open(filepath.Join(dir, c.path))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), dir) {
			t.Errorf("Open(%s): %v, want %s", c.path, err, c.want)
		}
	}
	if _, err := Open(os.DevNull); err == nil || !strings.Contains(err.Error(), "neither a regular file nor a directory") {
		t.Errorf("Open(%s): %v", os.DevNull, err)
	}
}

// TestOnlyConnLogsAreTaken sniffs all shared captures and logs.
func TestOnlyConnLogsAreTaken(t *testing.T) {
	for dir, want := range map[string]bool{"suricata-verify": false, "ndpi": false, "netflow": false, "zeek-traces/Traces": false, "zeek-logs/missing_host": true, "zeek-logs/proxy_rolling": true} {
		err := filepath.Walk(testkit.Data(t, filepath.FromSlash(dir)), func(path string, info os.FileInfo, err error) error {
			if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
				return err
			}
			foreign, err := examineFile(path)
			if (foreign == nil) != want {
				t.Errorf("%s: taken for a conn log: %v (%v)", path, foreign == nil, foreign)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
