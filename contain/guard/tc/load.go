//go:build linux

package tc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"dragnet/daw"
)

// Options configure the programs.
type Options struct {
	// Pins is a folder in a BPF file system where the tables stay when the process
	// ends; empty pins nothing.
	Pins string
	// Stay leaves the programs at their interfaces, too, so that limits hold while
	// no agent runs.
	Stay bool

	testClock bool
}

// Programs are loaded programs and their tables.
type Programs struct {
	objects guardObjects
	o       Options
	lock    *os.File            // of the folder of pins
	links   map[int][]link.Link // by interface
	memory  map[*ebpf.Map]*ebpf.Memory
	limits  daw.Limits
}

// sizes are how many elements the tables take. Their order is that of guardMaps.
func sizes(l *daw.Limits) map[string]uint32 {
	last := &l.Tables[len(l.Tables)-1]
	cells, keys := last.Cells+last.Mask+1, max(1, last.Keys+last.Size)
	tiers := uint32(len(l.Tables) - 3)
	return map[string]uint32{
		"records": tiers * l.Records, "histories": tiers * l.Records, "spares": tiers * l.Records, "entries": tiers * l.Entries,
		"cells": cells, "keys": keys, "services": keys, "lines": max(1, l.Lines), "waitings": max(1, l.Waiting), "ports": 1 << 16 / 64,
	}
}

// Load loads the programs and gives them the state of an edge; Attach makes packets
// pass through them. Tables that an earlier process left pinned are taken over instead,
// which resumed says, if they have the same sizes.
func Load(o Options, edge *daw.Edge) (p *Programs, resumed bool, err error) {
	p = &Programs{o: o, memory: map[*ebpf.Map]*ebpf.Memory{}, links: map[int][]link.Link{}}
	if p.lock, err = o.lockPins(); err == nil {
		resumed, err = p.load(edge)
	}
	if err != nil {
		return nil, false, errors.Join(err, p.Close())
	}
	return p, resumed, nil
}

func (p *Programs) load(edge *daw.Edge) (resumed bool, err error) {
	spec, err := loadGuard()
	if err != nil {
		return false, fmt.Errorf("read embedded eBPF object: %w", err)
	}
	limits := edge.MakeLimits()
	for name, n := range sizes(&limits) {
		spec.Maps[name].MaxEntries = n
	}
	if p.o.testClock {
		if err := spec.Variables["test_clock"].Set(uint32(1)); err != nil {
			return false, err
		}
	}
	if resumed, err = p.o.pinMaps(spec); err != nil {
		return false, err
	}
	if err := spec.LoadAndAssign(&p.objects, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: p.o.Pins}}); err != nil {
		return false, fmt.Errorf("load eBPF programs: %w", err)
	}
	for _, m := range p.mapped() {
		if p.memory[m], err = m.Memory(); err != nil {
			return false, fmt.Errorf("map %s: %w", m, err)
		}
	}
	if resumed {
		old, err := readStruct[daw.Limits](p.memory[p.objects.Settings])
		if err != nil {
			return false, err
		}
		for i := range limits.Tables {
			limits.Tables[i].Seed = old.Tables[i].Seed
		}
		limits.Seed = old.Seed
		limits.Acting, limits.Blocks, limits.Bindings, limits.BoundOnly = old.Acting, old.Blocks, old.Bindings, old.BoundOnly
		limits.Offset = old.Offset
		p.limits = limits
		return true, p.writeLimits()
	}
	t := edge.Export()
	p.limits = t.Limits
	return false, errors.Join(p.writeTables(t), p.writeLimits())
}

// mapped are the maps in memory that is shared with the kernel.
func (p *Programs) mapped() []*ebpf.Map {
	o := &p.objects
	return []*ebpf.Map{o.Edges, o.Settings, o.Records, o.Histories, o.Spares, o.Entries, o.Cells, o.Keys, o.Services, o.Lines, o.Waitings, o.Ports}
}

// unpinned are the maps that each process has for itself: its events, and constants.
func unpinned(name string) bool {
	return name == "events" || name == "counters" || name == "scratches" || name[0] == '.'
}

// pinMaps marks the maps that outlive the process. If those that an earlier one left
// differ from what is wanted, they are removed.
func (o *Options) pinMaps(spec *ebpf.CollectionSpec) (resumed bool, err error) {
	if o.Pins == "" {
		return false, nil
	}
	there, fits := 0, true
	for name, m := range spec.Maps {
		if unpinned(name) {
			continue
		}
		m.Pinning = ebpf.PinByName
		old, err := ebpf.LoadPinnedMap(filepath.Join(o.Pins, name), nil)
		if errors.Is(err, fs.ErrNotExist) {
			fits = false
			continue
		}
		if err != nil {
			return false, fmt.Errorf("pinned table %s: %w", name, err)
		}
		there++
		fits = fits && m.Compatible(old) == nil
		old.Close()
	}
	if there > 0 && !fits {
		return false, Remove(o.Pins)
	}
	return fits, nil
}

