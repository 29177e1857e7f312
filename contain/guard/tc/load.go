//go:build linux

package tc

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

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
	links   []link.Link
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
	spec, err := loadGuard()
	if err != nil {
		return nil, false, fmt.Errorf("read embedded eBPF object: %w", err)
	}
	limits := edge.MakeLimits()
	for name, n := range sizes(&limits) {
		spec.Maps[name].MaxEntries = n
	}
	if o.testClock {
		if err := spec.Variables["test_clock"].Set(uint32(1)); err != nil {
			return nil, false, err
		}
	}
	p = &Programs{o: o, memory: map[*ebpf.Map]*ebpf.Memory{}}
	if resumed, err = o.pinMaps(spec); err != nil {
		return nil, false, err
	}
	if err := spec.LoadAndAssign(&p.objects, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: o.Pins}}); err != nil {
		return nil, false, fmt.Errorf("load eBPF programs: %w", err)
	}
	for _, m := range p.mapped() {
		if p.memory[m], err = m.Memory(); err != nil {
			return nil, false, errors.Join(fmt.Errorf("map %s: %w", m, err), p.Close())
		}
	}
	if resumed {
		old, err := readStruct[daw.Limits](p.memory[p.objects.Settings])
		if err != nil {
			return nil, false, errors.Join(err, p.Close())
		}
		for i := range limits.Tables {
			limits.Tables[i].Seed = old.Tables[i].Seed
		}
		limits.Seed = old.Seed
		limits.Acting, limits.Blocks, limits.Bindings, limits.BoundOnly = old.Acting, old.Blocks, old.Bindings, old.BoundOnly
		limits.Offset = old.Offset
		p.limits = limits
		return p, true, p.writeLimits()
	}
	t := edge.Export()
	p.limits = t.Limits
	return p, false, errors.Join(p.writeTables(t), p.writeLimits())
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
	if err := os.MkdirAll(o.Pins, 0o700); err != nil {
		return false, fmt.Errorf("folder for pinned tables: %w", err)
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

// Remove removes pinned tables, and pinned programs from their interfaces.
func Remove(pins string) error {
	all, err := os.ReadDir(pins)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, f := range all {
		err = errors.Join(err, os.Remove(filepath.Join(pins, f.Name())))
	}
	return err
}

// Attach puts the programs at the interfaces toward the customer network, or in place
// of those that an earlier process left there; no packet passes between.
func (p *Programs) Attach(interfaces ...int) error {
	want := map[uint32]uint32{}
	for _, i := range interfaces {
		want[uint32(i)] = 1
	}
	if err := replaceMap(p.objects.Insides, want); err != nil {
		return err
	}
	for _, i := range interfaces {
		if err := p.attachBoth(i); err != nil {
			return fmt.Errorf("attach to interface %d: %w", i, err)
		}
	}
	return nil
}

func (p *Programs) attachBoth(index int) error {
	for _, at := range []struct {
		name    string
		program *ebpf.Program
		where   ebpf.AttachType
	}{{"to_inside", p.objects.ToInside, ebpf.AttachTCXEgress}, {"from_inside", p.objects.FromInside, ebpf.AttachTCXIngress}} {
		l, err := p.attachProgram(fmt.Sprintf("link_%s_%d", at.name, index), index, at.program, at.where)
		if err != nil {
			return err
		}
		p.links = append(p.links, l)
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
	for _, l := range p.links {
		if p.o.Stay {
			err = errors.Join(err, l.Unpin())
		}
		err = errors.Join(err, l.Close())
	}
	p.links = nil
	return err
}

// Close releases the programs. Those that stay go on.
func (p *Programs) Close() error {
	var err error
	for _, l := range p.links {
		err = errors.Join(err, l.Close())
	}
	return errors.Join(err, p.objects.Close())
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
