//go:build linux

package bpf

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"dragnet/contain/ripcord/tables"
)

// Options configure the programs.
type Options struct {
	// Host and Net are the indices of the interfaces to the host and to the
	// network.
	Host, Net int
	Settings  tables.Settings
	// Room is how many connections of IPv4 and IPv6 the tables take. Tables
	// that are pinned already keep their size.
	Room [2]uint32
	// HalfOpen is how many of each family the tables of half-open ones take.
	HalfOpen uint32
	// Pins is a folder in a BPF file system where tables and links stay after
	// the process ends; empty pins nothing.
	Pins string

	testClock bool
}

// Wire is the pair of loaded programs and their tables.
type Wire struct {
	objects wireObjects
	pins    string
	links   []link.Link
	// Resumed reports that the tables existed already, with the connections of
	// an earlier process.
	Resumed bool
}

// sides are the names of the pinned links.
var sides = [...]string{tables.Out: "from_host", tables.In: "from_net"}

// Load loads the programs; Attach makes packets pass through them.
func Load(o Options) (*Wire, error) {
	spec, err := loadWire()
	if err != nil {
		return nil, fmt.Errorf("read embedded eBPF object: %w", err)
	}
	if err := o.setConstants(spec); err != nil {
		return nil, err
	}
	w := &Wire{pins: o.Pins}
	if w.Resumed, err = o.pinMaps(spec); err != nil {
		return nil, err
	}
	err = spec.LoadAndAssign(&w.objects, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: o.Pins}})
	if errors.Is(err, ebpf.ErrMapIncompatible) {
		return nil, fmt.Errorf("tables in %s are of another version (%w): 'dragnet-agent ripcord remove' removes them and the connections in them", o.Pins, err)
	}
	if err != nil {
		return nil, fmt.Errorf("load eBPF programs: %w", err)
	}
	return w, nil
}

