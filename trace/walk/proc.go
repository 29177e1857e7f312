//go:build linux

package walk

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"dragnet/trace/diag"
	"dragnet/trace/kernel"

	"golang.org/x/sys/unix"
)

// fromProc takes the same snapshot without eBPF: one pass over /proc, and one
// list of the TCP sockets of every network namespace met there. A process that
// ends during the pass is left out, as it would be by the kernel's own pass.
func fromProc(n *diag.Namespaces, size int) (*Snapshot, error) {
	s := newSnapshot(size)
	pids, err := readNumbers("/proc")
	if err != nil {
		return nil, err
	}
	member := map[uint32]int32{} // a process in each namespace
	for _, pid := range pids {
		ns, ok := s.addProcess(int32(pid))
		if _, known := member[ns]; ok && !known {
			member[ns] = int32(pid)
		}
	}
	sockfs, err := socketDevice()
	if err != nil {
		return nil, err
	}
	for ns, pid := range member {
		c, err := n.In(ns, pid)
		if errors.Is(err, os.ErrNotExist) {
			continue // its process has ended
		}
		if err != nil {
			return nil, err
		}
		if err := c.EachTCP(func(k diag.ListedSocket) {
			held := Object{Inode: k.Inode, Dev: sockfs}
			if _, ok := s.first[held]; ok {
				s.addSocket(Socket{Inode: k.Inode, NetNS: ns, Local: k.Local, Remote: k.Remote, State: k.State})
			}
		}); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// socketDevice is the device number all sockets of the machine share.
func socketDevice() (uint64, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	return st.Dev, err
}

func (s *Snapshot) addProcess(pid int32) (ns uint32, ok bool) {
	dir, err := openProcess(pid)
	if err != nil {
		return 0, false
	}
	defer unix.Close(dir)
	stat, err := readStat(dir)
	if err != nil {
		return 0, false
	}
	p := Process{PID: pid, Parent: stat.Parent, Start: stat.Start}
	if p.NetNS, err = diag.NamespaceOf(fmt.Sprintf("/proc/self/fd/%d", dir)); err != nil {
		if errors.Is(err, os.ErrPermission) {
			s.denied++
		}
		return 0, false
	}
	fds, err := readNumbers(fmt.Sprintf("/proc/self/fd/%d/fd", dir))
	if errors.Is(err, os.ErrPermission) {
		s.denied++
	}
	if err != nil {
		return 0, false
	}
	var name [32]byte
	for _, fd := range fds {
		var st unix.Stat_t
		path := strconv.AppendInt(append(name[:0], "fd/"...), int64(fd), 10)
		if unix.Fstatat(dir, string(path), &st, 0) != nil {
			continue
		}
		if o, isObject := objectOf(st.Mode, st.Dev, st.Ino); isObject {
			s.addObject(p, o, accessOf(dir, string(path), o))
		}
	}
	return p.NetNS, true
}

// accessOf is how a descriptor is open: the mode of its link shows it (proc(5)).
func accessOf(dir int, path string, o Object) (access uint8) {
	if !o.Pipe {
		return kernel.AccessRead | kernel.AccessWrite
	}
	var link unix.Stat_t
	if unix.Fstatat(dir, path, &link, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return 0
	}
	if link.Mode&unix.S_IRUSR != 0 {
		access = kernel.AccessRead
	}
	if link.Mode&unix.S_IWUSR != 0 {
		access |= kernel.AccessWrite
	}
	return access
}

// openProcess opens a process's folder. Reads through it always concern the
// same process: once that ends, reads fail, even if the PID is in use again.
func openProcess(pid int32) (int, error) {
	return unix.Open("/proc/"+strconv.Itoa(int(pid)), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
}

// readNumbers are the numeric names in a folder.
func readNumbers(dir string) ([]int, error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	var ns []int
	var names []string
	buf := make([]byte, 8<<10)
	for {
		n, err := unix.ReadDirent(fd, buf)
		if err != nil || n <= 0 {
			return ns, err
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			if n, err := strconv.Atoi(name); err == nil {
				ns = append(ns, n)
			}
		}
	}
}

// stat holds the fields of /proc/PID/stat that are used (proc(5)).
type stat struct {
	Name     string
	Parent   int32
	Terminal int32 // device number; 0 for none
	Nice     int
	Start    uint64 // clock ticks since boot
}

func readStat(dir int) (stat, error) {
	var buf [1024]byte
	n, err := readAt(dir, "stat", buf[:])
	if err != nil {
		return stat{}, err
	}
	return parseStat(buf[:n])
}

// parseStat finds the name between the first and the last parenthesis: a
// process may put parentheses and blanks into its name.
func parseStat(b []byte) (stat, error) {
	from, to := bytes.IndexByte(b, '('), bytes.LastIndexByte(b, ')')
	if from < 0 || to < from {
		return stat{}, errors.New("process state without a name")
	}
	s := stat{Name: string(b[from+1 : to])}
	f := bytes.Fields(b[to+1:])
	if len(f) < 22-2 {
		return stat{}, fmt.Errorf("process state of %d fields", len(f))
	}
	// Fields count from 1, and the name is field 2.
	field := func(n int) string { return string(f[n-3]) }
	var errs [4]error
	var parent, terminal int64
	parent, errs[0] = strconv.ParseInt(field(4), 10, 32)
	terminal, errs[1] = strconv.ParseInt(field(7), 10, 32)
	s.Nice, errs[2] = strconv.Atoi(field(19))
	s.Start, errs[3] = strconv.ParseUint(field(22), 10, 64)
	s.Parent, s.Terminal = int32(parent), int32(terminal)
	return s, errors.Join(errs[:]...)
}

// readAt reads what fits of a file below an open folder.
func readAt(dir int, name string, buf []byte) (int, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	return unix.Read(fd, buf)
}

// readAll reads a file below an open folder up to the size of buf: /proc gives
// long ones in pieces.
func readAll(dir int, name string, buf []byte) []byte {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	have := 0
	for have < len(buf) {
		n, err := unix.Read(fd, buf[have:])
		if err != nil || n <= 0 {
			break
		}
		have += n
	}
	return buf[:have]
}
