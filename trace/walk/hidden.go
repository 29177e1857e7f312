//go:build linux

package walk

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"dragnet/trace/diag"
	"dragnet/trace/kernel"
)

// listConnections lists the connections of our own network namespace that some
// process holds according to the kernel, by inode.
func (f *Finder) listConnections() (map[uint64]diag.ListedSocket, error) {
	all := map[uint64]diag.ListedSocket{}
	err := f.own.EachConnected(func(k diag.ListedSocket) {
		if k.Inode != 0 && isConnected(k.State) {
			all[k.Inode] = k
		}
	})
	return all, err
}

// findUnheld compares a snapshot with what the kernel listed before it and lists
// after it: a connection that is in both lists, and that no descriptor shows, is
// held in another way. Those ways that can be seen are
// added to the snapshot; the connections that no process is seen to hold are
// returned.
func (f *Finder) findUnheld(s *Snapshot, listed map[uint64]diag.ListedSocket) ([]diag.ListedSocket, error) {
	sockfs, err := socketDevice()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(listed, func(inode uint64, _ diag.ListedSocket) bool {
		return len(s.Holders(Object{Dev: sockfs, Inode: inode})) > 0
	})
	if len(listed) == 0 {
		return nil, nil
	}
	after, err := f.listConnections()
	if err != nil {
		return nil, err
	}
	maps.DeleteFunc(listed, func(inode uint64, k diag.ListedSocket) bool { return after[inode].Cookie != k.Cookie })
	for inode, k := range listed {
		socket := Socket{Inode: inode, NetNS: f.namespaces.Own(), Local: k.Local, Remote: k.Remote, State: k.State}
		if f.kernel != nil {
			if socket.Direction, err = f.kernel.Direction(k.Local, k.Remote, k.Device); err != nil {
				socket.Direction = kernel.Unknown
			}
		}
		s.addSocket(socket)
	}
	if err := s.addHiddenHolders(sockfs, listed); err != nil {
		return nil, err
	}
	maps.DeleteFunc(listed, func(inode uint64, _ diag.ListedSocket) bool {
		return len(s.Holders(Object{Dev: sockfs, Inode: inode})) > 0
	})
	return slices.Collect(maps.Values(listed)), nil
}

// addHiddenHolders looks through all processes for io_uring instances with
// registered sockets, and for UNIX sockets in which descriptors wait to be
// received. The kernel does not say which ones wait: a process is taken for the
// receiver of every unheld connection of its own user.
func (s *Snapshot) addHiddenHolders(sockfs uint64, unheld map[uint64]diag.ListedSocket) error {
	pids, err := readNumbers("/proc")
	if err != nil {
		return err
	}
	var waiting []Process
	for _, pid := range pids {
		p, rings, waits := readHidden(int32(pid))
		for _, inode := range rings {
			if _, ok := unheld[inode]; ok {
				s.addHidden(s.knownProcess(p), Object{Dev: sockfs, Inode: inode}, RingWith)
			}
		}
		if waits {
			waiting = append(waiting, s.knownProcess(p))
		}
	}
	for inode, k := range unheld {
		o := Object{Dev: sockfs, Inode: inode}
		if len(s.Holders(o)) > 0 {
			continue
		}
		for _, p := range waiting {
			if uid, ok := userOf(p.PID); ok && uid == k.UID {
				s.addHidden(p, o, FlightWith)
			}
		}
	}
	return nil
}

// knownProcess prefers what the snapshot knows of a process.
func (s *Snapshot) knownProcess(p Process) Process {
	if known, ok := s.processes[p.PID]; ok {
		return known
	}
	return p
}

func userOf(pid int32) (uint32, bool) {
	dir, err := openProcess(pid)
	if err != nil {
		return 0, false
	}
	defer closeFD(dir)
	_, effective := readUIDs(dir)
	return effective, true
}

// readHidden reads which sockets a process holds in io_uring, and whether
// descriptors wait in one of its UNIX sockets.
func readHidden(pid int32) (p Process, rings []uint64, waits bool) {
	dir, err := openProcess(pid)
	if err != nil {
		return p, nil, false
	}
	defer closeFD(dir)
	st, err := readStat(dir)
	if err != nil {
		return p, nil, false
	}
	p = Process{PID: pid, Parent: st.Parent, Start: st.Start}
	if p.NetNS, err = diag.NamespaceOf(fmt.Sprintf("/proc/self/fd/%d", dir)); err != nil {
		return p, nil, false
	}
	fds, _ := readNumbers(fmt.Sprintf("/proc/self/fd/%d/fd", dir))
	buf := make([]byte, 64<<10)
	for _, fd := range fds {
		name := readLink(dir, "fd/"+strconv.Itoa(fd))
		isRing := name == "anon_inode:[io_uring]"
		if !isRing && !strings.HasPrefix(name, "socket:[") {
			continue
		}
		text := readAll(dir, "fdinfo/"+strconv.Itoa(fd), buf)
		if isRing {
			rings = append(rings, parseRegistered(text)...)
		} else {
			waits = waits || countWaiting(text) > 0
		}
	}
	return p, rings, waits
}

// parseRegistered reads the sockets among the registered files of an io_uring
// instance: lines "    3: socket:[12345]" of its fdinfo (proc(5)).
func parseRegistered(fdinfo []byte) (inodes []uint64) {
	for line := range bytes.Lines(fdinfo) {
		_, name, ok := bytes.Cut(line, []byte(": socket:["))
		number, _, closed := bytes.Cut(name, []byte("]"))
		if n, err := strconv.ParseUint(string(number), 10, 64); ok && closed && err == nil {
			inodes = append(inodes, n)
		}
	}
	return inodes
}

// countWaiting reads how many descriptors wait in a UNIX socket: the line
// "scm_fds: N" of its fdinfo.
func countWaiting(fdinfo []byte) int {
	_, rest, ok := bytes.Cut(fdinfo, []byte("scm_fds:"))
	if !ok {
		return 0
	}
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, _ := strconv.Atoi(string(bytes.TrimSpace(line)))
	return n
}
