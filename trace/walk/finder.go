//go:build linux

package walk

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"dragnet/trace/diag"
	"dragnet/trace/kernel"
	"dragnet/trace/record"

	"golang.org/x/sys/unix"
)

// ErrNoUser means that no process holds such a connection.
var ErrNoUser = errors.New("no process holds this connection")

// Configuration bounds walks and what they save.
type Configuration struct {
	// EBPF is "auto", "off" (always read /proc) or "require".
	EBPF string `yaml:"ebpf"`
	// MaxProcesses bounds the processes in one record.
	MaxProcesses int `yaml:"max_processes"`
	// MaxDescriptors bounds the file descriptors that a record lists.
	MaxDescriptors int `yaml:"max_descriptors"`
	// Hubs are the names of UNIX sockets, ending in * for prefixes, that a walk
	// does not cross: a socket to which every process is connected relates none
	// of them.
	Hubs []string `yaml:"hubs"`
	// Save lists what a record may hold, beyond names, numbers and times.
	Save Policy `yaml:"save"`
}

// Policy lists what a record may hold, beyond names, numbers and times.
type Policy struct {
	// Files allows the names of open files, and which sockets and pipes are open.
	Files bool `yaml:"files"`
	// Executables allows the path and the SHA-256 of the program.
	Executables bool `yaml:"executables"`
	// Sessions allows SSH_CONNECTION, and the user and session of the login.
	Sessions bool `yaml:"sessions"`
	// Cgroups allows the control group, and with it the container and the unit.
	Cgroups bool `yaml:"cgroups"`
	// Logins allows what utmp says about the terminals of processes.
	Logins bool `yaml:"logins"`
}

// DefaultConfiguration saves everything.
func DefaultConfiguration() Configuration {
	return Configuration{
		EBPF: "auto", MaxProcesses: 512, MaxDescriptors: 128,
		Hubs: []string{"/run/systemd/*", "/var/run/systemd/*", "/run/dbus/*", "/var/run/dbus/*", "/run/user/*/bus", "/dev/log", "/run/nscd/*"},
		Save: Policy{Files: true, Executables: true, Sessions: true, Cgroups: true, Logins: true},
	}
}

// Finder looks connections up. It is safe for concurrent use.
type Finder struct {
	config     Configuration
	namespaces *diag.Namespaces
	own        *diag.Conn
	tracker    *diag.Tracker    // nil: addresses are not translated, or it may not look
	kernel     *kernel.Programs // nil: read /proc
	whyNot     error            // why kernel is nil
	ephemeral  PortRange
	host       record.Host
	boot       time.Time
	hashes     *hashCache
	users      *userNames
	size       atomic.Int64 // descriptors in the last snapshot
	shared     *sharedSnapshot
}

// New opens the resources of look-ups.
func New(config Configuration) (*Finder, error) {
	f := &Finder{config: config, hashes: newHashCache(), shared: newSharedSnapshot(), users: newUserNames("/etc/passwd")}
	var err error
	if f.namespaces, err = diag.OpenNamespaces(); err != nil {
		return nil, err
	}
	if f.own, err = f.namespaces.In(f.namespaces.Own(), int32(os.Getpid())); err != nil {
		return nil, err
	}
	if f.tracker, err = diag.OpenTracker(); err != nil {
		f.tracker = nil
	}
	if f.host, f.boot, err = readHost(); err != nil {
		f.Close()
		return nil, err
	}
	f.ephemeral = readPortRange()
	switch config.EBPF {
	case "off":
		f.whyNot = errors.New("switched off by the configuration")
	case "auto", "require":
		f.kernel, f.whyNot = kernel.Load()
	default:
		f.Close()
		return nil, fmt.Errorf("ebpf: %q is not one of auto, off, require", config.EBPF)
	}
	if config.EBPF == "require" && f.whyNot != nil {
		f.Close()
		return nil, fmt.Errorf("ebpf is required: %w", f.whyNot)
	}
	f.size.Store(1024)
	return f, nil
}

// Close releases the kernel's programs and sockets.
func (f *Finder) Close() error {
	f.namespaces.Close()
	if f.tracker != nil {
		f.tracker.Close()
	}
	if f.kernel != nil {
		return f.kernel.Close()
	}
	return nil
}

// Limits is what limits look-ups, nil if nothing does: an agent without eBPF
// reads /proc, and guesses who opened a connection.
func (f *Finder) Limits() error {
	if f.kernel == nil {
		return fmt.Errorf("reading /proc instead of eBPF: %w", f.whyNot)
	}
	if f.kernel.MarkError != nil {
		return fmt.Errorf("guessing who opened a connection: %w", f.kernel.MarkError)
	}
	return nil
}

// Host describes this machine.
func (f *Finder) Host() record.Host { return f.host }

