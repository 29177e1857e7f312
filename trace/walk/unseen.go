//go:build linux

package walk

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"dragnet/trace/kernel"
	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// Bounds of what is read of one process to learn what it may share.
const (
	maxLooked = 4096    // descriptors
	maxMaps   = 1 << 20 // octets of its list of mappings

)

// End says how the walk ended: with a console, with connections to hosts before,
// or cut, and by what.
func (w *Walked) End() *record.End {
	v := viewer{w: w, end: &record.End{}, slaves: map[int][]int32{}, masters: map[int]int32{}}
	if w.Truncated {
		v.note(record.Bound, 0, fmt.Sprintf("more than %d processes", w.finder.config.MaxProcesses))
	}
	if w.snapshot.denied > 0 {
		v.note(record.Denied, 0, fmt.Sprintf("the descriptors of %d processes cannot be read", w.snapshot.denied))
	}
	for _, st := range w.Steps {
		if n := w.snapshot.bounded[st.PID]; n > 0 {
			v.note(record.Bound, st.PID, fmt.Sprintf("%d of its pipes were not looked at", n))
		}
	}
	if len(w.Steps) == 0 {
		v.note(record.NoHolder, 0, "no process is seen to hold the connection, which the kernel lists")
	}
	for _, u := range w.met {
		v.end.Add(u)
	}
	for _, st := range w.Steps {
		if !slices.Contains(w.ends, st.PID) {
			v.lookAt(st)
		}
	}
	v.noteUnheld()
	v.noteTerminals()
	v.grade()
	return v.end
}

// viewer collects what a walk could not see.
type viewer struct {
	w     *Walked
	end   *record.End
	users []uint32 // of the processes of the walk
	// slaves and masters are pseudo-terminals by number, and who has that end.
	// Masters of processes that are only parents do not count: a terminal
	// multiplexer has many.
	slaves        map[int][]int32
	masters       map[int]int32
	parentMasters []int
}

func (v *viewer) note(what record.Obstacle, pid int32, detail string) {
	v.end.Add(record.Unseen{What: what, PID: pid, Detail: detail})
}

// lookAt looks at one process. What only a parent has open says little about
// where data came from, except for terminals.
func (v *viewer) lookAt(st Step) {
	dir, err := openProcess(st.PID)
	if err != nil {
		return
	}
	defer closeFD(dir)
	stat, err := readStat(dir)
	if err != nil || v.w.snapshot.processes[st.PID].Start != stat.Start && v.w.snapshot.processes[st.PID].Start != 0 {
		return // it has ended
	}
	if name := terminalName(stat.Terminal); strings.HasPrefix(name, "tty") && v.end.Origin == "" {
		v.end.Origin = fmt.Sprintf("%s, at which %s[%d] runs", name, stat.Name, st.PID)
	} else if number, ok := strings.CutPrefix(name, "pts/"); ok {
		n, _ := strconv.Atoi(number)
		v.slaves[n] = append(v.slaves[n], st.PID)
	}
	if uid, _ := readUIDs(dir); !slices.Contains(v.users, uid) {
		v.users = append(v.users, uid)
	}
	direct := st.Via != ParentOf
	v.lookAtDescriptors(dir, st.PID, direct)
	if !direct {
		return
	}
	v.lookAtConnections(st.PID)
	v.lookAtMemory(dir, st.PID)
	if login := readVariable(dir, make([]byte, 32<<10), "SSH_CONNECTION="); login != "" && len(v.w.Inbound()) == 0 {
		v.note(record.LoginGone, st.PID, "its environment says it began with SSH_CONNECTION "+login)
	}
}

// lookAtDescriptors looks for terminals, files and sockets without a known other
// end.
func (v *viewer) lookAtDescriptors(dir int, pid int32, direct bool) {
	fds, err := readNumbers(fmt.Sprintf("/proc/self/fd/%d/fd", dir))
	if err != nil {
		v.note(record.Denied, pid, "its descriptors cannot be read")
		return
	}
	slices.Sort(fds)
	if len(fds) > maxLooked {
		v.note(record.Bound, pid, fmt.Sprintf("%d of its descriptors were not looked at", len(fds)-maxLooked))
		fds = fds[:maxLooked]
	}
	for _, fd := range fds {
		path := "fd/" + strconv.Itoa(fd)
		name := readLink(dir, path)
		switch number, isSlave := strings.CutPrefix(name, "/dev/pts/"); {
		case name == "/dev/ptmx" || name == "/dev/pts/ptmx":
			v.addMaster(dir, fd, pid, direct)
		case isSlave:
			if n, err := strconv.Atoi(number); err == nil {
				v.slaves[n] = append(v.slaves[n], pid)
			}
		case !direct:
		case strings.HasPrefix(name, "socket:["):
			if kind := socketKind(dir, path); kind != "" && !v.hasOtherEnd(pid, name) {
				v.note(record.Datagram, pid, kind+" socket")
			}
		default:
			v.lookAtFile(dir, path, name, pid)
		}
	}
}

func (v *viewer) addMaster(dir, fd int, pid int32, direct bool) {
	text := readAll(dir, "fdinfo/"+strconv.Itoa(fd), make([]byte, 4096))
	_, rest, ok := bytes.Cut(text, []byte("tty-index:"))
	line, _, _ := bytes.Cut(rest, []byte("\n"))
	n, err := strconv.Atoi(string(bytes.TrimSpace(line)))
	switch {
	case !ok || err != nil:
	case direct:
		v.masters[n] = pid
	default:
		v.parentMasters = append(v.parentMasters, n)
	}
}

