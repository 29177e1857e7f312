//go:build linux

package walk

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"dragnet/trace/diag"
	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// Record reads the state of every process of the walk. Each is read through one
// open folder of /proc and its start time is compared with the snapshot's, so a
// PID that was reused in between is never taken for the process in the
// snapshot; such a process is recorded as gone.
func (w *Walked) Record() []record.ProcessRecord {
	w.environ = make([]byte, 32<<10)
	out := make([]record.ProcessRecord, 0, len(w.Steps))
	for _, st := range w.Steps {
		p := record.ProcessRecord{PID: st.PID, Via: string(st.Via), From: st.From, Shared: st.Inode}
		if seen, ok := w.snapshot.processes[st.PID]; ok {
			p.Parent = seen.Parent
		}
		p.Gone = !w.readProcess(&p)
		out = append(out, p)
	}
	return out
}

func (w *Walked) readProcess(p *record.ProcessRecord) bool {
	dir, err := openProcess(p.PID)
	if err != nil {
		return false
	}
	defer closeFD(dir)
	st, err := readStat(dir)
	if err != nil {
		return false
	}
	seen, known := w.snapshot.processes[p.PID]
	if known && seen.Start != st.Start {
		return false
	}
	p.Name, p.Parent, p.Nice, p.Terminal = st.Name, st.Parent, st.Nice, terminalName(st.Terminal)
	p.Started = w.finder.boot.Add(time.Duration(st.Start) * nanosecondsPerTick).UTC()
	p.UID, p.EUID = readUIDs(dir)
	if known && seen.NetNS != w.finder.namespaces.Own() {
		p.NetNS = seen.NetNS
	}
	policy := w.finder.config.Save
	if policy.Files {
		w.readDescriptors(dir, p)
	}
	if policy.Cgroups {
		p.Cgroup = pickCgroup(readText(dir, "cgroup"))
		p.Container, p.Unit = ContainerAndUnit(p.Cgroup)
	}
	if policy.Executables {
		p.Executable = readLink(dir, "exe")
		p.SHA256 = w.hashExecutable(dir, p.PID, p.Executable)
	}
	if policy.Sessions {
		p.SSH = readVariable(dir, w.environ, "SSH_CONNECTION=")
		p.LoginUID, p.SessionID = parseAuditID(readText(dir, "loginuid")), parseAuditID(readText(dir, "sessionid"))
	}
	return true
}

// readDescriptors lists what the process has open, at most the configured number.
func (w *Walked) readDescriptors(dir int, p *record.ProcessRecord) {
	fds, err := readNumbers(fmt.Sprintf("/proc/self/fd/%d/fd", dir))
	if err != nil {
		return
	}
	slices.Sort(fds)
	if limit := w.finder.config.MaxDescriptors; len(fds) > limit {
		p.More = len(fds) - limit
		fds = fds[:limit]
	}
	for _, fd := range fds {
		name := readLink(dir, "fd/"+strconv.Itoa(fd))
		kind, number, _ := strings.Cut(name, ":[")
		inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
		switch {
		case name == "":
		case kind == "socket" && err == nil:
			if s := w.recordSocket(inode); !slices.Contains(p.Sockets, s) {
				p.Sockets = append(p.Sockets, s)
			}
		case kind == "pipe" && err == nil:
			if !slices.Contains(p.Pipes, inode) {
				p.Pipes = append(p.Pipes, inode)
			}
		case !slices.Contains(p.Files, name):
			p.Files = append(p.Files, name)
		}
	}
}

// stateNames are the kernel's TCP states from 1 on.
var stateNames = [...]string{"established", "syn-sent", "syn-received", "fin-wait-1", "fin-wait-2", "time-wait",
	"closed", "close-wait", "last-ack", "listen", "closing", "syn-received"}

