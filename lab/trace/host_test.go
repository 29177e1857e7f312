// Package trace_test runs chains of connections through real hosts: each has
// its own network, process and host-name namespace, and runs the agent's
// binary beside OpenSSH, netcat and socat.
package trace_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"dragnet/internal/netlab"
	"dragnet/internal/testkit"
	"dragnet/trace/chain"
)

// TestMain keeps descriptors that were inherited from whatever started the test
// out of the hosts: a pipe that all of them held would join all their
// processes.
func TestMain(m *testing.M) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			syscall.CloseOnExec(fd)
		}
	}
	if err := playRole(); err != errNoRole {
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var err error
	if binaries, err = os.MkdirTemp("", "trace-lab-"); err == nil {
		err = build(binaries)
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, err)
	}
	os.RemoveAll(binaries)
	os.Exit(code)
}

var errNoRole = errors.New("the test itself")

// playRole does what a program of a host does, if the test was started as one.
func playRole() error {
	if address := os.Getenv("SERVE_CONNECTIONS"); address != "" {
		acceptAll(address)
		return nil
	}
	if address := os.Getenv("FLOOD_CONNECTIONS"); address != "" {
		return openAll(address)
	}
	if how := strings.Split(os.Getenv("RELAY_CONNECTIONS"), ","); len(how) == 3 {
		return relay(how[0], how[1], how[2])
	}
	return errNoRole
}

// binaries is the folder of both programs, made by TestMain.
var binaries string

// lab is a switch with hosts 10.0.0.1, 10.0.0.2 ... on it, and the
// investigator's machine, which is also the victim.
type lab struct {
	t           *testing.T
	net         *netlab.Lab
	dir         string
	agent, tool string // binaries
	hosts       []*host
	victim      *netlab.Node
}

// host is one machine.
type host struct {
	lab   *lab
	node  *netlab.Node
	name  string
	addr  netip.Addr
	init  int // PID 1 of the host, as the test sees it
	state string
	ident *exec.Cmd

	floodable bool // it serves connections that others open
}

const victimAddr = "10.0.0.100"

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	for _, tool := range []string{"unshare", "nsenter", "nc", "socat", "ssh", "sshd", "ssh-keygen", "oidentd"} {
		testkit.Tool(t, tool)
	}
	l := &lab{t: t, net: netlab.For(t), dir: t.TempDir()}
	l.agent, l.tool = filepath.Join(binaries, "dragnet-agent"), filepath.Join(binaries, "dragnet")
	nodes, err := l.net.Nodes(append([]string{"switch", "victim"}, names...)...)
	if err != nil {
		t.Fatal(err)
	}
	var ports []string
	plug := func(n *netlab.Node, address string) {
		port := "p" + strconv.Itoa(len(ports))
		ports = append(ports, port)
		err := errors.Join(l.net.Wire(n, "eth0", nodes[0], port), n.Address("eth0", netip.MustParsePrefix(address+"/24")))
		if err != nil {
			t.Fatal(err)
		}
	}
	l.victim = nodes[1]
	plug(l.victim, victimAddr)
	for i, n := range nodes[2:] {
		addr := netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)})
		plug(n, addr.String())
		l.hosts = append(l.hosts, l.boot(n, addr))
	}
	if err := nodes[0].Bridge("br0", ports...); err != nil {
		t.Fatal(err)
	}
	return l
}

// build compiles the two programs as they are released.
func build(dir string) error {
	for name, cgo := range map[string]string{"dragnet-agent": "CGO_ENABLED=0", "dragnet": "CGO_ENABLED=1"} {
		cmd := exec.Command("go", "build", "-o", filepath.Join(dir, name), "dragnet/cmd/"+name)
		cmd.Env = append(os.Environ(), cgo)
		if b, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, b)
		}
	}
	return nil
}

// boot starts PID 1 of a host. Its /sys is new, so the cgroup tree is mounted
// again: the agent looks for it.
func (l *lab) boot(n *netlab.Node, addr netip.Addr) *host {
	h := &host{lab: l, node: n, name: n.Name, addr: addr, state: filepath.Join(l.dir, n.Name)}
	p, err := n.Start("unshare", "--fork", "--pid", "--mount-proc", "--uts", "--kill-child", "sh", "-c",
		"hostname "+n.Name+"; mount -t cgroup2 cgroup2 /sys/fs/cgroup && echo up; exec sleep infinity")
	if err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(l.t.Context(), 10*time.Second)
	defer cancel()
	if err := p.Await(ctx, "up"); err != nil {
		l.t.Fatal(err)
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.Pid(), p.Pid()))
	if err == nil {
		h.init, err = strconv.Atoi(strings.TrimSpace(string(b)))
	}
	if err != nil {
		l.t.Fatal(err)
	}
	// PID 1 of a namespace ignores SIGTERM; without it the host is gone.
	l.t.Cleanup(func() { syscall.Kill(h.init, syscall.SIGKILL) })
	return h
}

// command prepares a shell command on a host; it ends with the test.
func (h *host) command(shell string) *exec.Cmd {
	return exec.Command("nsenter", "-t", strconv.Itoa(h.init), "-p", "-m", "-u", "-n", "--", "sh", "-c", shell)
}

