//go:build linux

package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"
)

// EventKind is what an event of the recorder is about.
type EventKind uint32

// The values that record.c writes.
const (
	Forked EventKind = 1 + iota
	Executed
	Exited
	Opened
	Closed
)

// ProcessID identifies a process: PIDs are used again, with another start.
type ProcessID struct {
	PID   int32
	Start uint64 // ns since boot, suspend included
}

// Event is one event. Connections fill in the second part.
type Event struct {
	Kind EventKind
	Time uint64 // ns since boot, suspend included
	// ID is the process, or one that holds the connection; its PID is 0 if none
	// is seen.
	ID  ProcessID
	UID uint32

	Parent         ProcessID // who started it, or its parent if Kind is not Forked
	Login, Session uint32    // of the audit system; all bits set if unset
	Name           string
	Terminal       string // such as pts3
	Cgroup         string // last part of its path
	Arguments      []string

	Opener        ProcessID
	Started       uint64 // ns since boot
	Direction     Direction
	NetNS         uint32
	Local, Remote netip.AddrPort
}

// Sizes of the events in record.c; those of FORKED and EXITED end before the
// terminal.
const (
	processHead    = 8 + 4 + 4 + 8 + 8 + 4*4 + 16
	maxArguments   = 192
	processSize    = processHead + 16 + 80 + 4 + maxArguments + 4
	connectionSize = 8 + 4 + 4 + 8 + 8 + 8 + 4*3 + 2*2 + 16*2 + 8
)

func parseEvent(b []byte) (Event, error) {
	n := binary.NativeEndian
	if len(b) < 12 {
		return Event{}, fmt.Errorf("event of %d octets", len(b))
	}
	e := Event{Time: n.Uint64(b), Kind: EventKind(n.Uint32(b[8:]))}
	want := processHead
	switch e.Kind {
	case Executed:
		want = processSize
	case Opened, Closed:
		want = connectionSize
	}
	if len(b) < want {
		return e, fmt.Errorf("event %d of %d octets, want %d: the programs are of another version", e.Kind, len(b), want)
	}
	e.ID = ProcessID{int32(n.Uint32(b[12:])), n.Uint64(b[16:])}
	if want == connectionSize {
		e.parseConnection(b)
		return e, nil
	}
	e.Parent = ProcessID{int32(n.Uint32(b[32:])), n.Uint64(b[24:])}
	e.UID, e.Login, e.Session = n.Uint32(b[36:]), n.Uint32(b[40:]), n.Uint32(b[44:])
	e.Name = unix.ByteSliceToString(b[48:64])
	if e.Kind == Executed {
		e.Terminal = unix.ByteSliceToString(b[64:80])
		e.Cgroup = unix.ByteSliceToString(b[80:160])
		size := min(n.Uint32(b[160:]), maxArguments)
		if text := strings.TrimRight(string(b[164:164+size]), "\x00"); text != "" {
			e.Arguments = strings.Split(text, "\x00")
		}
	}
	return e, nil
}

func (e *Event) parseConnection(b []byte) {
	n := binary.NativeEndian
	e.Started = n.Uint64(b[24:])
	e.Opener = ProcessID{int32(n.Uint32(b[40:])), n.Uint64(b[32:])}
	e.UID, e.NetNS = n.Uint32(b[44:]), n.Uint32(b[48:])
	local, remote := netip.AddrFrom16([16]byte(b[56:])), netip.AddrFrom16([16]byte(b[72:]))
	if b[88] == unix.AF_INET {
		local, remote = netip.AddrFrom4([4]byte(b[56:])), netip.AddrFrom4([4]byte(b[72:]))
	}
	e.Local = netip.AddrPortFrom(local.Unmap(), n.Uint16(b[52:]))
	e.Remote = netip.AddrPortFrom(remote.Unmap(), n.Uint16(b[54:]))
	e.Direction = Direction(b[89])
}

// EventReader reads the events of record.c.
type EventReader struct {
	objects recorderObjects
	links   []link.Link
	ring    *ringbuf.Reader
}

// LoadEvents loads the programs for the caller's pid namespace. It needs what
// Load needs.
func LoadEvents(arguments bool) (*EventReader, error) {
	if err := checkRights(); err != nil {
		return nil, err
	}
	spec, err := loadRecorder()
	if err != nil {
		return nil, fmt.Errorf("read embedded eBPF object: %w", err)
	}
	var ns unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &ns); err != nil {
		return nil, fmt.Errorf("find own pid namespace: %w", err)
	}
	with := uint32(0)
	if arguments {
		with = 1
	}
	if err := errors.Join(spec.Variables["pid_namespace"].Set(uint32(ns.Ino)), spec.Variables["with_arguments"].Set(with)); err != nil {
		return nil, fmt.Errorf("configure eBPF programs: %w", err)
	}
	r := new(EventReader)
	if err := spec.LoadAndAssign(&r.objects, nil); err != nil {
		return nil, fmt.Errorf("load eBPF programs of the recorder: %w", err)
	}
	if r.ring, err = ringbuf.NewReader(r.objects.Events); err != nil {
		r.objects.Close()
		return nil, fmt.Errorf("read events: %w", err)
	}
	for _, p := range []*ebpf.Program{r.objects.Forked, r.objects.Executed, r.objects.Exited, r.objects.Changed} {
		l, err := link.AttachTracing(link.TracingOptions{Program: p})
		if err != nil {
			r.Close()
			return nil, fmt.Errorf("attach to a tracepoint: %w", err)
		}
		r.links = append(r.links, l)
	}
	return r, nil
}

// Close detaches the programs.
func (r *EventReader) Close() error {
	var errs []error
	for _, l := range r.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, r.ring.Close(), r.objects.Close())...)
}

// Drain calls see for each event that waits, and returns when none is left. Poll
// it: the programs wake no reader.
func (r *EventReader) Drain(see func(Event)) error {
	r.ring.SetDeadline(time.Unix(1, 0)) // do not wait
	var record ringbuf.Record
	for {
		err := r.ring.ReadInto(&record)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		if err != nil {
			return err
		}
		e, err := parseEvent(record.RawSample)
		if err != nil {
			return err
		}
		see(e)
	}
}

// Lost counts events for which the ring had no room.
func (r *EventReader) Lost() (n uint64, err error) {
	var each []uint64
	if err := r.objects.Lost.Lookup(uint32(0), &each); err != nil {
		return 0, fmt.Errorf("count lost events: %w", err)
	}
	for _, c := range each {
		n += c
	}
	return n, nil
}