// UserName is the name of a user, or "" if there is none.
func (f *Finder) UserName(uid uint32) string { return f.users.userName(uid) }

// Found is a connection and its owner.
type Found struct {
	diag.ListedSocket
	Direction kernel.Direction
}

// Find looks up the connection between two addresses, of which local is this
// machine's. A closed connection that the kernel still keeps (TIME_WAIT) has no
// user.
func (f *Finder) Find(local, remote netip.AddrPort) (Found, error) {
	k, err := f.own.TCP(local, remote)
	if errors.Is(err, diag.ErrNotFound) || err == nil && k.Inode == 0 {
		return f.findTranslated(local, remote)
	}
	if err != nil {
		return Found{}, err
	}
	found := Found{ListedSocket: k}
	if f.kernel != nil {
		if found.Direction, err = f.kernel.Direction(k.Local, k.Remote, k.Device); err != nil {
			return Found{}, err
		}
	}
	if found.Direction == kernel.Unknown {
		found.Direction, err = f.guessDirection(k)
	}
	return found, err
}

// guessDirection is Snapshot.Direction without a snapshot.
func (f *Finder) guessDirection(k diag.ListedSocket) (kernel.Direction, error) {
	unspecified := netip.IPv4Unspecified()
	if k.Local.Addr().Is6() {
		unspecified = netip.IPv6Unspecified()
	}
	_, err := f.own.TCP(k.Local, netip.AddrPortFrom(unspecified, 0))
	switch {
	case err == nil:
		return kernel.Inbound, nil
	case errors.Is(err, diag.ErrNotFound):
		return f.ephemeral.Guess(k.Local.Port(), k.Remote.Port()), nil
	}
	return kernel.Unknown, err
}

// Snapshot takes a snapshot of the machine, or shares one that begins after the
// call.
func (f *Finder) Snapshot() (*Snapshot, error) { return f.shared.take(f.takeSnapshot) }

func (f *Finder) takeSnapshot() (*Snapshot, error) {
	listed, err := f.listConnections()
	if err != nil {
		return nil, err
	}
	size := int(f.size.Load())
	var s *Snapshot
	if f.kernel != nil {
		s, err = fromKernel(f.kernel, size)
	} else {
		s, err = fromProc(f.namespaces, size)
	}
	if err != nil {
		return nil, fmt.Errorf("take a snapshot of all processes: %w", err)
	}
	f.size.Store(int64(len(s.descriptors)) + 256)
	s.noteForeign(f.namespaces.Own())
	if f.tracker != nil {
		s.outside = f.Outside
	}
	s.unheld, err = f.findUnheld(s, listed)
	return s, err
}

// Walk finds the processes behind a connection and the sockets they hold.
func (f *Finder) Walk(found Found) (*Walked, error) {
	s, err := f.Snapshot()
	if err != nil {
		return nil, err
	}
	sockfs, err := socketDevice()
	if err != nil {
		return nil, err
	}
	w := &Walked{finder: f, snapshot: s, asked: found.Inode}
	w.Closure, w.met = f.closeOver(s, Object{Dev: sockfs, Inode: found.Inode})
	return w, nil
}

func (f *Finder) closeOver(s *Snapshot, start Object) (Closure, []record.Unseen) {
	src := &systemSources{f: f, s: s}
	c := s.computeClosure(start, src, f.config.MaxProcesses, 1, int32(os.Getpid()))
	return c, src.met
}

// Behind are the processes behind a connection of a snapshot.
func (f *Finder) Behind(s *Snapshot, k Socket) []Step {
	sockfs, err := socketDevice()
	if err != nil {
		return nil
	}
	c, _ := f.closeOver(s, Object{Dev: sockfs, Inode: k.Inode})
	return c.Steps
}

// Ephemeral is the range of ports of outbound connections.
func (f *Finder) Ephemeral() PortRange { return f.ephemeral }

// Walked is the result of a walk.
type Walked struct {
	Closure
	finder   *Finder
	snapshot *Snapshot
	asked    uint64
	met      []record.Unseen // where the closure could not go on
	environ  []byte          // room for one process's environment
	hashed   int64           // octets of executables hashed so far
	late     map[fileID]*lateFile
}

// Inbound is a connection through which a user may have come in.
type Inbound struct {
	Socket
	PID int32 // a process that holds it
}

