//go:build linux

package walk

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	line := "12 (a) b (c) S 7 12 12 34816 12 0 0 0 0 0 0 0 0 0 20 5 1 0 4321 1 1\n"
	got, err := parseStat([]byte(line))
	if want := (stat{Name: "a) b (c", Parent: 7, Terminal: 34816, Nice: 5, Start: 4321}); err != nil || got != want {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	for _, bad := range []string{"", "12", "12 (x", ") (", "1 (x) S 1 2", strings.Replace(line, "4321", "x", 1)} {
		if got, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("%q reads as %+v", bad, got)
		}
	}
}

func FuzzParseStat(f *testing.F) {
	b, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) { parseStat(b) })
}

func TestTerminal(t *testing.T) {
	for _, c := range []struct {
		major, minor uint32
		want         string
	}{{136, 3, "pts/3"}, {137, 1, "pts/257"}, {4, 1, "tty1"}, {4, 64, "ttyS0"}, {204, 64, "204:64"}, {0, 0, ""}} {
		if got := terminalName(int32(unix.Mkdev(c.major, c.minor))); got != c.want {
			t.Errorf("%d:%d is %q, want %q", c.major, c.minor, got, c.want)
		}
	}
}

func TestCgroup(t *testing.T) {
	id := strings.Repeat("0a", 32)
	for _, c := range []struct{ text, path, container, unit string }{
		{"0::/system.slice/ssh.service\n", "/system.slice/ssh.service", "", "ssh.service"},
		{"0::/user.slice/user-0.slice/session-3.scope\n", "/user.slice/user-0.slice/session-3.scope", "", "session-3.scope"},
		{"0::/system.slice/docker-" + id + ".scope\n", "/system.slice/docker-" + id + ".scope", id, "docker-" + id + ".scope"},
		{"4:memory:/docker/" + id + "\n3:cpu:/\n0::/\n", "/docker/" + id, id, ""},
		{"0::/\n", "/", "", ""},
		{"", "", "", ""},
		{"nonsense", "", "", ""},
	} {
		path := pickCgroup(c.text)
		container, unit := ContainerAndUnit(path)
		if path != c.path || container != c.container || unit != c.unit {
			t.Errorf("%q: %q %q %q", c.text, path, container, unit)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"/dev/log", "/dev/log", true}, {"/dev/log", "/dev/logs", false}, {"/run/systemd/*", "/run/systemd/journal/stdout", true},
		{"/run/user/*/bus", "/run/user/1000/bus", true}, {"/run/user/*/bus", "/run/user/1000/bus2", false}, {"/run/dbus/*", "@/run/dbus/x", false},
	} {
		if got := matchesPattern(c.pattern, c.name); got != c.want {
			t.Errorf("%q %q: %v", c.pattern, c.name, got)
		}
	}
}

func TestLogins(t *testing.T) {
	entry := make([]byte, utmpSize)
	binary.NativeEndian.PutUint16(entry, userProcess)
	binary.NativeEndian.PutUint32(entry[4:], 77)
	copy(entry[8:], "pts/1")
	copy(entry[44:], "mallory")
	copy(entry[76:], "198.51.100.9")
	binary.NativeEndian.PutUint32(entry[340:], 1e9)
	dead := append([]byte{}, entry...)
	binary.NativeEndian.PutUint16(dead, 8)
	path := filepath.Join(t.TempDir(), "utmp")
	if err := os.WriteFile(path, append(append(append([]byte{}, dead...), entry...), "torn"...), 0o600); err != nil {
		t.Fatal(err)
	}
	got := readLogins(path, map[string]bool{"mallory": true})
	if len(got) != 1 || got[0].Host != "198.51.100.9" || got[0].Line != "pts/1" || got[0].PID != 77 || got[0].Time.Unix() != 1e9 {
		t.Errorf("%+v", got)
	}
	if got := readLogins(path, map[string]bool{"alice": true}); got != nil {
		t.Errorf("entries of others: %+v", got)
	}
}
