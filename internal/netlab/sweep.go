package netlab

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// prefix begins the name of every namespace; the owner's process id follows, so
// that leftovers of a killed process can be distinguished from what is in use.
const prefix = "dragnet-"

// killTime bounds the wait for killed programs to be gone.
const killTime = 5 * time.Second

// shareNamesDir makes the folder of named namespaces a mount point that shares
// what is mounted in it, as ip-netns(8) does before it adds the first name. Were
// it left to the first "ip netns add" on the machine, that would mount the folder
// over names that exist already, which then can neither be entered nor removed.
func shareNamesDir() error {
	if err := os.MkdirAll(namesDir, 0o755); err != nil {
		return err
	}
	dir, err := os.Open(namesDir)
	if err != nil {
		return err
	}
	defer dir.Close()
	if err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX); err != nil { // as ip-netns does; Close ends it
		return err
	}
	share := func() error { return syscall.Mount("", namesDir, "none", syscall.MS_SHARED|syscall.MS_REC, "") }
	if err := share(); err != syscall.EINVAL { // EINVAL: not a mount point
		return err
	}
	if err := syscall.Mount(namesDir, namesDir, "none", syscall.MS_BIND|syscall.MS_REC, ""); err != nil {
		return err
	}
	return share()
}

// sweepLeftovers removes the namespaces of processes that no longer exist.
func sweepLeftovers() error {
	entries, err := os.ReadDir(namesDir)
	if err != nil {
		return ignoreMissing(err)
	}
	var stale []string
	for _, e := range entries {
		if pid, ok := ownerOf(e.Name()); ok && !isAlive(pid) {
			stale = append(stale, e.Name())
		}
	}
	if len(stale) == 0 {
		return nil
	}
	if err := removeNamespaces(stale); err != nil {
		return fmt.Errorf("remove the network namespaces an earlier run left behind: %w", err)
	}
	return nil
}

// ownerOf returns the process id in a namespace's name; ok is false for namespaces
// that are not ours.
func ownerOf(name string) (pid int, ok bool) {
	rest, ours := strings.CutPrefix(name, prefix)
	digits, _, more := strings.Cut(rest, "-")
	pid, err := strconv.Atoi(digits)
	return pid, ours && more && err == nil && pid > 0
}

// isAlive reports whether a process still runs. A zombie holds no resources, and
// its parent may never reap it.
func isAlive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// proc_pid_stat(5): the name in parentheses may itself hold any byte.
	state := stat[bytes.LastIndexByte(stat, ')')+1:]
	return !bytes.HasPrefix(state, []byte(" Z"))
}

// killResidents kills every process in one of the named namespaces. Daemons leave
// their parent, so they are found by the namespace and not by descent.
func killResidents(names []string) error {
	var spaces []fs.FileInfo
	for _, name := range names {
		if info, err := os.Stat(filepath.Join(namesDir, name)); err == nil {
			spaces = append(spaces, info)
		}
	}
	for deadline := time.Now().Add(killTime); ; time.Sleep(5 * time.Millisecond) {
		pids, err := listResidents(spaces)
		if err != nil || len(pids) == 0 {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("processes %v survive SIGKILL inside the lab", pids)
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL) // it may have ended already
		}
	}
}

// listResidents lists the processes in any of the namespaces: all threads of a
// resident are there. A thread alone may belong to a visitor, such as this process in
// Node.Do, or a finder of sockets that looks into all namespaces.
func listResidents(spaces []fs.FileInfo) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if livesIn(spaces, pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// livesIn reports whether all threads of a process are in the namespaces. It is false
// for zombies, and for those that ended meanwhile.
func livesIn(spaces []fs.FileInfo, pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/ns/net", pid))
	if err != nil {
		return false
	}
	lives := false
	for _, thread := range threads {
		at, err := os.Stat(thread)
		if err != nil {
			continue // it has ended
		}
		if !slices.ContainsFunc(spaces, func(space fs.FileInfo) bool { return os.SameFile(at, space) }) {
			return false
		}
		lives = true
	}
	return lives
}