// setConstants writes the constants of the programs.
func (o *Options) setConstants(spec *ebpf.CollectionSpec) error {
	flag := func(b bool) uint32 {
		if b {
			return 1
		}
		return 0
	}
	s := o.Settings
	for name, v := range map[string]uint32{
		"host_ifindex": uint32(o.Host), "net_ifindex": uint32(o.Net), "observe": flag(s.Observe),
		"fail_open": flag(s.FailOpen), "signed_pass": flag(s.SignedPass), "block_ms": s.BlockMS,
		"handshake_ms": s.HandshakeMS, "established_ms": s.EstablishedMS, "closed_ms": s.ClosedMS,
		"coarse_ms": s.CoarseMS, "coarse_resets": s.CoarseResets, "control_port": uint32(s.ControlPort),
		"test_clock": flag(o.testClock),
	} {
		if err := spec.Variables[name].Set(v); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	for name, room := range map[string]uint32{"conns4": o.Room[0], "conns6": o.Room[1], "half4": o.HalfOpen, "half6": o.HalfOpen} {
		if room > 0 {
			spec.Maps[name].MaxEntries = room
		}
	}
	return nil
}

// pinMaps marks the maps that outlive the process. Events and frames for the
// gateway do not: the next reader wants new ones.
func (o *Options) pinMaps(spec *ebpf.CollectionSpec) (resumed bool, err error) {
	if o.Pins == "" {
		return false, nil
	}
	if err := os.MkdirAll(o.Pins, 0o700); err != nil {
		return false, fmt.Errorf("folder for pinned tables: %w", err)
	}
	for name, m := range spec.Maps {
		switch {
		case name == "events" || name == "frames" || name[0] == '.':
			continue
		}
		m.Pinning = ebpf.PinByName
		old, err := ebpf.LoadPinnedMap(filepath.Join(o.Pins, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, fmt.Errorf("pinned table %s: %w", name, err)
		}
		resumed = true
		m.MaxEntries = old.MaxEntries()
		old.Close()
	}
	return resumed, nil
}

// Attach puts the programs at the ingress of both interfaces, or in place of
// those that an earlier process left there; no packet passes between.
func (w *Wire) Attach(host, net int) error {
	for side, at := range []struct {
		index   int
		program *ebpf.Program
	}{{host, w.objects.FromHost}, {net, w.objects.FromNet}} {
		l, err := w.attachProgram(sides[side], at.index, at.program)
		if err != nil {
			return fmt.Errorf("attach to interface %d: %w", at.index, err)
		}
		w.links = append(w.links, l)
	}
	return nil
}

func (w *Wire) attachProgram(name string, index int, program *ebpf.Program) (link.Link, error) {
	pin := filepath.Join(w.pins, name)
	if w.pins != "" {
		if l, err := replacePinned(pin, index, program); err != nil || l != nil {
			return l, err
		}
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: ebpf.AttachTCXIngress})
	if err != nil || w.pins == "" {
		return l, err
	}
	if err := l.Pin(pin); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// replacePinned puts a program into a pinned link; nil without error means that
// no link exists on this interface.
func replacePinned(pin string, index int, program *ebpf.Program) (link.Link, error) {
	l, err := link.LoadPinnedLink(pin, nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("pinned link %s: %w", pin, err)
	}
	if info, err := l.Info(); err == nil && info.TCX() != nil && info.TCX().Ifindex == uint32(index) {
		return l, l.Update(program)
	}
	// The interface is gone, or another one is meant.
	return nil, errors.Join(l.Unpin(), l.Close())
}

// Close ends this process's part. Pinned programs go on without it.
func (w *Wire) Close() error {
	var errs []error
	for _, l := range w.links {
		errs = append(errs, l.Close())
	}
	return errors.Join(append(errs, w.objects.Close())...)
}

// Remove takes programs and tables out of the kernel: no packet passes between
// the interfaces afterwards.
func Remove(pins string) error {
	entries, err := os.ReadDir(pins)
	if err != nil {
		return fmt.Errorf("pinned tables: %w", err)
	}
	var errs []error
	for _, e := range entries {
		errs = append(errs, os.Remove(filepath.Join(pins, e.Name())))
	}
	return errors.Join(append(errs, os.Remove(pins))...)
}

// ObjectHash is the SHA-256 of the embedded object, so that a binary can say
// what it loads.
func ObjectHash() string {
	h := sha256.Sum256(_WireBytes)
	return hex.EncodeToString(h[:])
}

// Open reads the pinned tables of programs that another process loaded.
func Open(pins string) (*Wire, error) {
	spec, err := loadWire()
	if err != nil {
		return nil, fmt.Errorf("read embedded eBPF object: %w", err)
	}
	w := &Wire{pins: pins, Resumed: true}
	for name, into := range map[string]**ebpf.Map{
		"conns4": &w.objects.Conns4, "conns6": &w.objects.Conns6, "half4": &w.objects.Half4, "half6": &w.objects.Half6, "sources": &w.objects.Sources, "stops": &w.objects.Stops,
		"counters": &w.objects.Counters, "talks": &w.objects.Talks,
	} {
		m, err := ebpf.LoadPinnedMap(filepath.Join(pins, name), nil)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("pinned table %s: %w; has 'dragnet-agent run ripcord' run here?", name, err), w.objects.Close())
		}
		*into = m
		if m.KeySize() != spec.Maps[name].KeySize || m.ValueSize() != spec.Maps[name].ValueSize {
			return nil, errors.Join(fmt.Errorf("pinned table %s is of another version of this program", name), w.objects.Close())
		}
	}
	return w, nil
}

// Attachable checks that the kernel has tcx links, by attaching a program that
// passes everything to the loopback interface, and detaching it.
func Attachable() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return err
	}
	pass, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type: ebpf.SchedCLS, Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}, License: "GPL",
	})
	if err != nil {
		return err
	}
	defer pass.Close()
	l, err := link.AttachTCX(link.TCXOptions{Interface: lo.Index, Program: pass, Attach: ebpf.AttachTCXIngress})
	if err != nil {
		return err
	}
	return l.Close()
}