// socketKind names a socket that is neither TCP nor a UNIX stream; "" for these
// and for netlink, whose other end is the kernel.
func socketKind(dir int, path string) string {
	var buf [32]byte
	n, err := unix.Getxattr(fmt.Sprintf("/proc/self/fd/%d/%s", dir, path), "system.sockprotoname", buf[:])
	if err != nil {
		return ""
	}
	switch kind := string(bytes.TrimRight(buf[:n], "\x00")); kind {
	case "TCP", "TCPv6", "UNIX-STREAM", "NETLINK":
		return ""
	default:
		return kind
	}
}

// hasOtherEnd reports whether a UNIX socket of packets is one of a pair, which
// the closure followed.
func (v *viewer) hasOtherEnd(pid int32, link string) bool {
	inode, err := strconv.ParseUint(strings.TrimSuffix(strings.TrimPrefix(link, "socket:["), "]"), 10, 64)
	if err != nil {
		return false
	}
	_, ok := (&systemSources{f: v.w.finder, s: v.w.snapshot}).unixPeer(pid, inode)
	return ok
}

// lookAtFile notes a regular file that is read and that others than root may
// write.
func (v *viewer) lookAtFile(dir int, path, name string, pid int32) {
	var st, link unix.Stat_t
	if unix.Fstatat(dir, path, &st, 0) != nil || unix.Fstatat(dir, path, &link, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return
	}
	if st.Mode&unix.S_IFMT == unix.S_IFREG && link.Mode&unix.S_IRUSR != 0 && isWritable(&st) {
		v.note(record.OpenFile, pid, name)
	}
}

func isWritable(st *unix.Stat_t) bool { return st.Uid != 0 || st.Mode&0o022 != 0 }

// lookAtConnections notes connections that a process opened itself.
func (v *viewer) lookAtConnections(pid int32) {
	for _, d := range v.w.snapshot.objectsOf(pid) {
		k, ok := v.w.snapshot.sockets[d.object.Inode]
		if !ok || d.object.Pipe || k.Inode == v.w.asked || !isConnected(k.State) || k.Remote.Addr().IsLoopback() {
			continue
		}
		peer, here := v.w.snapshot.findPeer(k)
		if peer.Inode != 0 && !here {
			v.note(record.OtherSpace, pid, fmt.Sprintf("a user made a connection with the addresses of %v to %v in another network namespace", k.Local, k.Remote))
		}
		if !here && v.w.snapshot.Direction(k, v.w.finder.ephemeral) == kernel.Outbound {
			v.note(record.OutboundOne, pid, fmt.Sprintf("%v to %v", k.Local, k.Remote))
		}
	}
}

// lookAtMemory notes memory that a process shares: mappings with the flag s
// (proc(5), maps), except of files that only root may write.
func (v *viewer) lookAtMemory(dir int, pid int32) {
	for line := range bytes.Lines(readAll(dir, "maps", make([]byte, maxMaps))) {
		f := bytes.Fields(line)
		if len(f) < 6 || len(f[1]) != 4 || f[1][3] != 's' {
			continue
		}
		name := string(bytes.Join(f[5:], []byte(" ")))
		var st unix.Stat_t
		if unix.Fstatat(dir, "map_files/"+mappingName(f[0]), &st, 0) == nil &&
			(st.Mode&unix.S_IFMT == unix.S_IFCHR || f[1][1] != 'w' && !isWritable(&st)) {
			continue
		}
		v.note(record.Memory, pid, name)
	}
}

// mappingName is the name below map_files, where numbers have no leading zeros.
func mappingName(span []byte) string {
	from, to, _ := strings.Cut(string(span), "-")
	return strings.TrimLeft(from, "0") + "-" + strings.TrimLeft(to, "0")
}

// noteUnheld notes connections that the kernel lists, of users of the walk, and
// that no process is seen to hold.
func (v *viewer) noteUnheld() {
	for _, k := range v.w.snapshot.unheld {
		if k.Inode != v.w.asked && slices.Contains(v.users, k.UID) && !k.Remote.Addr().IsLoopback() {
			v.note(record.NoHolder, 0, fmt.Sprintf("no process is seen to hold %v to %v, which the kernel lists", k.Local, k.Remote))
		}
	}
	for _, st := range v.w.Steps {
		if st.Via == FlightWith {
			v.note(record.NoHolder, st.PID, "it is only guessed that it receives the connection")
		}
	}
}

// noteTerminals notes pseudo-terminals of which the walk knows one end.
func (v *viewer) noteTerminals() {
	for n, pids := range v.slaves {
		if _, ok := v.masters[n]; !ok && !slices.Contains(v.parentMasters, n) {
			v.note(record.Terminal, pids[0], fmt.Sprintf("pts/%d", n))
		}
	}
	for n, master := range v.masters {
		// Who made a terminal may keep its other end open as well.
		if !slices.ContainsFunc(v.slaves[n], func(pid int32) bool { return pid != master }) {
			v.note(record.Terminal, master, fmt.Sprintf("the other end of pts/%d", n))
		}
	}
}

func (v *viewer) grade() {
	switch {
	case len(v.w.Inbound()) > 0:
		v.end.Grade, v.end.Origin = record.InboundSeen, ""
	case v.end.Origin != "":
		v.end.Grade = record.OriginSeen
	default:
		v.end.Grade = record.Cut
		if len(v.end.Unseen) == 0 {
			v.note(record.Nothing, 0, "no console, no login and no inbound connection")
		}
	}
	slices.SortStableFunc(v.end.Unseen, func(a, b record.Unseen) int {
		return strings.Compare(string(a.What)+a.Detail, string(b.What)+b.Detail)
	})
}
