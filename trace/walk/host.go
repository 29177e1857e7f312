//go:build linux

package walk

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// readHost describes the machine; boot is exact, unlike btime in /proc/stat.
func readHost() (record.Host, time.Time, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return record.Host{}, time.Time{}, fmt.Errorf("uname: %w", err)
	}
	var since unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &since); err != nil {
		return record.Host{}, time.Time{}, fmt.Errorf("read time since boot: %w", err)
	}
	boot := time.Now().Add(-time.Duration(since.Nano()))
	text := func(b []byte) string { return unix.ByteSliceToString(b) }
	return record.Host{
		Name: text(u.Nodename[:]), Boot: boot.UTC().Truncate(time.Second), OS: osName("/etc/os-release", text(u.Sysname[:])),
		Release: text(u.Release[:]), Kernel: text(u.Version[:]), Machine: text(u.Machine[:]),
	}, boot, nil
}

// osName adds the distribution to the kernel's own name.
func osName(path, kernel string) string {
	b, _ := os.ReadFile(path)
	for line := range strings.Lines(string(b)) {
		if v, ok := strings.CutPrefix(line, "PRETTY_NAME="); ok {
			return kernel + ", " + strings.Trim(strings.TrimSpace(v), `"`)
		}
	}
	return kernel
}

// userNames is the password file, read again when it changes.
type userNames struct {
	path  string
	mu    sync.Mutex // guards below
	mtime int64
	users map[uint32]passwd
}

type passwd struct{ name, home string }

func newUserNames(path string) *userNames { return &userNames{path: path} }

func (u *userNames) lookUp(uid uint32) passwd {
	u.mu.Lock()
	defer u.mu.Unlock()
	var st unix.Stat_t
	if unix.Stat(u.path, &st) != nil {
		return passwd{}
	}
	if u.users == nil || st.Mtim.Nano() != u.mtime {
		u.users, u.mtime = readPasswd(u.path), st.Mtim.Nano()
	}
	return u.users[uid]
}

func (u *userNames) userName(uid uint32) string { return u.lookUp(uid).name }

func readPasswd(path string) map[uint32]passwd {
	users := map[uint32]passwd{}
	f, err := os.Open(path)
	if err != nil {
		return users
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		parts := strings.Split(s.Text(), ":")
		if len(parts) != 7 {
			continue
		}
		uid, err := strconv.ParseUint(parts[2], 10, 32)
		if _, have := users[uint32(uid)]; err == nil && !have {
			users[uint32(uid)] = passwd{parts[0], parts[5]}
		}
	}
	return users
}

// Sizes of struct utmp on Linux (utmp(5)): the same on 32 and 64 bit.
const (
	utmpSize    = 384
	userProcess = 7
	maxUtmp     = 1 << 20
)

// readLogins reads the entries of utmp whose user is in names.
func readLogins(path string, names map[string]bool) []record.Login {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b, _ := io.ReadAll(io.LimitReader(f, maxUtmp))
	var out []record.Login
	for ; len(b) >= utmpSize; b = b[utmpSize:] {
		text := func(from, size int) string {
			s, _, _ := bytes.Cut(b[from:from+size], []byte{0})
			return string(s)
		}
		if binary.NativeEndian.Uint16(b) != userProcess || !names[text(44, 32)] {
			continue
		}
		out = append(out, record.Login{
			User: text(44, 32), Line: text(8, 32), Host: text(76, 256), PID: int32(binary.NativeEndian.Uint32(b[4:])),
			Time: time.Unix(int64(int32(binary.NativeEndian.Uint32(b[340:]))), 0).UTC(),
		})
	}
	return out
}

// Logins are the entries of utmp of the users that occur in processes, if the
// policy allows them.
func (f *Finder) Logins(processes []record.ProcessRecord) []record.Login {
	if !f.config.Save.Logins {
		return nil
	}
	names := map[string]bool{}
	for _, p := range processes {
		for _, uid := range []uint32{p.UID, p.EUID} {
			if name := f.users.userName(uid); name != "" {
				names[name] = true
			}
		}
	}
	return readLogins("/run/utmp", names)
}
