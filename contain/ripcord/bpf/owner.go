//go:build linux

package bpf

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
)

// CheckUnowned checks that no gateway with tables elsewhere has its programs on an
// interface: they would judge the packets before those of this one, or after.
func CheckUnowned(pins string, interfaces ...int) error {
	for _, index := range interfaces {
		attached, err := link.QueryPrograms(link.QueryOptions{Target: index, Attach: ebpf.AttachTCXIngress})
		if err != nil {
			return fmt.Errorf("programs on interface %d: %w", index, err)
		}
		for _, p := range attached.Programs {
			if err := checkUnowned(pins, p); err != nil {
				return fmt.Errorf("interface %d: %w", index, err)
			}
		}
	}
	return nil
}

func checkUnowned(pins string, attached link.AttachedProgram) error {
	program, err := ebpf.NewProgramFromID(attached.ID)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // detached meanwhile
	}
	if err != nil {
		return err
	}
	defer program.Close()
	info, err := program.Info()
	if err != nil {
		return err
	}
	for _, name := range sides {
		if info.Name != name {
			continue
		}
		id, _ := attached.LinkID()
		if own, ok := pinnedLink(filepath.Join(pins, name)); !ok || own.ID != id {
			return fmt.Errorf("the programs of another gateway are attached, whose tables are not in %s: stop it, and 'dragnet-agent ripcord remove' with its configuration", pins)
		}
	}
	return nil
}

// pinnedLink describes a pinned link; ok is false if it does not exist.
func pinnedLink(pin string) (info *link.Info, ok bool) {
	l, err := link.LoadPinnedLink(pin, nil)
	if err != nil {
		return nil, false
	}
	defer l.Close()
	info, err = l.Info()
	return info, err == nil
}

// Attached reports whether the programs of the pinned links are on interfaces. They
// are not after an interface was removed.
func Attached(pins string) bool {
	for _, name := range sides {
		info, ok := pinnedLink(filepath.Join(pins, name))
		if !ok || info.TCX() == nil || info.TCX().Ifindex == 0 {
			return false
		}
	}
	return true
}
