//go:build linux

package walk

import (
	"fmt"
	"maps"
	"net/netip"
	"testing"

	"dragnet/trace/kernel"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// machine is a random set of processes and of things they share. It is both
// what a snapshot is made from and what the slow twin looks at.
type machine struct {
	parents map[int32]int32
	held    map[int32][]opened
	peers   map[uint64]uint64 // UNIX sockets
	tcp     map[uint64]Socket
}

func (m machine) parentOf(pid int32) int32                           { return m.parents[pid] }
func (m machine) unixPeer(_ int32, inode uint64) (p uint64, ok bool) { p, ok = m.peers[inode]; return }

func (m machine) awaitsLogin(int32, int32) bool { return false }

// opened is an object as one process has it open.
type opened struct {
	Object
	access uint8
}

const readWrite = kernel.AccessRead | kernel.AccessWrite

func (m machine) snapshot() *Snapshot {
	s := newSnapshot(16)
	for pid, objects := range m.held {
		for _, o := range objects {
			s.addObject(Process{PID: pid, Parent: m.parents[pid]}, o.Object, o.access)
		}
	}
	for _, k := range m.tcp {
		s.addSocket(k)
	}
	return s
}

// slow is the definition: a process belongs if it holds the object, or if it
// belongs in one of two directions: in each it is the parent of one that does,
// holds the other end of a socket that one holds, or writes into a pipe from
// which one reads (towards the connection; the other way round away from it);
// repeated over all pairs until nothing changes.
func (m machine) slow(start Object) map[int32]bool {
	all := map[int32]bool{}
	for _, toSocket := range []bool{true, false} {
		in := map[int32]bool{}
		for pid, objects := range m.held {
			for _, o := range objects {
				if o.Object == start {
					in[pid] = true
				}
			}
		}
		for before := -1; before != len(in); {
			before = len(in)
			for a := range in {
				if a == 1 {
					continue
				}
				if p := m.parents[a]; p > 0 {
					in[p] = true
				}
				for b := range m.held {
					if toSocket && m.passes(b, a) || !toSocket && m.passes(a, b) {
						in[b] = true
					}
				}
			}
		}
		maps.Copy(all, in)
	}
	return all
}

// passes reports whether data may get from process a to process b.
func (m machine) passes(a, b int32) bool {
	for _, x := range m.held[a] {
		for _, y := range m.held[b] {
			switch {
			case x.Pipe != y.Pipe:
			case x.Pipe && x.Object == y.Object && x.access&kernel.AccessWrite != 0 && y.access&kernel.AccessRead != 0:
				return true
			case !x.Pipe && (m.peers[x.Inode] == y.Inode || m.connected(x.Inode, y.Inode)):
				return true
			}
		}
	}
	return false
}

func (m machine) connected(x, y uint64) bool {
	a, ok1 := m.tcp[x]
	b, ok2 := m.tcp[y]
	return ok1 && ok2 && x != y && a.Local == b.Remote && a.Remote == b.Local
}

func drawMachine(t *rapid.T) machine {
	m := machine{parents: map[int32]int32{}, held: map[int32][]opened{}, peers: map[uint64]uint64{}, tcp: map[uint64]Socket{}}
	n := int32(rapid.IntRange(2, 14).Draw(t, "processes"))
	for pid := int32(2); pid <= n; pid++ {
		m.parents[pid] = rapid.Int32Range(1, pid-1).Draw(t, "parent")
	}
	give := func(o Object) {
		for range rapid.IntRange(1, 3).Draw(t, "holders") {
			pid := rapid.Int32Range(1, n).Draw(t, "holder")
			access := uint8(readWrite)
			if o.Pipe {
				access = rapid.Uint8Range(1, readWrite).Draw(t, "access")
			}
			m.held[pid] = append(m.held[pid], opened{o, access})
		}
	}
	inode := uint64(100)
	for range rapid.IntRange(1, 10).Draw(t, "shared things") {
		a, b := inode, inode+1
		inode += 2
		switch rapid.IntRange(0, 2).Draw(t, "what") {
		case 0:
			give(Object{Inode: a, Pipe: true})
		case 1:
			m.peers[a], m.peers[b] = b, a
			give(Object{Inode: a})
			give(Object{Inode: b})
		case 2:
			x, y := local(a), local(b)
			m.tcp[a] = Socket{Inode: a, Local: x, Remote: y, State: 1}
			m.tcp[b] = Socket{Inode: b, Local: y, Remote: x, State: 1}
			give(Object{Inode: a})
			give(Object{Inode: b})
		}
	}
	return m
}

func local(port uint64) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(port))
}