// Inbound are the connections with other machines that the processes of the
// walk hold and did not open themselves, except the asked one. A connection of
// unknown direction is included, as in the paper.
func (w *Walked) Inbound() []Inbound {
	var in []Inbound
	seen := map[uint64]bool{w.asked: true}
	for _, st := range w.Steps {
		if slices.Contains(w.ends, st.PID) {
			continue
		}
		for _, d := range w.snapshot.objectsOf(st.PID) {
			k, ok := w.snapshot.sockets[d.object.Inode]
			if !ok || d.object.Pipe || seen[k.Inode] {
				continue
			}
			seen[k.Inode] = true
			if !isConnected(k.State) || k.Remote.Addr().IsLoopback() {
				continue
			}
			if _, here := w.snapshot.findPeer(k); here {
				continue
			}
			if k.Direction = w.snapshot.Direction(k, w.finder.ephemeral); k.Direction != kernel.Outbound {
				in = append(in, Inbound{w.finder.outside(w.snapshot, k), st.PID})
			}
		}
	}
	return in
}

// isConnected reports whether a state is one in which both ends know each
// other, except TIME_WAIT: no process holds that.
func isConnected(state uint8) bool {
	switch state {
	case diag.SynSent, diag.SynReceived, diag.TimeWait, diag.Closed, diag.Listen:
		return false
	}
	return true
}

// systemSources asks the running kernel.
type systemSources struct {
	f   *Finder
	s   *Snapshot
	met []record.Unseen
}

func (q *systemSources) parentOf(pid int32) int32 {
	dir, err := openProcess(pid)
	if err != nil {
		return 0
	}
	defer closeFD(dir)
	st, err := readStat(dir)
	if err != nil {
		return 0
	}
	return st.Parent
}

// awaitsLogin recognises the pipe by which a child of OpenSSH's server shows that
// nobody has logged in yet (startup_pipe in its sshd.c): until then anyone who
// reaches port 22 is at its other end, and has no part in what others do. The child
// without rights that speaks to a client inherits it, and ends with the login.
func (q *systemSources) awaitsLogin(server, child int32) bool {
	parent := q.s.processes[child].Parent
	if parent == server {
		return isSSHServer(server, false) && (isSSHServer(child, false) || isGone(child))
	}
	return q.s.processes[parent].Parent == server && isSSHServer(server, false) &&
		(isSSHServer(parent, false) || isGone(parent)) && (isSSHServer(child, true) || isGone(child))
}

// isGone reports whether a process has ended since the snapshot.
func isGone(pid int32) bool {
	dir, err := openProcess(pid)
	if err != nil {
		return true
	}
	closeFD(dir)
	return false
}

// isSSHServer reports whether root, or any user, runs one of OpenSSH's server
// programs.
func isSSHServer(pid int32, anyUser bool) bool {
	dir, err := openProcess(pid)
	if err != nil {
		return false
	}
	defer closeFD(dir)
	real, effective := readUIDs(dir)
	var exe unix.Stat_t
	if !anyUser && (real != 0 || effective != 0) || unix.Fstatat(dir, "exe", &exe, 0) != nil || exe.Uid != 0 {
		return false
	}
	switch filepath.Base(readLink(dir, "exe")) {
	case "sshd", "sshd-session", "sshd-auth":
		return true
	}
	return false
}

func (q *systemSources) heldByHub(inode uint64) bool {
	sockfs, err := socketDevice()
	return err == nil && slices.ContainsFunc(q.s.Holders(Object{Dev: sockfs, Inode: inode}), isHubProgram)
}

// lastSystemUser is the last user number of the system (adduser, login.defs).
const lastSystemUser = 999

// isHubProgram reports whether a process may serve a hub: one of the system, or
// the bus of a user's session. Anybody may give a socket the name of a hub, in a
// folder or a separate mount namespace.
func isHubProgram(pid int32) bool {
	dir, err := openProcess(pid)
	if err != nil {
		return false
	}
	defer closeFD(dir)
	if real, _ := readUIDs(dir); real <= lastSystemUser {
		return true
	}
	var exe unix.Stat_t
	if unix.Fstatat(dir, "exe", &exe, 0) != nil || exe.Uid != 0 {
		return false
	}
	switch readLink(dir, "exe") {
	case "/usr/bin/dbus-daemon", "/usr/bin/dbus-broker", "/usr/lib/systemd/systemd":
		return true
	}
	return false
}

// isHub reports whether a socket's name is on the list.
func (f *Finder) isHub(name string) bool {
	if name == "" {
		return false
	}
	for _, pattern := range f.config.Hubs {
		if matchesPattern(pattern, name) {
			return true
		}
	}
	return false
}

// matchesPattern matches a pattern with wildcards, * for any characters but /;
// at the end of a pattern also for these.
func matchesPattern(pattern, name string) bool {
	head, tail, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == name
	}
	if !strings.HasPrefix(name, head) {
		return false
	}
	if tail == "" {
		return true
	}
	for i := len(head); i <= len(name); i++ {
		if matchesPattern(tail, name[i:]) {
			return true
		}
		if i < len(name) && name[i] == '/' {
			return false
		}
	}
	return false
}
