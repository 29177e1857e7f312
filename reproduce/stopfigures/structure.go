//go:build linux

package stopfigures

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"time"

	"dragnet/trace/walk"

	"golang.org/x/sys/unix"
)

// structure is a set of running processes, one of which holds the connection
// that is asked about. They are children of PID 1, so that the walk does not
// reach the measuring program.
type structure struct {
	mark          string // in their environment
	local, remote netip.AddrPort
}

// markName is the environment variable that the processes of a structure share.
const markName = "DRAGNET_STRUCTURE="

// newStructure also keeps our inherited descriptors out of the processes: a
// pipe held by all of them would connect them to the process that started us.
func newStructure() *structure {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if fd, err := strconv.Atoi(e.Name()); err == nil && fd > 2 {
			unix.CloseOnExec(fd)
		}
	}
	return &structure{mark: rand.Text()}
}

// startScript runs a shell script as a child of PID 1; extra files are
// descriptors 3, 4 ...
func (s *structure) startScript(script string, files ...*os.File) error {
	cmd := exec.Command("setsid", "--fork", "sh", "-c", script)
	cmd.Env = append(os.Environ(), markName+s.mark)
	cmd.ExtraFiles = files
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("start processes: %w", err)
	}
	return nil
}

// killAll kills every process that carries the mark.
func (s *structure) killAll() {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		env, _ := os.ReadFile("/proc/" + e.Name() + "/environ")
		if !bytes.Contains(env, []byte(markName+s.mark)) {
			continue
		}
		if p, err := os.FindProcess(pid); err == nil {
			p.Kill()
		}
	}
}

// openConnection makes a TCP connection over loopback. With half, the far end
// is closed, so that the near one looks like a connection to another machine.
func openConnection(half bool) (near, far *os.File, err error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	defer l.Close()
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	a, err := l.Accept()
	if err != nil {
		return nil, nil, err
	}
	defer a.Close()
	near, err = c.(*net.TCPConn).File()
	if err != nil || half {
		return near, nil, err
	}
	far, err = a.(*net.TCPConn).File()
	return near, far, err
}

func (s *structure) setAsked(f *os.File) error {
	c, err := net.FileConn(f)
	if err != nil {
		return err
	}
	defer c.Close()
	s.local, s.remote = c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	return nil
}

// startTree starts the paper's figure 3: a line of six processes, PID 1 included,
// of which the last holds the connection.
func startTree() (*structure, error) {
	near, _, err := openConnection(true)
	if err != nil {
		return nil, err
	}
	defer near.Close()
	s := newStructure()
	// The shell starts itself with a smaller count each time, and keeps nothing
	// open.
	const line = `S='if [ $1 -gt 1 ]; then sh -c "$S" sh $(($1-1)) & exec 3>&-; wait; else exec sleep 9999; fi'; export S; set -- 5; eval "$S"`
	return s, errors.Join(s.setAsked(near), s.startScript(line, near))
}

// startFigure4 starts 14 processes, PID 1 included, in three groups, with six pipes
// and TCP connections between them. The paper's drawing is lost; its counts
// are kept.
func startFigure4() (*structure, error) {
	oneOut, twoIn, err := openConnection(false)
	if err != nil {
		return nil, err
	}
	twoOut, threeIn, err2 := openConnection(false)
	asked, _, err3 := openConnection(true)
	if err := errors.Join(err2, err3); err != nil {
		return nil, err
	}
	for _, f := range []*os.File{oneOut, twoIn, twoOut, threeIn, asked} {
		defer f.Close()
	}
	s := newStructure()
	group := func(pipeline, closing string) string {
		return fmt.Sprintf(`sh -c '%s & exec %s; wait' & exec %s; wait`, pipeline, closing, closing)
	}
	return s, errors.Join(s.setAsked(asked),
		s.startScript(group("sleep 9999 3>&- | sleep 9999 3>&- | sleep 9999", "3>&-"), oneOut),
		s.startScript(group("sleep 9999 4>&- | sleep 9999 3>&- 4>&- | sleep 9999 3>&-", "3>&- 4>&-"), twoIn, twoOut),
		s.startScript(group("sleep 9999", "3>&- 4>&-"), threeIn, asked))
}

// startBystanders starts processes with the paper's six descriptors each: three
// standard ones, two ends of pipes and a file.
func startBystanders(n int) (*structure, error) {
	s := newStructure()
	for range n {
		r, w, err := os.Pipe()
		if err != nil {
			return s, err
		}
		f, err := os.Open("/etc/passwd")
		if err == nil {
			err = s.startScript("exec sleep 9999", r, w, f)
			f.Close()
		}
		r.Close()
		w.Close()
		if err != nil {
			return s, err
		}
	}
	return s, nil
}

// awaitProcesses waits until a walk from the structure's connection finds the number
// of processes it was built of.
func (s *structure) awaitProcesses(f *walk.Finder, processes int) error {
	found := 0
	for range 400 {
		k, err := f.Find(s.local, s.remote)
		if err == nil {
			w, err := f.Walk(k)
			if err != nil {
				return err
			}
			if found = len(w.Steps); found == processes {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("the walk finds %d processes, but %d were started: is there a process between them and PID 1", found, processes)
}