// start runs a command in the background; its input stays open.
func (h *host) start(shell string) *exec.Cmd {
	h.lab.t.Helper()
	cmd := h.command(shell)
	log, err := os.OpenFile(filepath.Join(h.lab.dir, h.name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		h.lab.t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	in, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		h.lab.t.Fatal(err)
	}
	h.lab.t.Cleanup(func() {
		in.Close()
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
		if h.lab.t.Failed() {
			b, _ := os.ReadFile(log.Name())
			h.lab.t.Logf("%s, after %s:\n%s", h.name, shell, b)
		}
	})
	return cmd
}

// run runs a command to its end.
func (h *host) run(shell string) (string, error) {
	b, err := h.command(shell).CombinedOutput()
	return string(b), err
}

// await waits until a TCP port is listened on.
func (h *host) await(port int) {
	h.lab.t.Helper()
	h.until(fmt.Sprintf("somebody listens on %d", port), fmt.Sprintf("ss -tlnH sport = %d", port))
}

// until repeats a command until it prints something.
func (h *host) until(what, shell string) {
	h.lab.t.Helper()
	for range 200 {
		if out, err := h.run(shell); err == nil && out != "" {
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	h.lab.t.Fatalf("%s: it never came that %s", h.name, what)
}

// daemon runs the agent; hosts of the lab and the investigator may ask for
// everything and redeem by calling. Further lines go to its configuration.
func (h *host) daemon(investigator string, further ...string) {
	h.lab.t.Helper()
	config := h.state + ".yaml"
	text := fmt.Sprintf(`state: %s
askers:
  - {network: 10.0.0.0/24, kinds: [SV, ID_REC, SV_REC], remote: true}
recursion: {timeout: 3s}
redeem: {listen: ":1113", investigators: [%q]}
%s
`, h.state, investigator, strings.Join(further, "\n"))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		h.lab.t.Fatal(err)
	}
	h.ident = h.start("exec " + h.lab.agent + " run ident --config " + config)
	h.await(113)
	h.await(1113)
}

// kill ends the daemon at once, as an intruder would.
func (h *host) kill() {
	h.lab.t.Helper()
	// nsenter waits for the agent, its only child.
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", h.ident.Process.Pid, h.ident.Process.Pid))
	pid, err2 := strconv.Atoi(strings.TrimSpace(string(b)))
	if err := errors.Join(err, err2); err != nil {
		h.lab.t.Fatal(err)
	}
	syscall.Kill(pid, syscall.SIGKILL)
	for range 200 {
		if out, _ := h.run("ss -tlnH sport = 113"); out == "" {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	h.lab.t.Fatalf("%s: the daemon survived", h.name)
}

// key is a host's public key, as given by its administrator.
func (h *host) key() string {
	h.lab.t.Helper()
	out, err := h.run(h.lab.agent + " doctor -o json --config " + h.state + ".yaml 2>/dev/null")
	_, key, ok := strings.Cut(out, "investigators: ")
	if !ok {
		h.lab.t.Fatalf("%s: doctor: %v\n%s", h.name, err, out)
	}
	return key[:44]
}

// sshd gives a host a server that takes the lab's key.
func (h *host) sshd() {
	h.lab.t.Helper()
	l := h.lab
	if _, err := os.Stat(filepath.Join(l.dir, "id")); err != nil {
		for _, name := range []string{"id", "hostkey"} {
			if b, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(l.dir, name)).CombinedOutput(); err != nil {
				l.t.Fatalf("%v: %s", err, b)
			}
		}
		write := func(name, text string) {
			if err := os.WriteFile(filepath.Join(l.dir, name), []byte(text), 0o600); err != nil {
				l.t.Fatal(err)
			}
		}
		write("sshd_config", fmt.Sprintf("HostKey %[1]s/hostkey\nAuthorizedKeysFile %[1]s/id.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n", l.dir))
		write("ssh_config", fmt.Sprintf("IdentityFile %s/id\nStrictHostKeyChecking no\nUserKnownHostsFile /dev/null\nLogLevel ERROR\nUser root\n", l.dir))
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	path, _ := exec.LookPath("sshd")
	h.start(fmt.Sprintf("exec %s -D -e -f %s/sshd_config", path, l.dir))
	h.await(22)
}

// ssh is the client's command line up to its target.
func (l *lab) ssh() string { return "ssh -F " + l.dir + "/ssh_config" }

// trace runs the investigator's tool on the victim.
func (l *lab) trace(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	defer cancel()
	return l.victim.Run(ctx, l.tool, append([]string{"trace"}, args...)...)
}

// judged reads a case as JSON.
func (l *lab) judged(casePath string, args ...string) (g chain.Graph) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 60*time.Second)
	defer cancel()
	// The exit code may say that something was found.
	out, _ := l.victim.Command(ctx, l.tool, append([]string{"trace", "show", casePath, "-o", "json"}, args...)...).Output()
	if err := json.Unmarshal(out, &g); err != nil {
		l.t.Fatalf("%v: %s", err, out)
	}
	return g
}

// outline is a graph as "host status" lines, indented by depth.
func outline(n *chain.Node, depth int) string {
	text := fmt.Sprintf("%s%s %s", strings.Repeat(" ", depth), n.Host, n.Status)
	if n.Status == chain.Ident || n.Status == chain.Silent {
		text += ": " + n.Detail
	}
	lines := []string{text}
	for _, p := range n.Previous {
		lines = append(lines, outline(p, depth+1))
	}
	slices.Sort(lines[1:])
	return strings.Join(lines, "\n")
}