// lockPins makes the folder, and takes it for this process: two that use the same
// tables would undo each other's settings.
func (o *Options) lockPins() (*os.File, error) {
	if o.Pins == "" {
		return nil, nil
	}
	if err := os.MkdirAll(o.Pins, 0o700); err != nil {
		return nil, fmt.Errorf("folder for pinned tables: %w", err)
	}
	f, err := os.Open(o.Pins)
	if err != nil {
		return nil, fmt.Errorf("folder for pinned tables: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = fmt.Errorf("another guard uses the tables in %s: end it, or name another folder in 'kernel.pins'", o.Pins)
		}
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Remove removes pinned tables, and pinned programs from their interfaces. Other files
// in the folder stay.
func Remove(pins string) error {
	spec, err := loadGuard()
	if err != nil {
		return err
	}
	all, err := os.ReadDir(pins)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range all {
		name := f.Name()
		if spec.Maps[name] != nil || strings.HasPrefix(name, pinned+toInside) || strings.HasPrefix(name, pinned+fromInside) {
			err = errors.Join(err, os.Remove(filepath.Join(pins, name)))
		}
	}
	return err
}

// The names of the programs, and what pins of their links begin with.
const (
	pinned     = "link_"
	toInside   = "to_inside"
	fromInside = "from_inside"
)

// Attach puts the programs at the interfaces toward the customer network, or in place
// of those that an earlier process left there; no packet passes between. It takes them
// from others.
func (p *Programs) Attach(interfaces ...int) error {
	want := map[uint32]uint32{}
	for _, i := range interfaces {
		want[uint32(i)] = 1
	}
	if err := replaceMap(p.objects.Insides, want); err != nil {
		return err
	}
	for i := range p.links {
		if want[uint32(i)] == 0 {
			if err := p.detachFrom(i); err != nil {
				return fmt.Errorf("detach from interface %d: %w", i, err)
			}
		}
	}
	for _, i := range interfaces {
		if p.links[i] != nil {
			continue
		}
		if err := p.attachBoth(i); err != nil {
			return errors.Join(fmt.Errorf("attach to interface %d: %w", i, err), p.detachFrom(i))
		}
	}
	return nil
}

func (p *Programs) attachBoth(index int) error {
	if err := CheckLink(index); err != nil {
		return err
	}
	for _, at := range []struct {
		name    string
		program *ebpf.Program
		where   ebpf.AttachType
	}{{toInside, p.objects.ToInside, ebpf.AttachTCXEgress}, {fromInside, p.objects.FromInside, ebpf.AttachTCXIngress}} {
		l, err := p.attachProgram(fmt.Sprintf("%s%s_%d", pinned, at.name, index), index, at.program, at.where)
		if err != nil {
			return err
		}
		p.links[index] = append(p.links[index], l)
	}
	return nil
}

func (p *Programs) attachProgram(name string, index int, program *ebpf.Program, where ebpf.AttachType) (link.Link, error) {
	pin := filepath.Join(p.o.Pins, name)
	if p.o.Pins != "" {
		if l, err := link.LoadPinnedLink(pin, nil); err == nil {
			if l.Update(program) == nil {
				if !p.o.Stay {
					err = l.Unpin()
				}
				return l, err
			}
			// Of an interface that is gone.
			err := errors.Join(l.Unpin(), l.Close())
			if err != nil {
				return nil, err
			}
		}
	}
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: program, Attach: where})
	if err != nil || !p.o.Stay {
		return l, err
	}
	if err := l.Pin(pin); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// Detach takes the programs from their interfaces.
func (p *Programs) Detach() error {
	var err error
	for i := range p.links {
		err = errors.Join(err, p.detachFrom(i))
	}
	return err
}

func (p *Programs) detachFrom(index int) error {
	var err error
	for _, l := range p.links[index] {
		if p.o.Stay {
			err = errors.Join(err, l.Unpin())
		}
		err = errors.Join(err, l.Close())
	}
	delete(p.links, index)
	return err
}

// Close releases the programs. Those that stay go on.
func (p *Programs) Close() error {
	var err error
	for _, all := range p.links {
		for _, l := range all {
			err = errors.Join(err, l.Close())
		}
	}
	err = errors.Join(err, p.objects.Close())
	if p.lock != nil {
		err = errors.Join(err, p.lock.Close())
		p.lock = nil
	}
	return err
}

// bytesOf is the memory of values without pointers.
func bytesOf[T any](all []T) []byte {
	if len(all) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(all))), len(all)*int(unsafe.Sizeof(all[0])))
}

func writeAt[T any](m *ebpf.Memory, at uint32, all []T) error {
	if len(all) == 0 {
		return nil
	}
	_, err := m.WriteAt(bytesOf(all), int64(at)*int64(unsafe.Sizeof(all[0])))
	return err
}

func readAt[T any](m *ebpf.Memory, at uint32, all []T) error {
	if len(all) == 0 {
		return nil
	}
	_, err := m.ReadAt(bytesOf(all), int64(at)*int64(unsafe.Sizeof(all[0])))
	return err
}

func readStruct[T any](m *ebpf.Memory) (T, error) {
	one := make([]T, 1)
	err := readAt(m, 0, one)
	return one[0], err
}
