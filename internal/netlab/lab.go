// Package netlab builds small networks out of Linux network namespaces, so
// that tests and recordings run real programs over real links without any of
// their traffic leaving the machine.
//
// A Lab holds Nodes (one namespace each, visible to "ip netns"); Wire joins
// two of them, and a Node takes addresses, routes, bridges and programs:
//
//	lab := netlab.For(t)
//	nodes, err := lab.Nodes("client", "router", "server")
//	client, router, server := nodes[0], nodes[1], nodes[2]
//	err = errors.Join(
//		lab.Wire(client, "eth0", router, "left"),
//		client.Address("eth0", netip.MustParsePrefix("10.0.1.2/24")),
//		...
//		router.Forward(),
//	)
//
// Links are made over netlink rather than by the ip program: it is several
// times faster, failures are typed, and an interface can be created inside its
// namespace, so names never clash with those of the machine. Programs are started
// through "ip netns exec", which also gives them the /sys and the resolv.conf
// of their namespace.
//
// Close kills the processes left in the namespaces and deletes them. The next New
// removes the Lab of a process that was killed.
package netlab

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const (
	namesDir  = "/run/netns" // where ip-netns(8) keeps named namespaces
	configDir = "/etc/netns" // files that "ip netns exec" mounts over /etc
)

// Lab is a set of namespaces that are deleted together. It is built by one
// goroutine; programs may be run by many.
type Lab struct {
	id    string // prefix of all names: dragnet-<pid>-<random>-
	nodes []*Node

	mu        sync.Mutex
	processes []*Process // in order of Start
}

// New starts an empty Lab, after removing those whose process is gone. It
// needs root.
func New() (*Lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root: run this with sudo")
	}
	if err := shareNamesDir(); err != nil {
		return nil, fmt.Errorf("prepare %s for named network namespaces: %w", namesDir, err)
	}
	if err := sweepLeftovers(); err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%s%d-%s-", prefix, os.Getpid(), strings.ToLower(rand.Text()[:6]))
	return &Lab{id: id}, nil
}

// Nodes adds a namespace per name, each with its loopback up.
func (l *Lab) Nodes(names ...string) ([]*Node, error) {
	added := make([]*Node, 0, len(names))
	for _, name := range names {
		n, err := l.addNode(name)
		if err != nil {
			return nil, fmt.Errorf("node %s: %w", name, err)
		}
		added = append(added, n)
	}
	return added, nil
}

func (l *Lab) addNode(name string) (*Node, error) {
	for _, n := range l.nodes {
		if n.Name == name {
			return nil, errors.New("the lab already has a node of that name")
		}
	}
	full := l.id + name
	ns, err := newNamespace(full)
	if err != nil {
		return nil, err
	}
	n := &Node{Name: name, Namespace: full, lab: l, ns: ns}
	l.nodes = append(l.nodes, n) // from now on Close removes it
	if n.links, err = netlink.NewHandleAt(ns, syscall.NETLINK_ROUTE); err != nil {
		return nil, err
	}
	// Addresses must work at once: no duplicate address detection.
	return n, errors.Join(n.Sysctl("net.ipv6.conf.default.accept_dad", "0"), n.bringUp("lo"))
}

// newNamespace makes a named namespace without moving the caller into it.
func newNamespace(name string) (netns.NsHandle, error) {
	return onThread(func() (netns.NsHandle, error) { return netns.NewNamed(name) })
}

// onThread runs f on a locked thread and returns that thread to its namespace. A
// thread that cannot return is discarded: the goroutine ends locked, and the
// runtime ends the thread with it.
func onThread[T any](f func() (T, error)) (T, error) {
	var (
		result T
		err    error
		done   = make(chan struct{})
	)
	go func() {
		defer close(done)
		runtime.LockOSThread()
		var home netns.NsHandle
		if home, err = netns.Get(); err != nil {
			runtime.UnlockOSThread()
			return
		}
		defer home.Close()
		result, err = f()
		if back := netns.Set(home); back != nil {
			err = errors.Join(err, fmt.Errorf("return to the first namespace: %w", back))
			return
		}
		runtime.UnlockOSThread()
	}()
	<-done
	return result, err
}

// Wire joins two nodes by a veth pair, up on both ends. Checksum and
// segmentation offloads are off, so that a capture shows packets as a wire
// would carry them.
func (l *Lab) Wire(a *Node, devA string, b *Node, devB string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = devA
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: devB, PeerNamespace: netlink.NsFd(b.ns)}
	if err := a.links.LinkAdd(pair); err != nil {
		return fmt.Errorf("wire %s:%s to %s:%s: %w", a.Name, devA, b.Name, devB, err)
	}
	return errors.Join(a.disableOffloads(devA), b.disableOffloads(devB), a.bringUp(devA), b.bringUp(devB))
}

// Close kills every program that runs in the Lab's namespaces, however it was
// started, and deletes the namespaces. It may be called twice.
func (l *Lab) Close() error {
	l.mu.Lock()
	processes := l.processes
	l.processes = nil
	l.mu.Unlock()
	var errs []error
	for i := len(processes) - 1; i >= 0; i-- {
		errs = append(errs, processes[i].Stop())
	}
	names := make([]string, 0, len(l.nodes))
	for _, n := range l.nodes {
		names = append(names, n.Namespace)
		if n.links != nil {
			n.links.Close()
		}
		errs = append(errs, n.ns.Close())
	}
	l.nodes = nil
	return errors.Join(append(errs, removeNamespaces(names))...)
}

// removeNamespaces deletes named namespaces with their programs and files.
func removeNamespaces(names []string) error {
	errs := []error{killResidents(names)}
	for _, name := range names {
		errs = append(errs, ignoreMissing(deleteNamed(name)), os.RemoveAll(filepath.Join(configDir, name)))
	}
	return errors.Join(errs...)
}

// deleteNamed deletes a namespace. A process that was killed while it made one, or
// another that deletes it at this moment, leaves a file that nothing is mounted on.
func deleteNamed(name string) error {
	err := netns.DeleteNamed(name)
	if errors.Is(err, syscall.EINVAL) {
		return os.Remove(filepath.Join(namesDir, name))
	}
	return err
}

// ignoreMissing ignores that another process removed the same leftovers.
func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
