//go:build linux

package walk

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
)

func TestOptedIn(t *testing.T) {
	home := t.TempDir()
	passwd := filepath.Join(t.TempDir(), "passwd")
	uid := uint32(os.Getuid())
	os.WriteFile(passwd, fmt.Appendf(nil, "alice:x:%d:0::%s:/bin/sh\n", uid, home), 0o600)
	f := &Finder{users: newUserNames(passwd)}
	asker := netip.MustParseAddr("192.0.2.7")
	file := filepath.Join(home, ".ident")
	for _, c := range []struct {
		text string
		want bool
	}{
		{"192.0.2.7\n", true}, {"# mine\n 192.0.2.0/24 # irc\n", true}, {"2001:db8::1\n192.0.2.8\n", false},
		{"irc.example.org\n", false}, {"", false}, {"0.0.0.0/0", true}, {"::ffff:192.0.2.7", true},
	} {
		os.WriteFile(file, []byte(c.text), 0o600)
		if got := f.OptedIn(uid, asker); got != c.want {
			t.Errorf("%q: %v", c.text, got)
		}
	}
	if f.OptedIn(uid+1, asker) {
		t.Error("a user who does not exist opted in")
	}
	os.WriteFile(file, []byte("0.0.0.0/0\n"), 0o600)
	os.Chmod(file, 0o622)
	if f.OptedIn(uid, asker) {
		t.Error("a file that others can write counts")
	}
	os.Remove(file)
	other := filepath.Join(home, "other")
	os.WriteFile(other, []byte("0.0.0.0/0\n"), 0o600)
	os.Symlink(other, file)
	if f.OptedIn(uid, asker) {
		t.Error("a link was followed")
	}
}
