//go:build linux

package diag

import (
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// Namespaces keeps one Conn per network namespace. A namespace is identified by
// the inode of /proc/PID/ns/net.
type Namespaces struct {
	mu    sync.Mutex // guards conns
	conns map[uint32]*Conn
	own   uint32
}

// maxNamespaces bounds the open sockets. When there are more namespaces all but
// our own are closed, since each can be opened again for a few system calls.
const maxNamespaces = 256

// OpenNamespaces opens the caller's own namespace.
func OpenNamespaces() (*Namespaces, error) {
	own, err := NamespaceOf("/proc/thread-self")
	if err != nil {
		return nil, err
	}
	c, err := Open()
	if err != nil {
		return nil, err
	}
	return &Namespaces{conns: map[uint32]*Conn{own: c}, own: own}, nil
}

// Own is the namespace in which the process started.
func (n *Namespaces) Own() uint32 { return n.own }

// Close closes all sockets.
func (n *Namespaces) Close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range n.conns {
		c.Close()
	}
	clear(n.conns)
}

// In returns the Conn of a namespace; pid is a process in it.
func (n *Namespaces) In(ns uint32, pid int32) (*Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if c := n.conns[ns]; c != nil {
		return c, nil
	}
	if len(n.conns) >= maxNamespaces {
		for id, c := range n.conns {
			if id != n.own {
				c.Close()
				delete(n.conns, id)
			}
		}
	}
	var c *Conn
	err := Inside(pid, func() error {
		id, err := NamespaceOf("/proc/thread-self")
		if err == nil && id != ns {
			err = fmt.Errorf("process %d left network namespace %d", pid, ns)
		}
		if err == nil {
			c, err = Open()
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	n.conns[ns] = c
	return c, nil
}

// NamespaceOf is the network namespace of the process at a folder of /proc.
func NamespaceOf(proc string) (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat(proc+"/ns/net", &st); err != nil {
		return 0, fmt.Errorf("network namespace of %s: %w", proc, err)
	}
	return uint32(st.Ino), nil
}

// Inside runs do in the network namespace of a process. It must not start
// goroutines that open sockets.
func Inside(pid int32, do func() error) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return fmt.Errorf("open network namespace: %w", err)
	}
	defer ns.Close()
	done := make(chan error, 1)
	go func() {
		// The thread is not unlocked: it ends with the goroutine, so no
		// other goroutine ever runs in the wrong namespace.
		runtime.LockOSThread()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		done <- do()
	}()
	return <-done
}
