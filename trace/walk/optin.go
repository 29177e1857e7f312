//go:build linux

package walk

import (
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxOptIn bounds what is read of a user's file.
const maxOptIn = 4096

// OptedIn reports whether a user wants an asker to learn the user name: the
// file ~/.ident lists addresses and prefixes, one a line. Host names are not
// looked up: the operator of the name service would learn the name.
func (f *Finder) OptedIn(uid uint32, asker netip.Addr) bool {
	user := f.users.lookUp(uid)
	if user.name == "" || user.home == "" {
		return false
	}
	// The file is the user's: it may be a link, a pipe or a device.
	fd, err := unix.Open(filepath.Join(user.home, ".ident"), unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	file := os.NewFile(uintptr(fd), ".ident")
	defer file.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG || st.Uid != uid || st.Mode&0o022 != 0 {
		return false
	}
	b, err := io.ReadAll(io.LimitReader(file, maxOptIn))
	return err == nil && listsAddr(string(b), asker)
}

func listsAddr(text string, asker netip.Addr) bool {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if p, err := netip.ParsePrefix(line); err == nil && p.Contains(asker) {
			return true
		}
		if a, err := netip.ParseAddr(line); err == nil && a.Unmap() == asker {
			return true
		}
	}
	return false
}

// OwnNetNS is the network namespace the agent runs in.
func (f *Finder) OwnNetNS() uint32 { return f.namespaces.Own() }