func TestClosureAgainstItsDefinition(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := drawMachine(t)
		start := Object{Inode: 50}
		owner := rapid.Int32Range(1, 14).Draw(t, "owner")
		m.held[owner] = append(m.held[owner], opened{start, readWrite})
		got := map[int32]bool{}
		c := m.snapshot().computeClosure(start, m, 1000, 1)
		for _, st := range c.Steps {
			if got[st.PID] {
				t.Fatalf("process %d twice", st.PID)
			}
			got[st.PID] = true
		}
		if diff := cmp.Diff(m.slow(start), got); diff != "" {
			t.Fatalf("closure differs (-want +got):\n%s", diff)
		}
		if c.Truncated {
			t.Fatal("truncated below the limit")
		}
	})
}

// TestClosureOfNetcatPipe is the paper's example: nc -l -p 8888 | nc next 8889.
func TestClosureOfNetcatPipe(t *testing.T) {
	pipe, out := Object{Inode: 7, Pipe: true}, opened{Object{Inode: 8}, readWrite}
	m := machine{
		parents: map[int32]int32{10: 5, 11: 5, 5: 4, 4: 1, 20: 1},
		held: map[int32][]opened{
			10: {{pipe, kernel.AccessWrite}, {Object{Inode: 9}, readWrite}}, 11: {{pipe, kernel.AccessRead}, out}, 20: {{Object{Inode: 30}, readWrite}},
		},
	}
	c := m.snapshot().computeClosure(out.Object, m, 1000, 1)
	want := []Step{
		{PID: 11, Via: Owner, Inode: 8}, {PID: 5, Via: ParentOf, From: 11}, {PID: 10, Via: PipeWith, From: 11, Inode: 7},
		{PID: 4, Via: ParentOf, From: 5}, {PID: 1, Via: ParentOf, From: 4},
	}
	if diff := cmp.Diff(want, c.Steps); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestClosureIsBounded(t *testing.T) {
	pipe := Object{Inode: 7, Pipe: true}
	m := machine{held: map[int32][]opened{}}
	for pid := int32(2); pid < 500; pid++ {
		m.held[pid] = []opened{{pipe, readWrite}}
	}
	if c := m.snapshot().computeClosure(pipe, m, 100); len(c.Steps) != 100 || !c.Truncated {
		t.Errorf("%d steps, truncated %v", len(c.Steps), c.Truncated)
	}
}

func TestPeerAcrossNamespaces(t *testing.T) {
	a, b := netip.MustParseAddrPort("172.17.0.1:40000"), netip.MustParseAddrPort("172.17.0.2:80")
	for _, c := range []struct {
		others  []uint32 // namespaces with a socket at the other end
		foreign []uint32 // those of them that a user made
		want    string
	}{
		{[]uint32{1}, nil, "1 here"}, {[]uint32{2}, nil, "2 here"}, {[]uint32{2, 1}, nil, "1 here"}, {[]uint32{2, 3}, nil, "none"}, {nil, nil, "none"},
		{[]uint32{2}, []uint32{2}, "2 elsewhere"}, {[]uint32{2, 3}, []uint32{3}, "2 here"}, {[]uint32{2, 3}, []uint32{2, 3}, "none"},
	} {
		s := newSnapshot(4)
		here := Socket{Inode: 9, NetNS: 1, Local: a, Remote: b, State: 1}
		s.addSocket(here)
		for i, ns := range c.others {
			s.addSocket(Socket{Inode: uint64(20 + i), NetNS: ns, Local: b, Remote: a, State: 1})
		}
		for _, ns := range c.foreign {
			s.foreign[ns] = true
		}
		got := "none"
		if k, ours := s.findPeer(here); ours {
			got = fmt.Sprint(k.NetNS, " here")
		} else if k.Inode != 0 {
			got = fmt.Sprint(k.NetNS, " elsewhere")
		}
		if got != c.want {
			t.Errorf("%v, foreign %v: peer in namespace %s, want %s", c.others, c.foreign, got, c.want)
		}
	}
}

// TestSharedLogJoinsNoProcesses has two services that write into one log, and a
// logger that reads it: neither is behind the other.
func TestSharedLogJoinsNoProcesses(t *testing.T) {
	log, out := Object{Inode: 7, Pipe: true}, Object{Inode: 8}
	m := machine{
		parents: map[int32]int32{10: 1, 11: 1, 12: 1},
		held: map[int32][]opened{
			10: {{log, kernel.AccessWrite}, {out, readWrite}},
			11: {{log, kernel.AccessWrite}, {Object{Inode: 9}, readWrite}},
			12: {{log, kernel.AccessRead}},
		},
	}
	c := m.snapshot().computeClosure(out, m, 1000, 1)
	if c.Has(11) || !c.Has(12) || !c.Has(1) {
		t.Errorf("%+v", c.Steps)
	}
}