func (w *Walked) recordSocket(inode uint64) record.SocketRecord {
	s := record.SocketRecord{Inode: inode}
	k, ok := w.snapshot.sockets[inode]
	if !ok {
		return s
	}
	s.Local, s.Remote = k.Local, k.Remote
	if n := int(k.State); n >= 1 && n <= len(stateNames) {
		s.State = stateNames[n-1]
	}
	if k.State != diag.Listen {
		s.Direction = w.snapshot.Direction(k, w.finder.ephemeral).String()
	}
	return s
}

// readUIDs reads real and effective UID.
func readUIDs(dir int) (real, effective uint32) {
	_, rest, _ := strings.Cut(readText(dir, "status"), "\nUid:")
	line, _, _ := strings.Cut(rest, "\n")
	if f := strings.Fields(line); len(f) >= 2 {
		r, _ := strconv.ParseUint(f[0], 10, 32)
		e, _ := strconv.ParseUint(f[1], 10, 32)
		return uint32(r), uint32(e)
	}
	return 1<<32 - 1, 1<<32 - 1 // no user has this number
}

// terminalName names the common devices of tty_nr (proc(5)) and gives the numbers
// of others.
func terminalName(dev int32) string {
	major, minor := unix.Major(uint64(uint32(dev))), unix.Minor(uint64(uint32(dev)))
	switch {
	case dev == 0:
		return ""
	case major >= 136 && major <= 143:
		return fmt.Sprintf("pts/%d", (major-136)*256+minor)
	case major == 4 && minor < 64:
		return fmt.Sprintf("tty%d", minor)
	case major == 4:
		return fmt.Sprintf("ttyS%d", minor-64)
	}
	return fmt.Sprintf("%d:%d", major, minor)
}

// pickCgroup picks the unified hierarchy's path, or the first one of a machine
// that only has the old kind.
func pickCgroup(text string) string {
	best := ""
	for line := range strings.Lines(text) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) == 3 && (len(parts[2]) > len(best) && best == "" || parts[0] == "0" && parts[2] != "/") {
			best = parts[2]
		}
	}
	return best
}

// ContainerAndUnit reads what container managers and systemd write into the
// path: a container is a folder or scope named by 64 hex digits.
func ContainerAndUnit(path string) (container, unit string) {
	for part := range strings.SplitSeq(path, "/") {
		if strings.HasSuffix(part, ".service") || strings.HasSuffix(part, ".scope") {
			unit = part
		}
		id := strings.TrimSuffix(part, ".scope")
		if i := strings.LastIndexByte(id, '-'); i >= 0 {
			id = id[i+1:]
		}
		if len(id) == 64 && strings.Trim(id, "0123456789abcdef") == "" {
			container = id
		}
	}
	return container, unit
}

// readVariable is the value of a variable, at most 200 characters of it, if it
// lies in the part of the environment that fits into buf.
func readVariable(dir int, buf []byte, name string) string {
	n, err := readAt(dir, "environ", buf)
	if err != nil {
		return ""
	}
	for entry := range bytes.SplitSeq(buf[:n], []byte{0}) {
		if value, ok := bytes.CutPrefix(entry, []byte(name)); ok {
			return string(value[:min(len(value), 200)])
		}
	}
	return ""
}

// parseAuditID reads loginuid or sessionid; the kernel's -1 means unset.
func parseAuditID(text string) *uint32 {
	n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 32)
	if err != nil || n == 1<<32-1 {
		return nil
	}
	id := uint32(n)
	return &id
}

func readText(dir int, name string) string {
	var buf [4096]byte
	n, err := readAt(dir, name, buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func readLink(dir int, name string) string {
	var buf [512]byte
	n, err := unix.Readlinkat(dir, name, buf[:])
	if err != nil {
		return ""
	}
	return string(buf[:n])
}

func closeFD(fd int) { unix.Close(fd) }

// readPortRange falls back to the kernel's own default.
func readPortRange() PortRange {
	r := PortRange{32768, 60999}
	b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range")
	if err == nil {
		fmt.Sscan(string(b), &r.From, &r.To)
	}
	return r
}
